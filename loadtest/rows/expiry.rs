//! Many sessions whose time runs out together, on two nodes: each expires once, and neither heartbeats nor pushes wait for it. What
//! a delay is like meanwhile stands beside the same delay right before.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    bench::Bench,
    fleet::orders::{Order, Report},
    kit::{
        stores::{Database, load_postgres},
        tokens::{Role, SUBJECT_PREFIX},
    },
    table::{Line, plain},
    worker::Fleet,
};

const ROW: &str = "expiry";
/// At most so many mitras beat and so many watchers watch; the sessions are spread over the mitras.
const MOST_SOCKETS: usize = 1_000;
const BEAT_SECONDS: f64 = 1.0;
/// Between the statement that sets the ends and the first of them: every node has looked for the next end by then.
const LEAD: Duration = Duration::from_secs(3);
/// What is due must have expired by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// After the last expiry, for one that comes twice.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Flips of one look at the time; an odd number, so that the commander ends offline.
const FLIPS: usize = 5;
const NO_LIMIT: &[(&str, &str)] =
    &[("HADIR_LIMIT_MESSAGES_PER_SECOND", "1000"), ("HADIR_LIMIT_BYTES_PER_SECOND", "100000000")];

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let (sessions, spread) = (bench.sizes.expiring, Duration::from_secs_f64(bench.sizes.expiring_seconds));
    let sockets = bench.sizes.sockets.min(MOST_SOCKETS);
    let database = prepared(bench, sessions, sockets as u64).await?;
    let nodes = [bench.node(&database, 0, NO_LIMIT).await?, bench.node(&database, 0, NO_LIMIT).await?];
    let (mut mitras, mut watchers) = (Fleet::start(sockets)?, Fleet::start(sockets)?);
    for (half, node) in nodes.iter().enumerate() {
        let (first, last) = (half * sockets / 2, (half + 1) * sockets / 2);
        mitras.dial(&node.mitras(first as u64, last - first, true)).await?;
        watchers.dial(&node.watchers((MOST_SOCKETS + 1 + first) as u64, last - first)).await?;
    }
    let flip = Order::Flip {
        address: nodes[0].public,
        path: "/ws/mitra".to_owned(),
        role: Some(Role::Mitra),
        subject: sockets as u64,
        rounds: FLIPS,
    };
    let mut load = Load { mitras: &mut mitras, watchers: &mut watchers, flip };

    let began = Instant::now();
    let before = load.delays(async || Ok(began.elapsed() >= spread)).await?;
    database.run(ends(sessions, spread)).await?;
    let first_end = Instant::now() + LEAD;
    sleep_until(first_end).await;
    let left = async || {
        database
            .number("SELECT count(*) FROM chat_sessions WHERE expires_at < now() + '1 hour' AND status = 'active'")
            .await
    };
    let meanwhile = load.delays(async || Ok(left().await? == 0 || first_end.elapsed() > PATIENCE)).await?;
    let took = first_end.elapsed().as_secs_f64();
    sleep(AFTERWARDS).await;
    let rows = database.number("SELECT count(*) FROM chat_sessions WHERE status = 'expired'").await?;
    let events = database.number("SELECT count(*) FROM presence_events WHERE kind = 'session_expired'").await?;
    ensure!(
        (rows, events) == (sessions as i64, sessions as i64),
        "of {sessions} sessions {rows} expired, and {events} events say so"
    );
    mitras.tell(&Order::HangUp).await?;
    watchers.tell(&Order::HangUp).await?;
    for node in nodes {
        node.stop().await?;
    }

    let what = format!("{sessions} sessions whose time runs out within {} s, two nodes", plain(spread.as_secs_f64()));
    let done =
        Line::alone(ROW, format!("{what}: from the first end to the last expiry, as the clients saw it"), "s", took)
            .note(format!("{rows} rows, {events} events: each once"));
    let beats = format!("ping to pong of {sockets} beating mitras meanwhile");
    let pushes = format!("any-flip meanwhile: from `ack` to each of {sockets} watchers");
    let mut lines = vec![done];
    for (what, delay) in
        [(beats, (|delays| &delays.beats) as fn(&Delays) -> &Report), (pushes, |delays| &delays.pushes)]
    {
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let of = |delays: &Delays| delay(delays).each.ms(share);
            lines.push(
                Line::alone(ROW, format!("{what}, {name}"), "ms", of(&meanwhile)).beside("right before", of(&before)),
            );
        }
    }
    Ok(lines)
}

/// The clients that are timed.
struct Load<'a> {
    mitras: &'a mut Fleet,
    watchers: &'a mut Fleet,
    flip: Order,
}

/// How long things took in a while.
struct Delays {
    beats: Report,
    pushes: Report,
}

impl Load<'_> {
    async fn delays(&mut self, over: impl AsyncFn() -> Result<bool>) -> Result<Delays> {
        let beat = Order::Beat { every_seconds: BEAT_SECONDS };
        // What was timed before is told now, and left out.
        self.mitras.tell(&beat).await?;
        let mut pushes = Report::default();
        loop {
            pushes.join(self.watchers.tell(&self.flip).await?)?;
            if over().await? {
                break;
            }
        }
        Ok(Delays { beats: self.mitras.tell(&beat).await?, pushes })
    }
}

/// Mitras who stay busy whatever expires, so that one more, without sessions, decides whether anybody is available.
async fn prepared(bench: &Bench, sessions: u64, mitras: u64) -> Result<Database> {
    let database = bench.emptied().await?;
    bench.migrate(&database).await?;
    load_postgres(&database, mitras + 1, false).await?;
    let load = format!(
        "UPDATE mitras SET max_sessions = 1000;
         INSERT INTO customers (id) VALUES ('{SUBJECT_PREFIX}ffffffffffff');
         INSERT INTO chat_sessions (id, customer_id, mitra_id, status, expires_at)
         SELECT {session}, '{SUBJECT_PREFIX}ffffffffffff', {mitra}, 'active', now() + interval '1 day'
         FROM generate_series(0, {last}) AS n;
         UPDATE mitras SET max_sessions = 1;
         ANALYZE;",
        session = id("n"),
        mitra = id(&format!("n % {mitras}")),
        last = sessions + mitras - 1,
    );
    database.run(load).await?;
    Ok(database)
}

/// The ends of sessions 0 to `sessions`, one after the other.
fn ends(sessions: u64, spread: Duration) -> String {
    format!(
        "UPDATE chat_sessions c SET expires_at = now() + interval '{} ms' + n * interval '{} ms'
         FROM generate_series(0, {}) AS n WHERE c.id = {}",
        LEAD.as_millis(),
        spread.as_secs_f64() * 1e3 / sessions as f64,
        sessions - 1,
        id("n"),
    )
}

/// The number of a subject as an id, in SQL.
fn id(number: &str) -> String {
    format!("('{SUBJECT_PREFIX}' || lpad(to_hex(({number})::bigint), 12, '0'))::uuid")
}

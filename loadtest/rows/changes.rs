//! Many changes a second before many watchers: each is sent a count once per window at most, and in the end the right one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    bench::Bench,
    fleet::orders::Order,
    kit::{
        distribution::Distribution,
        socket::{self, Dial},
        tokens::Mint,
    },
    table::{Goal, Line},
    worker::Fleet,
};

const ROW: &str = "changes";
/// Mitras that go online and offline in turn, ten commands a second each; one more stays, so that somebody always is there.
const CHANGERS: u64 = 50;
const CADENCE: Duration = Duration::from_millis(100);
/// Watchers have other numbers.
const FIRST_WATCHER: u64 = 1_000;
/// `SNAPSHOT_WINDOW_MS` is 250.
const WINDOWS_A_SECOND: f64 = 4.0;
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let sockets = bench.sizes.sockets;
    let seconds = bench.sizes.burst_seconds * 3.0;
    let server = bench
        .clustered(
            CHANGERS as usize + 1,
            &[("HADIR_LIMIT_MESSAGES_PER_SECOND", "1000"), ("HADIR_LIMIT_BYTES_PER_SECOND", "100000000")],
        )
        .await?;
    let mut fleet = Fleet::start(sockets)?;
    fleet.dial(&server.watchers(FIRST_WATCHER, sockets)).await?;

    let (done, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut changers = JoinSet::new();
    for number in 0..=CHANGERS {
        let dial = Dial { until: Some("status".to_owned()), ..server.mitras(number, 1, true) };
        let (done, acknowledged) = (Arc::clone(&done), Arc::clone(&acknowledged));
        changers.spawn(async move { change(&dial, number, &done, &acknowledged).await });
    }
    // Everybody has begun.
    sleep(Duration::from_secs(1)).await;
    let before = server.usage.rss()?;
    let changes = acknowledged.load(Relaxed);
    let began = Instant::now();
    let report = fleet.tell(&Order::Watch { seconds }).await?;
    let rate = (acknowledged.load(Relaxed) - changes) as f64 / began.elapsed().as_secs_f64();
    let grown = server.usage.rss()?.saturating_sub(before);
    done.store(true, Relaxed);
    let mut waits = Distribution::new();
    while let Some(ended) = changers.join_next().await {
        waits.add(&ended??)?;
    }
    converged(&server).await?;
    fleet.tell(&Order::HangUp).await?;
    server.stop().await?;

    let what = format!("frames a second to the one of {sockets} watchers who was sent the most");
    // One more than whole windows fit into any stretch of time.
    let most = (report.most.saturating_sub(1)) as f64 / seconds;
    let mean = report.done as f64 / sockets as f64 / seconds;
    Ok(vec![
        Line::alone(ROW, what, "/s", most)
            .beside("changes acknowledged", rate)
            .goal(Goal::AtMost(WINDOWS_A_SECOND))
            .note(format!("{mean:.2} on average; commands p50 {:.0} ms, p99 {:.0} ms", waits.ms(0.5), waits.ms(0.99))),
        Line::alone(ROW, "memory of the server more after it than before", "bytes", grown as f64),
    ])
}

/// Goes online and offline until all is done; the last word is online.
async fn change(dial: &Dial, number: u64, done: &AtomicBool, acknowledged: &AtomicU64) -> Result<Distribution> {
    let mut waits = Distribution::new();
    let (mut socket, _) = socket::open(dial, &Mint::new(), number).await?;
    let mut pace = interval(CADENCE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut words = ["offline", "online"].into_iter().cycle();
    while !done.load(Relaxed) {
        if number == CHANGERS {
            pace.tick().await;
            continue;
        }
        for word in words.by_ref().take(2) {
            let began = Instant::now();
            socket::command(&mut socket, word).await?;
            waits.record(began.elapsed());
            acknowledged.fetch_add(1, Relaxed);
            pace.tick().await;
        }
    }
    socket::leave(&mut socket).await;
    Ok(waits)
}

/// When the changes are over, the count is that of all who are online.
async fn converged(server: &crate::kit::server::Server) -> Result<()> {
    let began = Instant::now();
    loop {
        let counts = server.call(reqwest::Method::GET, "/internal/counts").await?;
        if counts["counts"]["available"] == CHANGERS + 1 {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "the count does not come right: {counts}");
        sleep(Duration::from_millis(50)).await;
    }
}

//! Assignment is law while Valkey comes and goes: loads are exact, nobody gets more sessions than they may have.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use rand::RngExt;
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::{sync::Mutex, task::JoinSet, time::sleep};
use uuid::Uuid;

use crate::{http::Door, kit::tokens::subject, outcome::Outcome, proxy::Traffic, stage::Stage, trial::Trial};

/// Mitras that are fought for, each with room for so many sessions.
const CONTESTED: u64 = 20;
const CAPACITY: u64 = 3;
/// The one that everybody wants at the same moment.
const WANTED: u64 = CONTESTED;

/// What the writers share.
#[derive(Default)]
struct Work {
    done: AtomicBool,
    accepted: AtomicU64,
    refused: AtomicU64,
    by_sql: AtomicU64,
}

pub async fn valkey_cut(stage: &mut Stage) -> Result<Outcome> {
    let writers = if stage.short { 16 } else { 64 };
    let work = Arc::new(Work::default());
    let tasks = Mutex::new(JoinSet::new());
    let trial = Trial {
        answers: [None, None],
        // Whoever is full is not available.
        count_holds: false,
        silent_within: None,
        pong_within: Duration::from_millis(500),
        answer_within: Duration::from_secs(3),
        ..Trial::of(
            "sessions-valkey-cut",
            "sessions begin and end while Valkey comes and goes",
            "64 writers by REST and SQL, proxies cut and open",
        )
    };
    let mut winners = 0;
    let mut broken = Vec::new();
    let mut outcome = trial
        .run(
            stage,
            async |stage| {
                let ids: Vec<String> = (0..=WANTED).map(|number| format!("'{}'", subject(number))).collect();
                stage
                    .sql(format!("UPDATE mitras SET max_sessions = {CAPACITY} WHERE id IN ({})", ids.join(", ")))
                    .await?;
                for writer in 0..writers {
                    let (doors, url, work) = (stage.doors(), stage.database.url.clone(), Arc::clone(&work));
                    tasks.lock().await.spawn(async move {
                        if writer % 4 == 0 {
                            end_by_sql(&url, &work).await
                        } else {
                            accept_and_end(&doors, &work).await
                        }
                    });
                }
                mirror_comes_and_goes(stage).await;
                winners = accepts_at_once(&stage.doors()).await?;
                stage.nodes.iter().for_each(|node| node.mirror.set(Traffic::Flows));
                Ok(())
            },
            async |stage| {
                work.done.store(true, Relaxed);
                while let Some(ended) = tasks.lock().await.join_next().await {
                    ended??;
                }
                broken = unlawful(&stage.database.url).await?;
                stage
                    .sql("UPDATE chat_sessions SET status = 'ended' WHERE status IN ('active', 'pending_payment')")
                    .await
            },
        )
        .await?;
    outcome.broken.extend(broken);
    outcome.check(winners == CAPACITY, || format!("{winners} of 200 accepts at once succeeded, {CAPACITY} had to"));
    let log = stage.postgres.as_ref().map(|postgres| postgres.server.log()).unwrap_or_default();
    outcome.check(!log.contains("deadlock"), || "PostgreSQL found a deadlock".to_owned());
    outcome.note(format!(
        "{} accepts, {} refused for want of room, {} sessions ended by plain SQL; 200 accepts at once for {CAPACITY} places: {winners}",
        work.accepted.load(Relaxed),
        work.refused.load(Relaxed),
        work.by_sql.load(Relaxed),
    ));
    outcome.check(work.accepted.load(Relaxed) > 50, || "hardly a session was accepted".to_owned());
    Ok(outcome)
}

/// Two outages of Valkey, and the beginning of a third.
async fn mirror_comes_and_goes(stage: &Stage) {
    for traffic in [Traffic::Cut, Traffic::Flows, Traffic::Cut, Traffic::Flows] {
        stage.nodes.iter().for_each(|node| node.mirror.set(traffic));
        sleep(Duration::from_secs(2)).await;
    }
    stage.nodes.iter().for_each(|node| node.mirror.set(Traffic::Cut));
}

/// So many milliseconds, drawn at random.
fn some(milliseconds: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rand::rng().random_range(milliseconds))
}

async fn create(door: &Door) -> Result<String> {
    let reply = door.ask(Method::POST, "/internal/sessions", Some(json!({ "customer_id": Uuid::new_v4() }))).await;
    ensure!(reply.is_good(), "a session cannot be created: {reply:?}");
    Ok(reply.body["session_id"].as_str().or(reply.body["id"].as_str()).unwrap_or_default().to_owned())
}

async fn accept(door: &Door, session: &str, mitra: u64) -> Result<bool> {
    let body = json!({ "mitra_id": subject(mitra), "payment": "paid", "duration_seconds": 600 });
    let reply = door.ask(Method::POST, &format!("/internal/sessions/{session}/accept"), Some(body)).await;
    match reply.status {
        200 => Ok(true),
        409 if reply.body["code"] == "capacity_exceeded" => Ok(false),
        // A row that somebody holds for longer than the deadline: refused, and nothing was done.
        503 => Ok(false),
        _ => anyhow::bail!("an accept is answered {reply:?}"),
    }
}

async fn accept_and_end(doors: &[Door], work: &Work) -> Result<()> {
    while !work.done.load(Relaxed) {
        let (node, mitra) = (rand::rng().random_range(0..doors.len()), rand::rng().random_range(0..CONTESTED));
        let Ok(session) = create(&doors[node]).await else { continue };
        if accept(&doors[node], &session, mitra).await? {
            work.accepted.fetch_add(1, Relaxed);
            sleep(some(20..400)).await;
            let other = &doors[1 - node];
            let _over = other.ask(Method::POST, &format!("/internal/sessions/{session}/end"), None).await;
        } else {
            work.refused.fetch_add(1, Relaxed);
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Another program ends sessions, any of them but those of the one that everybody wants.
async fn end_by_sql(url: &str, work: &Work) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    while !work.done.load(Relaxed) {
        let ended = sqlx::query(
            "UPDATE chat_sessions SET status = 'ended' WHERE id IN (SELECT id FROM chat_sessions
             WHERE status = 'active' AND mitra_id <> $1 ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)",
        )
        .bind(subject(WANTED))
        .execute(&mut connection)
        .await?;
        work.by_sql.fetch_add(ended.rows_affected(), Relaxed);
        sleep(some(20..200)).await;
    }
    Ok(connection.close().await?)
}

/// How many of 200 accepts for one mitra succeed.
async fn accepts_at_once(doors: &[Door]) -> Result<u64> {
    let mut sessions = Vec::new();
    for number in 0..200 {
        sessions.push(create(&doors[number % 2]).await?);
    }
    let mut accepts = JoinSet::new();
    for (number, session) in sessions.into_iter().enumerate() {
        let door = doors[number % 2].clone();
        accepts.spawn(async move { accept(&door, &session, WANTED).await });
    }
    let mut winners = 0;
    while let Some(won) = accepts.join_next().await {
        winners += u64::from(won??);
    }
    Ok(winners)
}

/// Loads that are not the true count, and mitras with more sessions than they may have, in words.
async fn unlawful(url: &str) -> Result<Vec<String>> {
    let mut connection = PgConnection::connect(url).await?;
    let statement = format!(
        "SELECT s.mitra_id::text AS id, s.active_sessions, count(c.id) AS true_count
         FROM mitra_status s LEFT JOIN chat_sessions c ON c.mitra_id = s.mitra_id AND c.status IN ('active', 'pending_payment')
         GROUP BY s.mitra_id, s.active_sessions
         HAVING s.active_sessions <> count(c.id) OR count(c.id) > {CAPACITY}"
    );
    let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut connection).await?;
    connection.close().await?;
    rows.iter()
        .map(|row| {
            let (id, counted): (String, i32) = (row.try_get("id")?, row.try_get("active_sessions")?);
            let count: i64 = row.try_get("true_count")?;
            Ok(format!("mitra {id} has {count} sessions, {counted} are counted, {CAPACITY} are allowed"))
        })
        .collect()
}

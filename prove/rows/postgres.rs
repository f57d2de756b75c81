//! Faults of PostgreSQL, alone and together with Valkey.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::Mutex;

use crate::{
    kit::tokens::subject,
    outcome::Outcome,
    proxy::Traffic,
    stage::{SUSPECT, Stage},
    trial::{Deactivated, Detect, STALE, Trial},
};

pub async fn stopped(stage: &mut Stage) -> Result<Outcome> {
    Trial::store_away("postgres-stopped", "PostgreSQL stopped", "as `pg_ctl stop -m fast`")
        .run(
            stage,
            async |stage| stage.on_postgres(|server| server.stop()).await,
            async |stage| stage.on_postgres(|server| server.start()).await,
        )
        .await
}

pub async fn killed(stage: &mut Stage) -> Result<Outcome> {
    Trial::store_away("postgres-killed", "PostgreSQL killed", "`kill -9`")
        .run(
            stage,
            async |stage| stage.on_postgres(|server| server.kill()).await,
            async |stage| stage.on_postgres(|server| server.start()).await,
        )
        .await
}

pub async fn frozen(stage: &mut Stage) -> Result<Outcome> {
    Trial::store_away("postgres-frozen", "PostgreSQL frozen, thawed", "`SIGSTOP`, `SIGCONT`")
        .run(
            stage,
            async |stage| stage.on_postgres(|server| server.freeze()).await,
            async |stage| stage.on_postgres(|server| server.thaw()).await,
        )
        .await
}

pub async fn read_only(stage: &mut Stage) -> Result<Outcome> {
    Trial::store_away("postgres-readonly", "PostgreSQL read-only", "`default_transaction_read_only = on`")
        .run(
            stage,
            async |stage| stage.on_postgres(|server| server.set("default_transaction_read_only", "on")).await,
            async |stage| stage.on_postgres(|server| server.set("default_transaction_read_only", "off")).await,
        )
        .await
}

/// Commands for those whose rows are held are refused in time; for all others everything goes on.
pub async fn row_locked(stage: &mut Stage) -> Result<Outcome> {
    let holder = Mutex::new(Some(PgConnection::connect(&stage.database.url).await?));
    let numbers = (0..10).chain([stage.spare()]);
    let ids: Vec<String> = numbers.map(|number| format!("'{}'", subject(number))).collect();
    let hold = format!(
        "BEGIN; SELECT 1 FROM mitras WHERE id IN ({ids}) FOR UPDATE;
         SELECT 1 FROM mitra_status WHERE mitra_id IN ({ids}) FOR UPDATE;
         SELECT 1 FROM mitra_heartbeats WHERE mitra_id IN ({ids}) FOR UPDATE;",
        ids = ids.join(", "),
    );
    let trial = Trial {
        deactivated: Deactivated::At(0),
        ..Trial::store_away("postgres-row-locked", "rows of ten mitras locked", "a transaction that holds them")
    };
    trial
        .run(
            stage,
            async |_| {
                if let Some(holder) = holder.lock().await.as_mut() {
                    sqlx::raw_sql(AssertSqlSafe(hold)).execute(holder).await?;
                }
                Ok(())
            },
            async |_| {
                drop(holder.lock().await.take());
                Ok(())
            },
        )
        .await
}

/// Commands at that node are refused; its sockets live, and hear of what the other one does.
pub async fn one_node(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        deactivated: Deactivated::At(1),
        ..Trial::store_away("one-node-no-postgres", "one of two nodes loses PostgreSQL", "its proxy cuts")
    };
    trial
        .run(
            stage,
            async |stage| {
                stage.nodes[0].store.set(Traffic::Cut);
                Ok(())
            },
            async |stage| {
                stage.nodes[0].store.set(Traffic::Flows);
                Ok(())
            },
        )
        .await
}

fn both_away(row: &'static str, fault: &'static str, injected: &'static str) -> Trial {
    Trial {
        detect: Detect::Mode("stale", &[0, 1]),
        detect_within: Duration::from_secs(6),
        answers: [Some(STALE), Some(STALE)],
        deactivated: Deactivated::Not,
        // Until both are known to be away the store's last answer serves.
        silent_within: Some(SUSPECT + Duration::from_secs(4)),
        // An answer of the store is waited for as long as its deadlines say.
        answer_within: Duration::from_secs(5),
        // Nobody knows who is available.
        answers_hold: false,
        // Three of them are the nodes' to tell the store who was heard meanwhile.
        truth_within: Duration::from_secs(8),
        ..Trial::of(row, fault, injected)
    }
}

pub async fn both_killed(stage: &mut Stage) -> Result<Outcome> {
    both_away("both-killed", "Valkey and PostgreSQL killed", "`kill -9` of both")
        .run(
            stage,
            async |stage| {
                stage.valkey.kill().await?;
                stage.on_postgres(|server| server.kill()).await
            },
            async |stage| {
                stage.on_postgres(|server| server.start()).await?;
                stage.valkey.restart(&[]).await
            },
        )
        .await
}

pub async fn both_frozen(stage: &mut Stage) -> Result<Outcome> {
    both_away("both-frozen", "Valkey and PostgreSQL frozen", "`SIGSTOP` of both")
        .run(
            stage,
            async |stage| {
                stage.valkey.signal(Signal::STOP)?;
                stage.on_postgres(|server| server.freeze()).await
            },
            async |stage| {
                stage.on_postgres(|server| server.thaw()).await?;
                stage.valkey.signal(Signal::CONT)
            },
        )
        .await
}

//! Other programs' writes: by plain SQL, with the bell dead, with triggers disabled, and a database that was put back.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use sqlx::{Connection, PgConnection};
use tokio::{process::Command, time::sleep};

use crate::{
    kit::{
        server::run_migrate,
        tokens::{SECRET, subject},
    },
    outcome::Outcome,
    stage::{Means, Stage},
    trial::{Deactivated, Trial},
};

pub async fn plain_sql(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        deactivated: Deactivated::BySql,
        ..Trial::of("plain-sql", "another program deactivates by plain SQL", "`UPDATE mitras SET is_active = false`")
    };
    trial.run(stage, async |_| Ok(()), async |_| Ok(())).await
}

/// The listening connections are ended again and again.
pub async fn bell_dead(stage: &mut Stage) -> Result<Outcome> {
    let url = stage.database.url.clone();
    let killing = tokio::spawn(async move {
        let mut connection = PgConnection::connect(&url).await?;
        for _ in 0..240 {
            sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE query ILIKE 'listen%' AND pid <> pg_backend_pid() AND datname = current_database()",
            )
            .execute(&mut connection)
            .await?;
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(connection.close().await?)
    });
    let trial = Trial {
        deactivated: Deactivated::BySql,
        refused_within: Duration::from_millis(2_500),
        ..Trial::of(
            "bell-dead",
            "the bell is dead",
            "`pg_terminate_backend` of the listeners, 20 times a second; plain SQL",
        )
    };
    trial.run(stage, async |_| Ok(()), async |_| killing.await?).await
}

/// Nobody is told, and the revision stays the same: the next reseed finds it by content.
pub async fn triggers_disabled(stage: &mut Stage) -> Result<Outcome> {
    let spare = stage.spare();
    let trial = Trial::of(
        "triggers-disabled",
        "a write past the triggers, then a reseed",
        "`session_replication_role = replica`; `POST /internal/reseed`",
    );
    trial
        .run(
            stage,
            async |stage| {
                stage
                    .sql(format!(
                        "SET session_replication_role = replica; UPDATE mitras SET is_active = false WHERE id = '{}'",
                        subject(spare)
                    ))
                    .await
            },
            async |stage| {
                let reply = stage.nodes[0].door.ask(Method::POST, "/internal/reseed", None).await;
                ensure!(reply.is_good(), "the reseed failed: {reply:?}");
                for node in &stage.nodes {
                    let reply = node.door.as_mitra(spare, Method::POST, "/api/mitra/status/heartbeat").await;
                    ensure!(reply.status == 403, "a deactivated mitra's heartbeat is answered {reply:?}");
                }
                Ok(())
            },
        )
        .await
}

/// Some are deactivated, then the database is put back to before that: they are active again, and what comes after counts.
pub async fn restored(stage: &mut Stage, means: &Means<'_>) -> Result<Outcome> {
    let dump = stage.valkey.folder.path().join("dump.sql");
    let (url, file) = (stage.database.url.clone(), dump.display().to_string());
    let programs = programs()?;
    let run = async |name: &str, arguments: &[&str]| -> Result<()> {
        let mut command = Command::new(format!("{programs}/{name}"));
        let done = command.args(arguments).stdin(Stdio::null()).output().await.context("PostgreSQL's programs")?;
        ensure!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    run("pg_dump", &["--clean", "--if-exists", "--file", &file, &url]).await?;
    let binary = means.binary;
    let trial = Trial {
        // While its tables are put back, the store cannot be asked for a moment.
        answer_within: Duration::from_secs(3),
        count_holds: false,
        ..Trial::of(
            "postgres-restored",
            "PostgreSQL restored from an older copy",
            "`psql < dump`; `hadir migrate --new-generation`",
        )
    };
    trial
        .run(
            stage,
            async |stage| {
                // What the copy does not know.
                stage.deactivate(stage.spare(), 0).await?;
                sleep(Duration::from_secs(2)).await;
                run("psql", &["--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--file", &file, &url])
                    .await?;
                let settings = [("AUTH_JWT_SECRET", SECRET), ("DATABASE_URL", url.as_str())];
                let settings: Vec<_> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                run_migrate(binary, &["--new-generation"], &settings)
            },
            async |_| Ok(()),
        )
        .await
}

fn programs() -> Result<String> {
    let found =
        std::fs::read_dir("/usr/lib/postgresql")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest =
        found.max_by_key(|version| version.parse::<u32>().unwrap_or(0)).context("PostgreSQL is not installed")?;
    Ok(format!("/usr/lib/postgresql/{newest}/bin"))
}

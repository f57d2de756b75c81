//! Faults of PostgreSQL.

use anyhow::Result;

use crate::{outcome::Outcome, stage::Stage, trial::Trial};

pub async fn stopped(stage: &mut Stage) -> Result<Outcome> {
    Trial::store_away("postgres-stopped", "PostgreSQL stopped", "as pg_ctl stop -m fast")
        .run(
            stage,
            async |stage| stage.on_postgres(|server| server.stop()).await,
            async |stage| stage.on_postgres(|server| server.start()).await,
        )
        .await
}

pub async fn killed(stage: &mut Stage) -> Result<Outcome> {
    Trial::store_away("postgres-killed", "PostgreSQL killed", "kill -9")
        .run(
            stage,
            async |stage| stage.on_postgres(|server| server.kill()).await,
            async |stage| stage.on_postgres(|server| server.start()).await,
        )
        .await
}

pub async fn frozen(stage: &mut Stage) -> Result<Outcome> {
    Trial::store_away("postgres-frozen", "PostgreSQL frozen, thawed", "SIGSTOP, SIGCONT")
        .run(
            stage,
            async |stage| stage.on_postgres(|server| server.freeze()).await,
            async |stage| stage.on_postgres(|server| server.thaw()).await,
        )
        .await
}

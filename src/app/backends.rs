//! Which store and which mirror.

use std::sync::Arc;

use anyhow::{Result, bail};

use crate::{
    config::{Config, Database},
    lifecycle::Lifecycle,
    mirror::{
        Mirror, MirrorSettings,
        memory::MemoryMirror,
        valkey::{ValkeyMirror, ValkeySettings},
    },
    store::{
        Store,
        sqlite::{SqliteSettings, SqliteStore},
    },
};

pub(super) async fn open(config: &Config, lifecycle: &Lifecycle) -> Result<(Arc<dyn Store>, Arc<dyn Mirror>)> {
    let store: Arc<dyn Store> = match &config.store.database {
        Database::Sqlite { path } => Arc::new(SqliteStore::open(sqlite(config, path)).await?),
        Database::Postgres { .. } => bail!("Postgres is not part of this build yet"),
    };
    let mirror = mirror(config, lifecycle).await?;
    Ok((store, mirror))
}

async fn mirror(config: &Config, lifecycle: &Lifecycle) -> Result<Arc<dyn Mirror>> {
    let settings = MirrorSettings {
        suspect_after: config.timing.suspect_after,
        snapshot_ttl: config.timing.snapshot_ttl,
        snapshot_window: config.timing.snapshot_window,
    };
    let Some(valkey) = &config.mirror.valkey else { return Ok(Arc::new(MemoryMirror::new(settings))) };
    let settings = ValkeySettings {
        url: valkey.url.expose().to_owned(),
        key_prefix: Some(config.mirror.key_prefix.clone()),
        command_timeout: config.mirror.command_timeout,
        mirror: settings,
        node: config.node_id.clone(),
    };
    Ok(Arc::new(ValkeyMirror::connect(settings, lifecycle.tracker()).await?))
}

pub(super) async fn migrate(config: &Config, new_generation: bool) -> Result<String> {
    match &config.store.database {
        Database::Sqlite { path } => {
            // Opening applies migrations.
            let store = SqliteStore::open(sqlite(config, path)).await?;
            let mut done = format!("{} is up to date", path.display());
            if new_generation {
                done += &format!(", generation {}", store.new_generation().await?);
            }
            store.close().await;
            Ok(done)
        }
        Database::Postgres { .. } => bail!("Postgres is not part of this build yet"),
    }
}

fn sqlite(config: &Config, path: &std::path::Path) -> SqliteSettings {
    SqliteSettings {
        path: path.to_owned(),
        default_max_sessions: config.store.default_max_sessions,
        query_timeout: config.store.query_timeout,
    }
}

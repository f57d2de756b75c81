//! Which store and which mirror.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use crate::{
    config::{Config, Database},
    lifecycle::Lifecycle,
    mirror::{
        Mirror, MirrorSettings,
        memory::MemoryMirror,
        valkey::{ValkeyMirror, ValkeySettings},
    },
    store::{
        Store, StoreError,
        postgres::{self, PostgresSettings, PostgresStore, SingleNode},
        sqlite::{SqliteSettings, SqliteStore},
    },
};

/// Pause between attempts to reach a Postgres that is away at start.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The stores of a node.
pub(super) struct Backends {
    pub(super) store: Arc<dyn Store>,
    pub(super) mirror: Arc<dyn Mirror>,
    /// Held while this node is the only one, having no shared mirror.
    pub(super) single_node: Option<SingleNode>,
}

/// Opens the stores. Valkey may be away; a Postgres that is away is waited for.
pub(super) async fn open(config: &Config, lifecycle: &Lifecycle) -> Result<Backends> {
    let mut single_node = None;
    let store: Arc<dyn Store> = match &config.store.database {
        Database::Sqlite { path } => Arc::new(SqliteStore::open(sqlite(config, path)).await?),
        Database::Postgres { url, schema } => {
            let settings = postgres_settings(config, url.expose(), schema);
            if config.store.migrate {
                patiently(|| postgres::migrate(&settings, false)).await?;
            }
            if config.mirror.valkey.is_none() {
                single_node = Some(patiently(|| SingleNode::take(&settings)).await?);
            }
            Arc::new(PostgresStore::connect(settings)?)
        }
    };
    let mirror = mirror(config, lifecycle).await?;
    Ok(Backends { store, mirror, single_node })
}

/// Keeps trying while Postgres is away; any other failure ends the start.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(attempt: impl Fn() -> F) -> Result<T, StoreError> {
    loop {
        match attempt().await {
            Err(StoreError::Unavailable(why)) => {
                tracing::warn!(%why, "Postgres cannot be reached yet; see that it runs and that DATABASE_URL is right");
                sleep(PATIENCE).await;
            }
            other => return other,
        }
    }
}

/// Looks at the stores without changing them and without patience.
pub(super) async fn look(config: &Config, lifecycle: &Lifecycle) -> Result<(Arc<dyn Store>, Arc<dyn Mirror>)> {
    let store: Arc<dyn Store> = match &config.store.database {
        Database::Sqlite { path } => Arc::new(SqliteStore::open(sqlite(config, path)).await?),
        Database::Postgres { url, schema } => {
            Arc::new(PostgresStore::connect(postgres_settings(config, url.expose(), schema))?)
        }
    };
    Ok((store, mirror(config, lifecycle).await?))
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
        connect_timeout: config.mirror.connect_timeout,
        mirror: settings,
        node: config.node_id.clone(),
    };
    Ok(Arc::new(ValkeyMirror::connect(settings, lifecycle.lent()).await?))
}

/// Applies migrations. Says what it did.
pub(super) async fn migrate(config: &Config, new_generation: bool) -> Result<String> {
    let (what, generation) = match &config.store.database {
        Database::Sqlite { path } => {
            // Opening applies migrations.
            let store = SqliteStore::open(sqlite(config, path)).await?;
            let generation = if new_generation { Some(store.new_generation().await?) } else { None };
            store.close().await;
            (path.display().to_string(), generation)
        }
        Database::Postgres { url, schema } => {
            let settings = postgres_settings(config, url.expose(), schema);
            let generation = postgres::migrate(&settings, new_generation).await?;
            (format!("schema {schema}"), new_generation.then_some(generation))
        }
    };
    let generation = generation.map(|number| format!(", generation {number}")).unwrap_or_default();
    Ok(format!("{what} is up to date{generation}"))
}

fn sqlite(config: &Config, path: &Path) -> SqliteSettings {
    SqliteSettings {
        path: path.to_owned(),
        default_max_sessions: config.store.default_max_sessions,
        query_timeout: config.store.query_timeout,
    }
}

fn postgres_settings(config: &Config, url: &str, schema: &str) -> PostgresSettings {
    let store = &config.store;
    PostgresSettings {
        url: url.to_owned(),
        schema: schema.to_owned(),
        default_max_sessions: store.default_max_sessions,
        pool_size: store.pool_size,
        presence_pool_size: store.presence_pool_size,
        acquire_timeout: store.acquire_timeout,
        query_timeout: store.query_timeout,
        lock_timeout: store.lock_timeout,
        migrate_timeout: store.migrate_timeout,
    }
}

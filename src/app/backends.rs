//! Which store and which mirror.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    config::{Config, Database},
    domain::NodeId,
    lifecycle::Lifecycle,
    mirror::{
        Mirror, MirrorSettings,
        memory::MemoryMirror,
        valkey::{ValkeyMirror, ValkeySettings, ValkeyTls},
    },
    store::{
        Store, StoreError,
        postgres::{self, NodeLock, PostgresSettings, PostgresStore},
        sqlite::{self, SqliteSettings, SqliteStore},
    },
};

/// Pause between attempts to reach a Postgres that is away at start.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Attempts to get the name that was given.
const NAME_TRIES: usize = 3;
/// Characters that are kept of a name when another is made of it.
const LONGEST_KEPT_NAME: usize = 57;

/// The stores of a node.
pub(super) struct Backends {
    pub(super) store: Arc<dyn Store>,
    pub(super) mirror: Arc<dyn Mirror>,
    /// Held as long as this node lives, that one without a shared mirror is alone. SQLite has its own.
    pub(super) node_lock: Option<NodeLock>,
}

/// Opens the stores. Valkey may be away; a Postgres that is away is waited for.
pub(super) async fn open(config: &mut Config, lifecycle: &Lifecycle) -> Result<Backends> {
    let mut node_lock = None;
    let store: Arc<dyn Store> = match &config.store.database {
        Database::Sqlite { path } => Arc::new(SqliteStore::open(sqlite_settings(config, path)).await?),
        Database::Postgres { url, schema } => {
            let settings = postgres_settings(config, url.expose(), schema);
            patiently(|| postgres::refuse_transaction_pooler(&settings)).await?;
            if config.store.migrate {
                patiently(|| postgres::migrate(&settings, false)).await?;
            } else {
                schema_is_there(&settings).await?;
            }
            patiently(|| postgres::refuse_missing_rights(&settings)).await?;
            let mut lock = match config.mirror.valkey {
                None => patiently(|| NodeLock::alone(&settings)).await?,
                Some(_) => patiently(|| NodeLock::together(&settings)).await?,
            };
            config.node_id = own_name(&mut lock, &config.node_id).await;
            node_lock = Some(lock);
            Arc::new(PostgresStore::connect(settings)?)
        }
    };
    // Only a shared mirror can be taken for another's.
    let identity = match config.mirror.valkey {
        None => None,
        Some(_) => Some(patiently(|| store.identity()).await?),
    };
    let mirror = mirror(config, config.node_id.clone(), identity, lifecycle).await?;
    Ok(Backends { store, mirror, node_lock })
}

/// The name that was given, or another one when a running node has it: two nodes with one name would
/// overwrite each other's reports.
async fn own_name(lock: &mut NodeLock, given: &NodeId) -> NodeId {
    for _ in 0..NAME_TRIES {
        match lock.claim_name(given).await {
            Ok(true) => return given.clone(),
            Ok(false) => {}
            Err(why) => {
                // The lock is taken again with its name when Postgres is back.
                tracing::warn!(%why, "it cannot be asked whether another node has this node's name");
                return given.clone();
            }
        }
        // A node that was just restarted finds its former self at the server for a moment.
        sleep(PATIENCE).await;
    }
    let kept: String = given.as_str().chars().take(LONGEST_KEPT_NAME).collect();
    let other = NodeId::new(&format!("{kept}-{}", &Uuid::new_v4().simple().to_string()[..6]));
    tracing::error!(
        %given, taken = %other,
        "another running node has the HADIR_NODE_ID of this one, which takes another name; give each node its own"
    );
    if let Err(why) = lock.claim_name(&other).await {
        tracing::warn!(%why, "the new name is not locked until Postgres is back");
    }
    other
}

/// Keeps trying while Postgres is away, which is said once for each reason; any other failure ends the start.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(attempt: impl Fn() -> F) -> Result<T, StoreError> {
    let mut told: Option<String> = None;
    loop {
        match attempt().await {
            Err(StoreError::Unavailable(why)) => {
                if told.as_ref() != Some(&why) {
                    tracing::warn!(
                        %why,
                        "Postgres cannot be used yet; this node waits. See that it runs and that DATABASE_URL is right"
                    );
                    told = Some(why);
                }
                sleep(PATIENCE).await;
            }
            other => {
                if told.is_some() && other.is_ok() {
                    tracing::info!("Postgres can be used now");
                }
                return other;
            }
        }
    }
}

/// Waits until somebody has migrated the schema that this node was told not to touch.
async fn schema_is_there(settings: &PostgresSettings) -> Result<(), StoreError> {
    let mut told = false;
    while let Some(what) = patiently(|| postgres::awaits_migration(settings)).await? {
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(
                "HADIR_MIGRATE is false and {what}; this node waits, and goes on by itself when that is done"
            );
        }
        sleep(PATIENCE).await;
    }
    Ok(())
}

/// The identity of the store, where it is there and has one. Changes nothing.
pub(super) async fn store_identity(config: &Config) -> Option<Uuid> {
    let Database::Postgres { url, schema } = &config.store.database else { return None };
    let store = PostgresStore::connect(postgres_settings(config, url.expose(), schema)).ok()?;
    let identity = store.identity().await.ok();
    store.close().await;
    identity
}

/// Looks at the store without changing it and without patience: each thing that was found, right or wrong.
pub(super) async fn look_at_store(config: &Config) -> Vec<Result<String, String>> {
    match &config.store.database {
        Database::Sqlite { path } => vec![sqlite::look(path).map(|found| format!("sqlite, {found}"))],
        Database::Postgres { url, schema } => {
            let settings = postgres_settings(config, url.expose(), schema);
            postgres::check(&settings, config.store.migrate).await
        }
    }
}

/// The mirror of the store with this identity, on which `node` is this process.
pub(super) async fn mirror(
    config: &Config,
    node: NodeId,
    store: Option<Uuid>,
    lifecycle: &Lifecycle,
) -> Result<Arc<dyn Mirror>> {
    let settings = MirrorSettings {
        suspect_after: config.timing.suspect_after,
        snapshot_ttl: config.timing.snapshot_ttl,
        snapshot_window: config.timing.snapshot_window,
    };
    let Some(valkey) = &config.mirror.valkey else { return Ok(Arc::new(MemoryMirror::new(settings))) };
    let settings = ValkeySettings {
        url: valkey.url.expose().to_owned(),
        tls: ValkeyTls {
            ca_file: config.mirror.tls_ca_file.clone(),
            cert_file: config.mirror.tls_cert_file.clone(),
            key_file: config.mirror.tls_key_file.clone(),
        },
        key_prefix: Some(config.mirror.key_prefix.clone()),
        command_timeout: config.mirror.command_timeout,
        connect_timeout: config.mirror.connect_timeout,
        mirror: settings,
        store,
        node,
    };
    Ok(Arc::new(ValkeyMirror::connect(settings, lifecycle.lent()).await?))
}

/// Applies migrations. Says what it did.
pub(super) async fn migrate(config: &Config, new_generation: bool) -> Result<String> {
    let (what, generation) = match &config.store.database {
        Database::Sqlite { path } => {
            // Opening applies migrations.
            let store = SqliteStore::open(sqlite_settings(config, path)).await?;
            let generation = if new_generation { Some(store.new_generation().await?) } else { None };
            store.close().await;
            (path.display().to_string(), generation)
        }
        Database::Postgres { url, schema } => {
            let settings = postgres_settings(config, url.expose(), schema);
            postgres::refuse_transaction_pooler(&settings).await?;
            let generation = postgres::migrate(&settings, new_generation).await?;
            (format!("schema {schema}"), new_generation.then_some(generation))
        }
    };
    let generation = generation.map(|number| format!(", generation {number}")).unwrap_or_default();
    Ok(format!("{what} is up to date{generation}"))
}

fn sqlite_settings(config: &Config, path: &Path) -> SqliteSettings {
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

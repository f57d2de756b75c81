//! The stores under a test: private and empty, or shared ones that the environment names, emptied first.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    process::Command,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use sqlx::{
    AssertSqlSafe, PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use tokio::sync::{Mutex, OwnedMutexGuard};
use url::Url;

use super::{
    Node,
    environment::{self, Shared},
    node::Proxies,
    postgres,
    proxy::Proxy,
};
use crate::support::valkey::{Raw, Server as Valkey};

/// Which stores a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// SQLite and the in-process mirror.
    Embedded,
    /// Postgres and Valkey.
    Clustered,
}

/// What the tested servers sign with.
pub const SECRET: &str = "a secret of tests, 32 characters";
/// The browser origin that tested servers allow.
pub const ORIGIN: &str = "https://app.test";

/// Stores of one test, and the way to start nodes on them.
pub struct World {
    pub backend: Backend,
    cluster: Option<Cluster>,
    folder: TempDir,
}

struct Cluster {
    database_url: String,
    schema: String,
    valkey_url: String,
    settings: Vec<(String, String)>,
    pool: PgPool,
    /// Ends with the world; `None` on shared services, and where the test has it.
    _valkey: Option<Valkey>,
    /// A server of this test's own, where it has one.
    postgres: Option<postgres::Server>,
    /// Dropped, with its tables, when the world ends.
    _schema: Option<postgres::Schema>,
    /// Tests on a shared schema run one by one.
    _turn: Option<OwnedMutexGuard<()>>,
}

impl World {
    /// Empty stores, migrated.
    pub async fn new(backend: Backend) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = match backend {
            Backend::Embedded => None,
            Backend::Clustered => Some(Cluster::new().await),
        };
        Self { backend, cluster, folder }
    }

    /// Postgres and Valkey, nobody else being on that Postgres: its log is this test's.
    pub async fn with_its_own_postgres() -> Self {
        let server = postgres::dedicated();
        let cluster = Cluster::private(server.schema().await, Some(server)).await;
        Self { backend: Backend::Clustered, cluster: Some(cluster), folder: tempfile::tempdir().expect("a folder") }
    }

    /// Postgres, and a Valkey that the test started and ends by itself: one server, Sentinels or a cluster.
    pub async fn with_valkey_at(url: String) -> Self {
        let cluster = Cluster::of(postgres::schema().await, None, url, None);
        Self { backend: Backend::Clustered, cluster: Some(cluster), folder: tempfile::tempdir().expect("a folder") }
    }

    /// The same with a Postgres whose clock is ahead by so many seconds.
    pub async fn with_postgres_ahead(seconds: i64) -> Self {
        let mut server = postgres::dedicated();
        server.restart_with(&postgres::clock_ahead(seconds));
        let cluster = Cluster::private(server.schema().await, Some(server)).await;
        Self { backend: Backend::Clustered, cluster: Some(cluster), folder: tempfile::tempdir().expect("a folder") }
    }

    /// What this test's own Postgres logged so far.
    pub fn postgres_log(&self) -> String {
        self.cluster().postgres.as_ref().expect("a world with its own Postgres").log()
    }

    /// A node on these stores, with calm settings.
    pub async fn node(&self) -> Node {
        self.node_with(&[]).await
    }

    /// A node with settings of its own.
    pub async fn node_with(&self, settings: &[(&str, &str)]) -> Node {
        self.try_node_with(settings).await.expect("a node starts")
    }

    /// A node, or why it does not start.
    pub async fn try_node_with(&self, settings: &[(&str, &str)]) -> anyhow::Result<Node> {
        self.start(settings, true).await
    }

    /// A node on the same Postgres that knows of no Valkey, or why it does not start.
    pub async fn lonely_node(&self) -> anyhow::Result<Node> {
        self.start(&[], false).await
    }

    async fn start(&self, settings: &[(&str, &str)], with_valkey: bool) -> anyhow::Result<Node> {
        let mut all: Vec<(String, String)> = [
            ("HADIR_PUBLIC_ADDR", "127.0.0.1:0"),
            ("HADIR_INTERNAL_ADDR", "127.0.0.1:0"),
            ("AUTH_JWT_SECRET", SECRET),
            ("HADIR_ALLOWED_ORIGINS", ORIGIN),
            // Nothing is to happen by itself but what a test asks for.
            ("MITRA_AUTO_OFFLINE_SWEEP_SECONDS", "3600"),
            ("HEARTBEAT_MIRROR_INTERVAL_SECONDS", "3600"),
            ("VALKEY_ONLINE_MIRROR_SWEEP_SECONDS", "3600"),
            ("HEARTBEAT_FLUSH_MS", "50"),
            ("SNAPSHOT_WINDOW_MS", "50"),
            ("HADIR_NODE_REPORT_SECONDS", "0.2"),
            ("HADIR_MIRROR_BREAKER_RETRY_MS", "100"),
            // Many tests share few cores: a Valkey that is slow to answer is no fault here. Tests of faults cut or freeze it.
            ("HADIR_MIRROR_COMMAND_TIMEOUT_MS", "1500"),
            ("DRAIN_SECONDS", "0.2"),
            ("HADIR_LIMIT_CLOSE_SECONDS", "0.5"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        all.push(("HADIR_DATA_DIR".into(), self.folder.path().join("data").display().to_string()));
        let mut proxies = None;
        if let Some(cluster) = &self.cluster {
            let store = Proxy::to(address_of(&cluster.database_url, 5432)).await;
            let mirror = match is_one_server(&cluster.valkey_url) {
                true => Some(Proxy::to(address_of(&cluster.valkey_url, 6379)).await),
                false => None,
            };
            let valkey_url = match &mirror {
                Some(mirror) => through(&cluster.valkey_url, mirror),
                None => cluster.valkey_url.clone(),
            };
            all.push(("DATABASE_URL".into(), through(&cluster.database_url, &store)));
            all.push(("HADIR_DB_SCHEMA".into(), cluster.schema.clone()));
            all.push(("HADIR_MIGRATE".into(), "false".into()));
            if with_valkey {
                all.push(("VALKEY_URL".into(), valkey_url));
            }
            all.extend(cluster.settings.iter().cloned());
            proxies = Some(Proxies { store, mirror });
        }
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Node::start(&all, proxies).await
    }

    /// Plain SQL on either back end, on the embedded one while no node runs. `ago(ms)` is a time so long ago.
    pub async fn run(&self, sql: impl Fn(&dyn Fn(u64) -> String) -> String) {
        match &self.cluster {
            Some(cluster) => {
                let sql = sql(&|ms| format!("(now() - {ms} * interval '1 millisecond')"));
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&cluster.pool).await.expect("done");
            }
            None => {
                let sql = sql(&|ms| format!("(CAST(unixepoch('subsec') * 1000 AS INTEGER) - {ms})"));
                let options = SqliteConnectOptions::new().filename(self.folder.path().join("data/hadir.db"));
                let pool = SqlitePool::connect_with(options).await.expect("the file of a node that ran");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect("done");
                pool.close().await;
            }
        }
    }

    /// What a process is told to run on these stores.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let cluster = self.cluster();
        vec![
            ("DATABASE_URL", cluster.database_url.clone()),
            ("HADIR_DB_SCHEMA", cluster.schema.clone()),
            ("VALKEY_URL", cluster.valkey_url.clone()),
            ("AUTH_JWT_SECRET", SECRET.to_owned()),
        ]
    }

    /// Plain SQL, as another program writes it. Postgres only.
    pub fn sql(&self) -> &PgPool {
        &self.cluster().pool
    }

    /// Where the test's Valkey is, past every proxy.
    pub fn valkey_url(&self) -> String {
        self.cluster().valkey_url.clone()
    }

    /// A connection to the test's Valkey that speaks the protocol as it is, its database chosen.
    pub fn valkey(&self) -> Raw {
        Raw::to(&self.cluster().valkey_url)
    }

    fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("a test of the clustered back end")
    }
}

impl Cluster {
    async fn new() -> Self {
        let shared = environment::read(&std::env::vars().collect()).unwrap_or_else(|why| panic!("{why}"));
        match shared {
            Some(shared) => Self::shared(shared).await,
            None => Self::private(postgres::schema().await, None).await,
        }
    }

    async fn private(schema: postgres::Schema, postgres: Option<postgres::Server>) -> Self {
        let valkey = Valkey::start();
        Self::of(schema, postgres, valkey.url(0), Some(valkey))
    }

    fn of(
        schema: postgres::Schema,
        postgres: Option<postgres::Server>,
        valkey_url: String,
        valkey: Option<Valkey>,
    ) -> Self {
        let (database_url, name) = (schema.url.clone(), schema.name.clone());
        migrate(&database_url, &name);
        let pool = pool(&database_url, &name);
        Self {
            database_url,
            schema: name,
            valkey_url,
            settings: Vec::new(),
            pool,
            _valkey: valkey,
            postgres,
            _schema: Some(schema),
            _turn: None,
        }
    }

    async fn shared(shared: Shared) -> Self {
        static TURN: OnceLock<Arc<Mutex<()>>> = OnceLock::new();
        let turn = Arc::clone(TURN.get_or_init(Arc::default)).lock_owned().await;
        let Shared { database_url, schema, valkey_url, settings } = shared;
        let pool = pool(&database_url, &schema);
        let comment: Option<String> = sqlx::query_scalar(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()",
        )
        .fetch_one(&pool)
        .await
        .expect("TEST_DATABASE_URL is reachable");
        environment::guard_schema(&schema, comment.as_deref()).unwrap_or_else(|why| panic!("{why}"));
        migrate(&database_url, &schema);
        let cluster = Self {
            database_url,
            schema,
            valkey_url,
            settings,
            pool,
            _valkey: None,
            postgres: None,
            _schema: None,
            _turn: Some(turn),
        };
        cluster.reset().await;
        cluster
    }

    /// Empties the test's tables and its Valkey database.
    async fn reset(&self) {
        sqlx::query("TRUNCATE mitras, customers, chat_sessions, auth_sessions, presence_events CASCADE")
            .execute(&self.pool)
            .await
            .expect("emptied");
        Raw::to(&self.valkey_url).ask(&["FLUSHDB"]);
    }
}

/// In a process of its own, as a deployment does it.
fn migrate(database_url: &str, schema: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_hadir"))
        .arg("migrate")
        .env_clear()
        .env("DATABASE_URL", database_url)
        .env("HADIR_DB_SCHEMA", schema)
        .env("AUTH_JWT_SECRET", SECRET)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn pool(database_url: &str, schema: &str) -> PgPool {
    let options = PgConnectOptions::from_str(database_url).expect("an address of Postgres");
    PgPoolOptions::new()
        .max_connections(4)
        .connect_lazy_with(options.options([("search_path", format!("\"{schema}\""))]))
}

fn address_of(url: &str, default_port: u16) -> SocketAddr {
    let url = Url::parse(url).expect("an address");
    let host = url.host_str().expect("a host").trim_matches(['[', ']']).to_owned();
    (host, url.port().unwrap_or(default_port)).to_socket_addrs().expect("resolved").next().expect("an address")
}

/// Whether an address leads to one server, and not to Sentinels or a cluster that name others.
fn is_one_server(url: &str) -> bool {
    let scheme = Url::parse(url).expect("an address").scheme().to_owned();
    !scheme.ends_with("-sentinel") && !scheme.ends_with("-cluster")
}

/// The same service as seen through a proxy.
fn through(url: &str, proxy: &Proxy) -> String {
    let mut url = Url::parse(url).expect("an address");
    url.set_host(Some("127.0.0.1")).expect("has a host");
    url.set_port(Some(proxy.address().port())).expect("takes a port");
    url.into()
}

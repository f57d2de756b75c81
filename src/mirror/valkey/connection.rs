//! The two connections to Valkey: one for commands, one that listens. Every setting of the client that matters is set
//! here, because its own defaults wait without end and buffer without bound.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fred::{
    clients::{Client, SubscriberClient, WithOptions},
    error::Error,
    interfaces::{ClientLike, EventInterface, LuaInterface},
    types::{
        Builder, Key, RespVersion, Value,
        config::{
            ConnectionConfig, Options, PerformanceConfig, ReconnectPolicy, Server, TcpConfig, UnresponsiveConfig,
        },
    },
};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{
    address::{Address, server_in_words},
    catalog::Script,
    tls::ValkeyTls,
    words::{in_words, trouble_in_words},
};
use crate::mirror::MirrorError;

/// A connection on which nothing was answered for this long is given up, whatever its state claims.
const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(2);
/// Commands that may wait for the connection's task; beyond it a command fails at once.
const COMMAND_QUEUE: usize = 1_024;
/// Messages that may wait for our forwarder; beyond it the oldest are lost and we are told.
const MESSAGE_QUEUE: usize = 8_192;

/// The address or the prefix cannot be used. Never repeats the address: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValkeySetupError {
    /// Not an address this server understands.
    #[error(
        "VALKEY_URL cannot be used ({0}); write it like valkey://[user:password@]host:6379[/database], with rediss:// \
         for TLS, valkey-sentinel:// or valkey-cluster:// for those"
    )]
    Url(String),
    /// A file of TLS, or what it holds.
    #[error("TLS to Valkey cannot be set up: {0}")]
    Tls(String),
    /// A cluster keeps a script's keys together only by a hash tag.
    #[error("VALKEY_KEY_PREFIX must hold a hash tag such as {{hadir}}: when VALKEY_URL names a cluster")]
    PrefixWithoutTag,
}

/// What is known of the command connection's health beyond what the client library sees.
#[derive(Default)]
struct Health {
    /// Since when nothing has been answered, while something was asked.
    unanswered_since: Mutex<Option<Instant>>,
    renew: Notify,
    /// Why the connection was last lost or could not be made: while there is none, a command only fails with having waited in vain.
    trouble: Mutex<Option<String>>,
}

/// A client that can be made anew, with nothing that it learned.
pub(super) trait Renewable: EventInterface {
    fn anew(&self) -> Self;
}

impl Renewable for Client {
    fn anew(&self) -> Self {
        self.clone_new()
    }
}

impl Renewable for SubscriberClient {
    fn anew(&self) -> Self {
        self.clone_new()
    }
}

/// The clients, not yet connected. Whoever keeps one connected may put another in its place.
pub(super) struct Connection {
    pub commands: watch::Sender<Client>,
    pub subscriber: watch::Sender<SubscriberClient>,
    options: Options,
    health: Arc<Health>,
    /// Of the servers and of the Sentinels.
    secrets: Vec<String>,
    /// The servers in words.
    pub place: String,
    is_tls: bool,
    pub database: u8,
    pub clustered: bool,
}

impl Connection {
    pub fn new(
        url: &str,
        tls: &ValkeyTls,
        command_timeout: Duration,
        connect_timeout: Duration,
    ) -> Result<Self, ValkeySetupError> {
        let Address { mut config, secrets, place } = Address::read(url, tls)?;
        // Start and go on trying when the server is away.
        config.fail_fast = false;
        // The listening connection answers pings only in this version.
        config.version = RespVersion::RESP3;

        let performance = PerformanceConfig {
            default_command_timeout: command_timeout,
            broadcast_channel_capacity: MESSAGE_QUEUE,
            ..PerformanceConfig::default()
        };
        let connection = ConnectionConfig {
            connection_timeout: connect_timeout,
            internal_command_timeout: Duration::from_secs(1),
            // A command whose reply was lost may have been carried out: whoever sent it decides whether to repeat it.
            max_command_attempts: 1,
            max_command_buffer_len: COMMAND_QUEUE,
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(UNRESPONSIVE_AFTER),
                interval: Duration::from_millis(500),
            },
            reconnect_on_auth_error: true,
            tcp: TcpConfig {
                nodelay: Some(true),
                keepalive: Some(
                    fred_socket2::TcpKeepalive::new()
                        .with_time(Duration::from_secs(5))
                        .with_interval(Duration::from_secs(2))
                        .with_retries(3),
                ),
                user_timeout: Some(Duration::from_secs(5)),
                ..TcpConfig::default()
            },
            ..ConnectionConfig::default()
        };
        // No cap on attempts; base 2 from 50 ms to 2 s.
        let mut policy = ReconnectPolicy::new_exponential(0, 50, 2_000, 2);
        if let ReconnectPolicy::Exponential { jitter, .. } = &mut policy {
            *jitter = 50;
        }

        let database = config.database.unwrap_or(0);
        let clustered = config.server.is_clustered();
        let is_tls = config.tls.is_some();
        let mut builder = Builder::from_config(config);
        builder.set_performance_config(performance).set_connection_config(connection).set_policy(policy);
        let build_failed = |error: Error| ValkeySetupError::Url(error.details().to_owned());
        let commands = builder.build().map_err(build_failed)?;
        let subscriber = builder.build_subscriber_client().map_err(build_failed)?;
        let options = Options {
            // A node of a cluster that says MOVED did not carry the command out: it may be sent once more, to whom it
            // names. One whose connection was lost is not (`fail_fast`).
            max_attempts: Some(if clustered { 2 } else { 1 }),
            timeout: Some(command_timeout),
            fail_fast: true,
            ..Options::default()
        };
        Ok(Self {
            commands: watch::Sender::new(commands),
            subscriber: watch::Sender::new(subscriber),
            options,
            health: Arc::new(Health::default()),
            secrets,
            place,
            is_tls,
            database,
            clustered,
        })
    }

    /// For commands. Fails at once while disconnected; see [`Self::judge`] for what to do with a result.
    pub fn commands(&self) -> WithOptions<Client> {
        self.commands.borrow().with_options(&self.options)
    }

    /// Runs a script by its hash; a server that does not know it (yet, or any more) is given the text.
    pub async fn run(&self, script: &Script, keys: Vec<Key>, arguments: Vec<Value>) -> Result<Value, MirrorError> {
        let commands = self.commands();
        let hash = match script.hash() {
            Some(hash) => hash.to_owned(),
            None => {
                let hash: String = self.judge(script.name, commands.script_load(script.source()).await)?;
                script.loaded_as(hash.clone());
                hash
            }
        };
        let mut result = commands.evalsha(hash, keys.clone(), arguments.clone()).await;
        if matches!(&result, Err(error) if error.details().starts_with("NOSCRIPT")) {
            result = commands.eval(script.source(), keys, arguments).await;
        }
        self.judge(script.name, result)
    }

    /// Turns a client's result into ours, and notices a connection that is open but dead, and a server that was
    /// demoted under it.
    ///
    /// The client's own check measures from the last write, so steady writing to a frozen server hides it: we measure
    /// from the first command that was not answered.
    pub fn judge<T>(&self, what: &str, result: Result<T, Error>) -> Result<T, MirrorError> {
        let error = match result {
            Ok(value) => {
                *self.health.unanswered_since.lock() = None;
                return Ok(value);
            }
            Err(error) => error,
        };
        if matches!(error.kind(), fred::error::ErrorKind::Timeout) {
            let mut since = self.health.unanswered_since.lock();
            if since.get_or_insert_with(Instant::now).elapsed() > UNRESPONSIVE_AFTER {
                *since = None;
                self.health.renew.notify_one();
            }
        } else if error.details().starts_with("READONLY") {
            self.health.renew.notify_one();
        }
        Err(self.describe(what, &error))
    }

    /// The error in words, without the passwords, which some servers repeat in theirs.
    fn describe(&self, what: &str, error: &Error) -> MirrorError {
        // The word of `scripts/prelude.lua`.
        if let Some(owner) = error.details().strip_prefix("FOREIGN ") {
            return MirrorError::foreign(owner.split(' ').next().unwrap_or_default());
        }
        let mut text = match &*self.health.trouble.lock() {
            Some(trouble) if !self.commands.borrow().is_connected() => format!("{what}: not connected: {trouble}"),
            _ => format!("{what}: {}", in_words(&error.to_string(), &self.place)),
        };
        for secret in &self.secrets {
            text = text.replace(secret, "***");
        }
        match error.kind() {
            fred::error::ErrorKind::Timeout => MirrorError::timeout(text),
            _ => MirrorError::new(text),
        }
    }

    /// What remembers why the command connection was lost or cannot be made.
    pub fn troubles(&self) -> impl FnMut(&Error, Option<&Server>) + Send + use<> {
        let (health, place, is_tls) = (self.health.clone(), self.place.clone(), self.is_tls);
        move |error, server| {
            let server = server.filter(|server| server.port > 0).map(server_in_words);
            let words = trouble_in_words(&error.to_string(), server.as_deref().unwrap_or(&place), is_tls);
            *health.trouble.lock() = Some(words);
        }
    }

    /// Each call gives a future that resolves when the command connection should be replaced.
    pub fn renewals(&self) -> impl FnMut() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + use<> {
        let health = self.health.clone();
        move || {
            let health = health.clone();
            Box::pin(async move { health.renew.notified().await })
        }
    }
}

/// Drops a client's connection and lets it dial again. Does not wait for it.
pub(super) fn reconnect<C: ClientLike>(client: &C) {
    // The request is sent on the first poll; the rest of the future only waits until the new connection stands.
    let _ = client.force_reconnection().now_or_never();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_be_used_is_explained_without_repeating_it() {
        for url in ["not an address", "valkey://:hunter2@", "valkey://:hunter2@host:6379/one/two"] {
            let error = Connection::new(url, &ValkeyTls::default(), Duration::from_millis(300), Duration::from_secs(1))
                .err()
                .expect("refused");
            let text = error.to_string();
            assert!(text.starts_with("VALKEY_URL cannot be used"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[tokio::test]
    async fn an_error_that_repeats_the_password_is_masked() {
        let connection = Connection::new(
            "valkey://:hunter2@localhost",
            &ValkeyTls::default(),
            Duration::from_millis(300),
            Duration::from_secs(1),
        )
        .expect("usable");
        let error = Error::new(fred::error::ErrorKind::Unknown, "unknown command 'AUTH' 'hunter2'");
        let masked = connection.judge::<()>("tick", Err(error)).expect_err("an error stays one").to_string();
        assert!(!masked.contains("hunter2"), "{masked}");
        assert!(masked.contains("***"), "{masked}");

        let url = "valkey-sentinel://:hunter2@localhost?sentinelServiceName=x&sentinelPassword=swordfish";
        let sentinels = Connection::new(url, &ValkeyTls::default(), Duration::from_millis(300), Duration::from_secs(1))
            .expect("usable");
        let error = Error::new(fred::error::ErrorKind::Sentinel, "unknown command 'AUTH' 'swordfish' 'hunter2'");
        let masked = sentinels.judge::<()>("tick", Err(error)).expect_err("an error stays one").to_string();
        assert!(!masked.contains("swordfish") && !masked.contains("hunter2"), "{masked}");
    }
}

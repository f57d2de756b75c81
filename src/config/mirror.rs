//! Liveness and the snapshot: Valkey, or this process.

use std::{path::PathBuf, time::Duration};

use url::Url;

use super::{
    Secret, parse,
    setting::{AnySetting, Setting},
    store::StoreConfig,
    values::Reader,
};

/// In a cluster every key carries the same hash tag, so that scripts find all their keys in one slot.
const CLUSTER_PREFIX: &str = "{hadir}:";

/// In a URL with Sentinels: the name under which they watch the primary.
const SENTINEL_SERVICE: &str = "sentinelServiceName";

const VALKEY_URL: Setting<ValkeyUrl> = Setting::new(
    "VALKEY_URL",
    valkey_url,
    "Valkey or Redis: `valkey://`, `valkey-sentinel://` (with `?sentinelServiceName=…`, and `sentinelPassword=…` if the Sentinels have their own), `valkey-cluster://`, or `valkey+unix:///path?db=0` for a socket. Further Sentinels or nodes: `node=host:port`. With TLS: `valkeys://`, `valkeys-sentinel://`, `valkeys-cluster://`. `redis` and `rediss` mean the same. Percent-encode user and password. Needs DATABASE_URL.",
)
.unset("in-process mirror, one node only")
.secret_url();
const TLS_CA: Setting<PathBuf> = Setting::new(
    "VALKEY_TLS_CA_FILE",
    parse::path,
    "PEM file of the authorities that Hadir trusts for Valkey, instead of the machine's.",
)
.unset("those of the machine");
const TLS_CERT: Setting<PathBuf> =
    Setting::new("VALKEY_TLS_CERT_FILE", parse::path, "PEM file of the client certificate of nodes for Valkey.")
        .unset("none");
const TLS_KEY: Setting<PathBuf> =
    Setting::new("VALKEY_TLS_KEY_FILE", parse::path, "PEM file of the key of VALKEY_TLS_CERT_FILE.").unset("none");
const KEY_PREFIX: Setting<String> = Setting::new(
    "VALKEY_KEY_PREFIX",
    parse::any_text,
    "Prefix of every key and channel, for other programs too. Each store on a shared Valkey needs its own.",
)
.unset("none; {hadir}: with a cluster");
const COMMAND_TIMEOUT: Setting<Duration> =
    Setting::new("HADIR_MIRROR_COMMAND_TIMEOUT_MS", parse::milliseconds, "Longest wait for one answer of Valkey.")
        .default("300")
        .unit("milliseconds");
const CONNECT_TIMEOUT: Setting<Duration> = Setting::new(
    "HADIR_MIRROR_CONNECT_TIMEOUT_MS",
    parse::milliseconds,
    "Longest wait for a connection to Valkey, TLS and sign-in included.",
)
.default("1000")
.unit("milliseconds");
const BREAKER_FAILURES: Setting<u32> = Setting::new(
    "HADIR_MIRROR_BREAKER_FAILURES",
    parse::whole::<u32, 1, 1000>,
    "Circuit breaker: after this many failures in a row, answers come from the store without waiting for Valkey.",
)
.default("2")
.unit("failures");
const BREAKER_RETRY: Setting<Duration> = Setting::new(
    "HADIR_MIRROR_BREAKER_RETRY_MS",
    parse::milliseconds,
    "Circuit breaker: how often Hadir tries Valkey again while it is open.",
)
.default("500")
.unit("milliseconds");
const PROBE: Setting<Duration> = Setting::new(
    "HADIR_MIRROR_PROBE_SECONDS",
    parse::seconds,
    "Interval of the probe that a node sends to itself through Valkey's pub/sub.",
)
.default("2")
.unit("seconds");

pub(super) const SETTINGS: &[&dyn AnySetting] = &[
    &VALKEY_URL,
    &TLS_CA,
    &TLS_CERT,
    &TLS_KEY,
    &KEY_PREFIX,
    &COMMAND_TIMEOUT,
    &CONNECT_TIMEOUT,
    &BREAKER_FAILURES,
    &BREAKER_RETRY,
    &PROBE,
];

/// How Valkey is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server (or an address that always leads to the primary).
    Standalone,
    /// Sentinels name the primary.
    Sentinel,
    /// A cluster.
    Cluster,
}

/// A URL that is known to be one of Valkey.
#[derive(Clone, Debug)]
pub struct ValkeyUrl {
    /// As it was written, with its password.
    pub url: Secret,
    /// From the scheme.
    pub topology: Topology,
    /// The database number; channels need it, because pub/sub ignores it.
    pub database: u8,
    /// Connections are encrypted.
    pub is_tls: bool,
}

/// Liveness and the snapshot.
#[derive(Clone, Debug)]
pub struct MirrorConfig {
    /// `None`: the in-process mirror.
    pub valkey: Option<ValkeyUrl>,
    /// The authorities that are trusted to vouch for Valkey; `None`: those of the machine.
    pub tls_ca_file: Option<PathBuf>,
    /// What nodes show to Valkey.
    pub tls_cert_file: Option<PathBuf>,
    /// The key of that certificate.
    pub tls_key_file: Option<PathBuf>,
    /// Before every key and channel.
    pub key_prefix: String,
    /// Longest wait for one answer.
    pub command_timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// How often an open breaker lets one try through.
    pub breaker_retry: Duration,
    /// Cadence of the pub/sub probe.
    pub probe_interval: Duration,
}

impl MirrorConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let valkey = reader.optional(&VALKEY_URL);
        let in_cluster = valkey.as_ref().is_some_and(|valkey| valkey.topology == Topology::Cluster);
        let key_prefix = reader.optional(&KEY_PREFIX);
        if reader.is_set(&VALKEY_URL) && !StoreConfig::postgres_is_meant(reader) {
            reader.contradiction(&[], || {
                "VALKEY_URL is set without DATABASE_URL, but Valkey mirrors a shared PostgreSQL, never a SQLite file: \
                 set DATABASE_URL too, or remove VALKEY_URL."
                    .to_owned()
            });
        }
        if let (true, Some(prefix)) = (in_cluster, &key_prefix)
            && !has_hash_tag(prefix)
        {
            reader.contradiction(&["VALKEY_KEY_PREFIX"], || {
                format!(
                    "VALKEY_KEY_PREFIX is `{prefix}` without a hash tag, but in a cluster all keys must be in one slot: \
                     write it with braces, such as {{hadir}}:."
                )
            });
        }
        let is_tls = valkey.as_ref().is_some_and(|valkey| valkey.is_tls);
        for (name, is_set) in [
            ("VALKEY_TLS_CA_FILE", reader.is_set(&TLS_CA)),
            ("VALKEY_TLS_CERT_FILE", reader.is_set(&TLS_CERT)),
            ("VALKEY_TLS_KEY_FILE", reader.is_set(&TLS_KEY)),
        ] {
            if is_set && valkey.is_some() && !is_tls {
                reader.contradiction(&[], || {
                    format!("{name} is set, but VALKEY_URL does not ask for TLS: write valkeys:// or rediss://.")
                });
            }
        }
        if reader.is_set(&TLS_CERT) != reader.is_set(&TLS_KEY) {
            reader.contradiction(&[], || {
                "VALKEY_TLS_CERT_FILE and VALKEY_TLS_KEY_FILE belong together, but one is set alone: set both."
                    .to_owned()
            });
        }
        let default_prefix = if in_cluster { CLUSTER_PREFIX } else { "" };
        Self {
            valkey,
            tls_ca_file: reader.optional(&TLS_CA),
            tls_cert_file: reader.optional(&TLS_CERT),
            tls_key_file: reader.optional(&TLS_KEY),
            key_prefix: key_prefix.unwrap_or_else(|| default_prefix.to_owned()),
            command_timeout: reader.required(&COMMAND_TIMEOUT),
            connect_timeout: reader.required(&CONNECT_TIMEOUT),
            breaker_failures: reader.required(&BREAKER_FAILURES),
            breaker_retry: reader.required(&BREAKER_RETRY),
            probe_interval: reader.required(&PROBE),
        }
    }
}

/// `{…}` with something in it (the cluster specification's hash tags).
fn has_hash_tag(prefix: &str) -> bool {
    prefix.split_once('{').and_then(|(_, rest)| rest.split_once('}')).is_some_and(|(tag, _)| !tag.is_empty())
}

fn valkey_url(text: &str) -> Result<ValkeyUrl, String> {
    let url = Url::parse(text).map_err(|error| {
        format!(
            "is not a URL ({error}): write valkey://:password@host:6379/0, or remove it to use the in-process mirror"
        )
    })?;
    let scheme = url.scheme();
    let is_tls = scheme.starts_with("valkeys") || scheme.starts_with("rediss");
    let is_socket = matches!(scheme, "valkey+unix" | "redis+unix" | "unix");
    let topology = match scheme {
        "valkey" | "redis" | "valkeys" | "rediss" | "valkey+unix" | "redis+unix" | "unix" => Topology::Standalone,
        "valkey-sentinel" | "redis-sentinel" | "valkeys-sentinel" | "rediss-sentinel" => Topology::Sentinel,
        "valkey-cluster" | "redis-cluster" | "valkeys-cluster" | "rediss-cluster" => Topology::Cluster,
        _ => {
            return Err("has a scheme that is not one of Valkey's: write valkey://, valkey-sentinel://, \
                        valkey-cluster://, valkey+unix://, or with TLS valkeys://, valkeys-sentinel:// or \
                        valkeys-cluster://"
                .to_owned());
        }
    };
    if !url.username().is_empty() && url.password().is_none_or(str::is_empty) {
        return Err("names a user without a password: write valkey://user:password@host:6379".to_owned());
    }
    if is_socket {
        return socket_url(text, &url);
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host: write valkey://host:6379".to_owned());
    }
    if topology == Topology::Sentinel && !url.query_pairs().any(|(name, _)| name == SENTINEL_SERVICE) {
        return Err(format!(
            "does not say what the Sentinels call the primary: end it with ?{SENTINEL_SERVICE}=mymaster"
        ));
    }
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        number => number.parse::<u8>().map_err(|_| {
            "has a path that is not a database number: end it with /0, /1, … or with nothing".to_owned()
        })?,
    };
    if topology == Topology::Cluster && database != 0 {
        return Err("names a database, but a cluster has only database 0: remove the number".to_owned());
    }
    Ok(ValkeyUrl { url: Secret::new(text), topology, database, is_tls })
}

/// A socket of this machine; its path takes the place of the database, which stands in the query.
fn socket_url(text: &str, url: &Url) -> Result<ValkeyUrl, String> {
    if !matches!(url.host_str(), None | Some("" | "localhost")) || url.path().len() < 2 {
        return Err("does not name a socket: write valkey+unix:///path, or with a password \
                    valkey+unix://user:password@localhost/path"
            .to_owned());
    }
    let database = match url.query_pairs().find(|(name, _)| name == "db") {
        None => 0,
        Some((_, number)) => {
            number.parse().map_err(|_| "has a db that is not a database number: write ?db=0".to_owned())?
        }
    };
    Ok(ValkeyUrl { url: Secret::new(text), topology: Topology::Standalone, database, is_tls: false })
}

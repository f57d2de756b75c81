//! From VALKEY_URL to what the client library needs: servers, credentials, database, TLS.

use std::net::IpAddr;

use fred::types::config::{ClusterDiscoveryPolicy, Config, Server, ServerConfig, TlsConfig};
use url::{Url, form_urlencoded};

use super::{
    connection::ValkeySetupError,
    tls::{self, ValkeyTls},
};

/// An address in the client's terms.
pub(super) struct Address {
    pub config: Config,
    /// What no log may show, in every form in which it is sent.
    pub secrets: Vec<String>,
    /// The servers in words, without credentials.
    pub place: String,
}

impl Address {
    /// Reads `url`; the files of `files` matter only where its scheme asks for TLS.
    pub fn read(url: &str, files: &ValkeyTls) -> Result<Self, ValkeySetupError> {
        let url = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        let (base, kind) = url.scheme().split_once(['-', '+']).unwrap_or((url.scheme(), ""));
        let is_tls = matches!(base, "valkeys" | "rediss");
        let in_query = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let server = match (base, kind) {
            ("unix", "") | (_, "unix") => ServerConfig::Unix { path: decoded(url.path())?.into() },
            (_, "sentinel") => ServerConfig::Sentinel {
                hosts: servers(&url, 26_379)?,
                service_name: in_query("sentinelServiceName").ok_or_else(|| wrong("sentinelServiceName is missing"))?,
                username: in_query("sentinelUsername"),
                password: in_query("sentinelPassword"),
            },
            (_, "cluster") => ServerConfig::Clustered {
                hosts: servers(&url, 6_379)?,
                // The address that we were given may be the very one that died: the primaries last seen are asked too.
                policy: ClusterDiscoveryPolicy::UseCache,
            },
            _ => ServerConfig::Centralized { server: servers(&url, 6_379)?.swap_remove(0) },
        };
        let mut config = Config { server, database: database(&url, &in_query)?, ..Config::default() };
        let place = match &config.server {
            ServerConfig::Unix { path } => path.display().to_string(),
            _ => servers(&url, if kind == "sentinel" { 26_379 } else { 6_379 })?
                .iter()
                .map(server_in_words)
                .collect::<Vec<_>>()
                .join(", "),
        };
        if is_tls {
            let names = servers(&url, 0)?.into_iter().map(|server| server.host.to_string());
            config.tls = Some(TlsConfig::from(tls::client(files, names)?));
        }
        let (user, password) = (decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
        let mut secrets = vec![password.clone(), quoted(&password), in_query("sentinelPassword").unwrap_or_default()];
        secrets.extend(url.password().map(str::to_owned));
        secrets.retain(|secret| !secret.is_empty());
        config.username = Some(quoted(&user)).filter(|user| !user.is_empty());
        config.password = Some(quoted(&password)).filter(|password| !password.is_empty());
        Ok(Self { config, secrets, place })
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn server_in_words(server: &Server) -> String {
    match server.host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{}", server.port),
        _ => format!("{}:{}", server.host, server.port),
    }
}

fn wrong(why: &str) -> ValkeySetupError {
    ValkeySetupError::Url(why.to_owned())
}

/// The host, and every `node=host:port` behind it.
fn servers(url: &Url, default_port: u16) -> Result<Vec<Server>, ValkeySetupError> {
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
    let mut servers = vec![Server::new(bare(host), url.port().unwrap_or(default_port))];
    for (_, node) in url.query_pairs().filter(|(name, _)| name == "node") {
        let parts = node.rsplit_once(':').and_then(|(host, port)| Some((bare(host), port.parse::<u16>().ok()?)));
        let (host, port) = parts.ok_or_else(|| wrong("a node is not written as host:port"))?;
        servers.push(Server::new(host, port));
    }
    Ok(servers)
}

/// The path, or `db=` where the path is a socket's.
fn database(url: &Url, in_query: &dyn Fn(&str) -> Option<String>) -> Result<Option<u8>, ValkeySetupError> {
    let is_socket = url.scheme() == "unix" || url.scheme().ends_with("+unix");
    let text = if is_socket { in_query("db").unwrap_or_default() } else { url.path().trim_matches('/').to_owned() };
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| wrong("the database is not a number"))
}

/// Percent-encoding undone.
fn decoded(text: &str) -> Result<String, ValkeySetupError> {
    let plain = form_urlencoded::parse(text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D").as_bytes())
        .map(|(name, _)| name.into_owned())
        .next()
        .unwrap_or_default();
    if plain.contains(char::REPLACEMENT_CHARACTER) {
        return Err(wrong("the user or the password is not UTF-8 text"));
    }
    Ok(plain)
}

/// As one word of an inline command, which is how the client library signs in: it puts a space between words and quotes none.
fn quoted(word: &str) -> String {
    if word.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return word.to_owned();
    }
    let escaped = word.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Address {
        Address::read(url, &ValkeyTls::default()).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn servers_are_read_from_every_kind_of_address() {
        for (url, place) in [
            ("valkey://cache", "cache:6379"),
            ("redis://[::1]:7000/3", "[::1]:7000"),
            ("valkey-cluster://a:1?node=b:2&node=[::1]:3", "a:1, b:2, [::1]:3"),
            ("redis-sentinel://a?sentinelServiceName=m", "a:26379"),
            ("valkey+unix:///run/valkey.sock?db=2", "/run/valkey.sock"),
            ("unix://localhost/run/valkey.sock", "/run/valkey.sock"),
        ] {
            assert_eq!(read(url).place, place, "{url}");
        }
        assert_eq!(read("valkey+unix:///run/valkey.sock?db=2").config.database, Some(2));
    }

    #[test]
    fn a_password_is_one_word_whatever_it_holds() {
        let address = read("valkey://us%20er:a%20b%22c%C3%A9+%25@cache");
        assert_eq!(address.config.username.as_deref(), Some(r#""us\x20er""#));
        assert_eq!(address.config.password.as_deref(), Some(r#""a\x20b\x22c\xc3\xa9\x2b\x25""#));
        assert!(address.secrets.contains(&"a b\"cé+%".to_owned()), "{:?}", address.secrets);
        assert!(Address::read("valkey://:%FF@cache", &ValkeyTls::default()).is_err());
    }
}

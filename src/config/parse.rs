//! Text to values. Every error ends the sentence "`NAME` is `value`, which …" and says what to write instead. None of
//! them repeats the value: it may be a secret.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use url::Url;

use super::{Secret, secret::Hosts};
use crate::domain::Role;

/// Nothing that Hadir waits for takes longer than a year.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// The shortest secret of HS256 that is worth its name (RFC 7518 section 3.2: at least the size of the hash, 32 bytes).
const SHORTEST_SECRET_CHARS: usize = 32;

/// A duration in seconds, fractions allowed, more than zero.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_zero(text)? {
        zero if zero < Duration::from_millis(1) => Err("is too short: write at least 0.001 seconds".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration in seconds, fractions and zero allowed.
pub fn seconds_or_zero(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a number of seconds: write for example 15 or 0.5".to_owned();
    let value: f64 = text.parse().map_err(|_| wrong())?;
    let duration = Duration::try_from_secs_f64(value).map_err(|_| wrong())?;
    if duration > LONGEST {
        return Err("is too long: write at most a year in seconds, 31622400".to_owned());
    }
    Ok(duration)
}

/// A duration in whole milliseconds, more than zero.
pub fn milliseconds(text: &str) -> Result<Duration, String> {
    let value: u64 =
        text.parse().map_err(|_| "is not a whole number of milliseconds: write for example 250".to_owned())?;
    match Duration::from_millis(value) {
        Duration::ZERO => Err("is too short: write at least 1 millisecond".to_owned()),
        duration if duration > LONGEST => Err("is too long: write at most a year in milliseconds".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration in whole days, more than zero.
pub fn days(text: &str) -> Result<Duration, String> {
    whole::<u64, 1, 3650>(text).map(|days| Duration::from_secs(days * 24 * 3600))
}

/// A whole number within bounds.
pub fn whole<T: TryFrom<u64>, const MIN: u64, const MAX: u64>(text: &str) -> Result<T, String> {
    let value = text.parse::<u64>().ok().filter(|value| (MIN..=MAX).contains(value));
    value
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| format!("is not a whole number from {MIN} to {MAX}: write one of them"))
}

/// `true` or `false`.
pub fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "is neither true nor false: write one of them".to_owned())
}

/// Any text but none.
pub fn text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty: give it a value or remove it".to_owned());
    }
    Ok(text.to_owned())
}

/// Any text, also none.
pub fn any_text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// A path.
pub fn path(path: &str) -> Result<PathBuf, String> {
    text(path).map(PathBuf::from)
}

/// A word for a node: it becomes part of keys, epochs and log lines.
pub fn node_word(word: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !fits {
        return Err("is not a node's word: write 1 to 64 letters, digits, - or _".to_owned());
    }
    Ok(word.to_owned())
}

/// A schema name that needs no quotes (PostgreSQL cuts names at 63 bytes).
pub fn schema(name: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.starts_with("pg_");
    if !fits {
        return Err(
            "is not a plain schema name: write up to 63 lower-case letters, digits or _, not beginning with a \
                    digit or pg_"
                .to_owned(),
        );
    }
    Ok(name.to_owned())
}

/// A secret of HS256.
pub fn signing_secret(secret: &str) -> Result<Secret, String> {
    let chars = secret.chars().count();
    if chars < SHORTEST_SECRET_CHARS {
        return Err(format!(
            "has {chars} characters, fewer than {SHORTEST_SECRET_CHARS}: generate one with `openssl rand -base64 48`"
        ));
    }
    Ok(Secret::new(secret))
}

/// Where public keys are published. Plain http only to this machine: whoever can change the answer
/// can sign tokens.
pub fn key_set_url(text: &str) -> Result<Url, String> {
    const EXAMPLE: &str = "write for example https://id.example.com/.well-known/jwks.json";
    let url = Url::parse(text).map_err(|error| format!("is not a URL ({error}): {EXAMPLE}"))?;
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => return Err(format!("names no host: {EXAMPLE}")),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        "http" => Err(format!("is plain http to another machine, where others could put in keys of theirs: {EXAMPLE}")),
        _ => Err(format!("has another scheme than https: {EXAMPLE}")),
    }
}

/// Foreign words for roles: `partner=mitra,admin=dashboard`.
pub fn role_map(text: &str) -> Result<Vec<(String, Role)>, String> {
    let roles: Vec<(String, Role)> = listed(text)
        .map(|item| {
            let (foreign, own) = item.split_once('=').ok_or_else(|| {
                format!("contains `{item}` without `=`: write foreign=role, for example partner=mitra,admin=dashboard")
            })?;
            let role = own.trim().parse().map_err(|error| format!("contains `{}`: {error}", own.trim()))?;
            Ok((foreign.trim().to_owned(), role))
        })
        .collect::<Result<_, String>>()?;
    for (index, (foreign, _)) in roles.iter().enumerate() {
        if roles[..index].iter().any(|(earlier, _)| earlier == foreign) {
            return Err(format!("maps `{foreign}` twice: keep one"));
        }
    }
    Ok(roles)
}

/// A URL of a PostgreSQL database.
pub fn postgres_url(text: &str) -> Result<Secret, String> {
    let not_a_url = |error| {
        format!("is not a URL ({error}): write postgres://user:password@host:5432/database, or remove it to use SQLite")
    };
    // A primary and those that may become it: host1:5432,host2:5432.
    let urls: Vec<Url> = match Hosts::of(text) {
        Some(hosts) => hosts.each().iter().map(|url| Url::parse(url)).collect::<Result<_, _>>().map_err(not_a_url)?,
        None => vec![Url::parse(text).map_err(not_a_url)?],
    };
    match urls.first().map_or("", Url::scheme) {
        "postgres" | "postgresql" => Ok(Secret::new(text)),
        "sqlite" => {
            Err("names SQLite, which needs no URL: remove it, and set HADIR_DATA_DIR to where the file shall be"
                .to_owned())
        }
        _ => Err("has another scheme than postgres: write postgres://user:password@host:5432/database".to_owned()),
    }
}

/// Exact origins, separated by commas, as browsers send them.
pub fn origins(text: &str) -> Result<Vec<String>, String> {
    listed(text).map(origin).collect()
}

fn origin(text: &str) -> Result<String, String> {
    const EXAMPLE: &str = "write scheme://host or scheme://host:port, for example https://app.example.com";
    if text.contains('*') {
        return Err(format!("contains a wildcard, but origins are compared exactly: {EXAMPLE}, one for each site"));
    }
    let url = Url::parse(text).map_err(|error| format!("contains an origin that is not one ({error}): {EXAMPLE}"))?;
    let bare = url.host_str().is_some_and(|host| !host.is_empty())
        && matches!(url.path(), "" | "/")
        && !text.ends_with('/')
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !bare {
        return Err(format!("contains more than an origin (a path, a trailing /, a user): {EXAMPLE}"));
    }
    // Browsers leave the scheme's own port out; applications with schemes of their own send what is written.
    Ok(match url.origin() {
        origin @ url::Origin::Tuple(..) => origin.ascii_serialization(),
        url::Origin::Opaque(_) => text.to_ascii_lowercase(),
    })
}

/// Networks or single addresses, separated by commas.
pub fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    listed(text)
        .map(|item| {
            item.parse::<IpNet>().or_else(|_| item.parse::<std::net::IpAddr>().map(IpNet::from)).map_err(|_| {
                "contains what is neither a network nor an address: write for example 10.0.0.0/8, 192.0.2.7".to_owned()
            })
        })
        .collect()
}

/// Items between commas; an empty text has none.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

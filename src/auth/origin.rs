//! Which web pages may speak to this server.

use std::collections::HashSet;

use http::{HeaderMap, header};
use parking_lot::Mutex;

/// So many refused origins have a log line; a client that invents more gets none.
const MOST_LOGGED: usize = 100;
/// Longest origin that a log line repeats, bytes.
const LONGEST_LOGGED: usize = 200;

/// Whether the request's `Origin` is allowed: there is none (not a browser), its host is the request's
/// own `Host` (the dashboard, and phone frameworks that send the server's own URL), or it is on the list.
pub fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let origin = origin.to_ascii_lowercase();
    if allowed.contains(&origin) || is_own(&origin, own_host(headers)) {
        return true;
    }
    log_once(&origin, own_host(headers));
    false
}

fn own_host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST).and_then(|host| host.to_str().ok())
}

/// The same host and the same port; a port that is not written is the scheme's own.
fn is_own(origin: &str, host: Option<&str>) -> bool {
    let (Some((scheme, of_origin)), Some(host)) = (origin.split_once("://"), host) else { return false };
    let default = match scheme {
        "https" | "wss" => "443",
        "http" | "ws" => "80",
        // A scheme of an app's own has no port of its own.
        _ => "",
    };
    let host = host.to_ascii_lowercase();
    with_port(of_origin, default) == with_port(&host, default)
}

/// Host and port; brackets around an IPv6 address hold colons that begin no port.
fn with_port<'a>(authority: &'a str, default: &'a str) -> (&'a str, &'a str) {
    let after_brackets = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[after_brackets..].rfind(':') {
        Some(colon) => (&authority[..after_brackets + colon], &authority[after_brackets + colon + 1..]),
        None => (authority, default),
    }
}

/// One line per origin: an operator must learn what to set, and a page that tries on must not fill the log.
fn log_once(origin: &str, host: Option<&str>) {
    static LOGGED: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    if origin.len() > LONGEST_LOGGED {
        return;
    }
    let mut logged = LOGGED.lock();
    let logged = logged.get_or_insert_default();
    if logged.len() < MOST_LOGGED && logged.insert(origin.to_owned()) {
        let host = host.unwrap_or("none").chars().take(LONGEST_LOGGED).collect::<String>();
        tracing::warn!(
            origin,
            host,
            "a page of this origin was refused: add it to HADIR_ALLOWED_ORIGINS, or let the proxy in front pass the Host \
             header on unchanged"
        );
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn allowed(origin: Option<&'static str>, host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        origin_allowed(&headers, &["https://app.example".to_owned()])
    }

    #[test]
    fn no_origin_the_own_host_and_the_list_are_allowed() {
        assert!(allowed(None, "hadir:8080"));
        assert!(allowed(Some("http://hadir:8080"), "hadir:8080"));
        assert!(allowed(Some("https://App.Example"), "hadir:8080"));
    }

    #[test]
    fn an_absent_port_is_the_schemes_own() {
        assert!(allowed(Some("https://presence.example"), "presence.example:443"));
        assert!(allowed(Some("https://presence.example:443"), "presence.example"));
        assert!(allowed(Some("http://presence.example"), "Presence.Example:80"));
        assert!(allowed(Some("https://[2001:db8::1]"), "[2001:db8::1]:443"));
        assert!(!allowed(Some("https://presence.example"), "presence.example:80"));
        assert!(!allowed(Some("http://presence.example"), "presence.example:443"));
        assert!(!allowed(Some("https://presence.example:8443"), "presence.example"));
        assert!(!allowed(Some("https://[2001:db8::1]"), "[2001:db8::2]:443"));
    }

    #[test]
    fn any_other_origin_is_foreign() {
        for origin in ["https://evil.example", "https://app.example.evil", "http://hadir:8081", "null", ""] {
            assert!(!allowed(Some(origin), "hadir:8080"), "{origin}");
        }
    }
}

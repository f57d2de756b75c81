//! Which web pages may speak to this server.

use http::{HeaderMap, header};

/// Whether the request's `Origin` is allowed: there is none (not a browser), its host is the request's own `Host` (the
/// dashboard, and phone frameworks that send the server's own URL), or it is on the list.
pub fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let origin = origin.to_ascii_lowercase();
    if allowed.contains(&origin) {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
    let own = origin.split_once("://").map(|(_, host)| host);
    own.is_some() && own == host.as_deref()
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
    fn any_other_origin_is_foreign() {
        for origin in ["https://evil.example", "https://app.example.evil", "http://hadir:8081", "null", ""] {
            assert!(!allowed(Some(origin), "hadir:8080"), "{origin}");
        }
    }
}

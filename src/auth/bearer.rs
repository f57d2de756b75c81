//! Where a request carries its token: the `Authorization` header, or the offered WebSocket subprotocols. Never the query,
//! which ends in logs and histories.

use http::{HeaderMap, header};

use crate::protocol::{BEARER_SUBPROTOCOL_PREFIX, SUBPROTOCOL};

/// Query keys that mean somebody put a token there.
const TOKEN_QUERY_KEYS: [&str; 3] = ["token", "access_token", "jwt"];

/// A token as it was presented. Where it was decides how a bad one is answered: in the header by HTTP status, in the
/// subprotocol by a close code, because a browser cannot read the status of a refused upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// None yet; a socket may send it as its first message.
    Nothing,
    /// In `Authorization: Bearer`. Empty when the header is there but is not that, which no verifier accepts.
    Header(&'a str),
    /// In `Sec-WebSocket-Protocol: hadir.v1, hadir.bearer.<jwt>`. Empty when two were offered.
    Subprotocol(&'a str),
}

/// The token of a request. The header wins over the subprotocol.
pub fn presented(headers: &HeaderMap) -> Presented<'_> {
    let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(value) = authorizations.next() {
        let token = value.to_str().ok().and_then(bearer).filter(|_| authorizations.next().is_none());
        return Presented::Header(token.unwrap_or_default());
    }
    let mut tokens = offered(headers).filter_map(|word| word.strip_prefix(BEARER_SUBPROTOCOL_PREFIX));
    match (tokens.next(), tokens.next()) {
        (None, _) => Presented::Nothing,
        (Some(token), None) => Presented::Subprotocol(token),
        (Some(_), Some(_)) => Presented::Subprotocol(""),
    }
}

/// Whether the client offers our subprotocol, which is then the answer.
pub fn speaks_subprotocol(headers: &HeaderMap) -> bool {
    offered(headers).any(|word| word == SUBPROTOCOL)
}

/// Whether a query string has a key that names a token. Such a request is refused, the token good or not.
pub fn query_carries_token(query: Option<&str>) -> bool {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .any(|(key, _)| TOKEN_QUERY_KEYS.iter().any(|name| key.eq_ignore_ascii_case(name)))
}

/// The scheme is case-insensitive (RFC 9110 section 11.1), one or more blanks follow (RFC 6750 section 2.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const AUTHORIZATION: HeaderName = header::AUTHORIZATION;
    const PROTOCOL: HeaderName = header::SEC_WEBSOCKET_PROTOCOL;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_token_is_found_where_it_may_be_and_nowhere_else() {
        let cases: &[(&[(HeaderName, &'static str)], Presented<'_>)] = &[
            (&[], Presented::Nothing),
            (&[(AUTHORIZATION, "Bearer a.b.c")], Presented::Header("a.b.c")),
            (&[(AUTHORIZATION, "bearer   a.b.c ")], Presented::Header("a.b.c")),
            (&[(AUTHORIZATION, "Basic YTpi")], Presented::Header("")),
            (&[(AUTHORIZATION, "Bearer")], Presented::Header("")),
            (&[(AUTHORIZATION, "a.b.c")], Presented::Header("")),
            (&[(AUTHORIZATION, "Bearer a.b.c"), (AUTHORIZATION, "Bearer d.e.f")], Presented::Header("")),
            (&[(PROTOCOL, "hadir.v1")], Presented::Nothing),
            (&[(PROTOCOL, "hadir.v1, hadir.bearer.a.b.c")], Presented::Subprotocol("a.b.c")),
            (&[(PROTOCOL, "hadir.v1"), (PROTOCOL, "hadir.bearer.a.b.c")], Presented::Subprotocol("a.b.c")),
            (&[(PROTOCOL, "hadir.bearer.a,hadir.bearer.b")], Presented::Subprotocol("")),
            (&[(AUTHORIZATION, "Bearer h"), (PROTOCOL, "hadir.bearer.p")], Presented::Header("h")),
        ];
        for (pairs, expected) in cases {
            assert_eq!(presented(&headers(pairs)), *expected, "{pairs:?}");
        }
    }

    #[test]
    fn our_subprotocol_is_recognised_among_others() {
        assert!(speaks_subprotocol(&headers(&[(PROTOCOL, "mqtt, hadir.v1")])));
        assert!(!speaks_subprotocol(&headers(&[(PROTOCOL, "hadir.v2, hadir.bearer.hadir.v1")])));
        assert!(!speaks_subprotocol(&headers(&[])));
    }

    #[test]
    fn a_token_in_the_query_is_noticed_however_it_is_spelled() {
        for query in ["token=x", "a=b&access_token=x", "jwt", "TOKEN=x", "%74oken=x", "a&token"] {
            assert!(query_carries_token(Some(query)), "{query}");
        }
        for query in [None, Some(""), Some("tokens=1"), Some("q=token"), Some("limit=50&cursor=token%3Dx")] {
            assert!(!query_carries_token(query), "{query:?}");
        }
    }
}

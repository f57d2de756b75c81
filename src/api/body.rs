//! Bodies and queries that are read strictly, and our own words for one that cannot be read. A value is never repeated: it
//! may be a token.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request},
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use http_body::Body as _;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use tokio::time::timeout;

use super::{Api, ApiError};
use crate::protocol::{ErrorCode, Problem};

/// The longest part of a caller's own field name that an answer repeats.
const MAX_NAME: usize = 64;

/// A JSON body: in the configured time, at most the configured bytes, JSON by its own word, no unknown field.
pub struct Strict<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Strict<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let headers = request.headers().clone();
        let reading = Bytes::from_request(request, api);
        let Ok(read) = timeout(api.settings.body_timeout, reading).await else {
            let late = Problem::new(ErrorCode::BadRequest, "the body did not arrive in time");
            return Err(late.with_status(StatusCode::REQUEST_TIMEOUT).into());
        };
        let body = match read {
            Ok(body) => body,
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(Problem::new(ErrorCode::TooLarge, "the body is larger than this server takes").into());
            }
            Err(_) => return Err(ApiError::bad_request("the body broke off while it was read")),
        };
        if body.trim_ascii().is_empty() {
            // A body that is missing lacks its first required field: the answer says which.
            return read_body(b"{}").map(Self).map_err(ApiError::bad_request);
        }
        if !says_json(&headers) {
            let detail = "the body is JSON: send it with the header `Content-Type: application/json`";
            return Err(ApiError::bad_request(detail));
        }
        read_body(&body).map(Self).map_err(ApiError::bad_request)
    }
}

/// The same where everything in the body is optional: an empty body is an empty object.
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Api> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        Strict::from_request(request, api).await.map(|Strict(body)| Self(body))
    }
}

/// The query, without unknown keys.
pub struct InQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for InQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(ApiError::bad_request("the query may not hold the character NUL"));
        }
        let Query(value) = Query::<T>::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::bad_request(wrong_query(&error.body_text())))?;
        Ok(Self(value))
    }
}

/// Whether a JSON text holds the character NUL. After a backslash that is itself escaped, `u0000` is plain letters.
fn writes_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

fn says_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Reads a JSON object, or says in a sentence what is wrong with it.
fn read_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    // Postgres keeps no such character.
    if writes_nul(body) {
        return Err("text may not hold the character NUL".to_owned());
    }
    let first = body.trim_ascii_start().first();
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize::<_, T>(&mut reader);
    // Fields are told apart by their names, never by their places in a list.
    let is_object = first == Some(&b'{');
    match read {
        Ok(value) if is_object => reader.end().map(|()| value).map_err(|error| broken_json(&error)),
        Ok(_) => Err("the body is a JSON object".to_owned()),
        Err(error) => {
            let path = error.path().to_string();
            let error = error.into_inner();
            Err(match error.classify() {
                Category::Data if !is_object => "the body is a JSON object".to_owned(),
                // An enum that meets a number calls that broken JSON: ask whether it is.
                Category::Syntax | Category::Eof | Category::Io
                    if serde_json::from_slice::<IgnoredAny>(body).is_err() =>
                {
                    broken_json(&error)
                }
                _ => wrong_field(&path, &error.to_string()),
            })
        }
    }
}

fn broken_json(error: &serde_json::Error) -> String {
    if error.to_string().starts_with("recursion limit exceeded") {
        return "the body is nested too deeply".to_owned();
    }
    format!("the body is not JSON: it breaks at line {}, column {}", error.line(), error.column())
}

/// What axum says of a query, in our words: it writes the path before what `serde` says.
fn wrong_query(text: &str) -> String {
    let said = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    let is_name =
        |path: &str| !path.is_empty() && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let (path, said) = said.split_once(": ").filter(|(path, _)| is_name(path)).unwrap_or(("", said));
    format!("the query is wrong: {}", wrong_field(path, said))
}

/// What `serde` says of a field, in our words.
fn wrong_field(path: &str, said: &str) -> String {
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().chars().take(MAX_NAME).collect::<String>();
    if said.starts_with("missing field") {
        return format!("the field `{}` is missing", quoted(said));
    }
    if said.starts_with("duplicate field") {
        return format!("the field `{}` is there twice", quoted(said));
    }
    if said.starts_with("unknown field") {
        let known = named(said);
        let known = if known.is_empty() { "none".to_owned() } else { known };
        return format!("the field `{}` is unknown; known here: {known}", quoted(said));
    }
    // Bodies are flat: the rest of the path is about the value.
    let field: String = path.split('.').next().unwrap_or_default().chars().take(MAX_NAME).collect();
    format!("the field `{field}` is wrong: {}", expected(said))
}

/// The names that `serde` expected: after the last of these words, where nothing of the caller's stands.
fn named(said: &str) -> String {
    let wanted = said.rsplit_once(", expected ").map_or("", |(_, wanted)| wanted);
    let names: Vec<String> = wanted.split('`').skip(1).step_by(2).map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn expected(said: &str) -> String {
    if said.starts_with("unknown variant") {
        return format!("it must be one of {}", named(said));
    }
    let wanted = said.rsplit_once("expected ").map_or("", |(_, wanted)| wanted);
    match wanted.split(" at line").next().unwrap_or_default() {
        "f64" => "it must be a number",
        "u32" => "it must be a whole number, 0 or more",
        "a boolean" => "it must be true or false",
        "a string" => "it must be a text",
        _ if said.contains("UUID") => "it must be a UUID",
        // A number of a query, which is text.
        _ if said.contains("digit") || said.contains("integer") || said.starts_with("number too") => {
            "it must be a whole number, 0 or more"
        }
        _ => "it has the wrong type or is out of range",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{read_body, writes_nul, wrong_query};

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Paid,
        Pending,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Sent {
        seconds: f64,
        id: Option<uuid::Uuid>,
        count: Option<u32>,
        kind: Option<Kind>,
        name: Option<String>,
        so: Option<bool>,
    }

    #[test]
    fn what_is_wrong_is_said_in_our_words_with_the_name_of_the_field() {
        let deep = format!(r#"{{"seconds":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
        for (body, words) in [
            ("{}", "the field `seconds` is missing"),
            ("nonsense", "the body is not JSON: it breaks at line 1, column 2"),
            (r#"{"seconds":1"#, "the body is not JSON: it breaks at line 1, column 12"),
            (r#"{"seconds":1} x"#, "the body is not JSON: it breaks at line 1, column 15"),
            ("[1]", "the body is a JSON object"),
            ("null", "the body is a JSON object"),
            (&deep, "the field `seconds` is wrong: it must be a number"),
            (r#"{"seconds":1,"seconds":1}"#, "the field `seconds` is there twice"),
            (r#"{"seconds":"secret"}"#, "the field `seconds` is wrong: it must be a number"),
            (r#"{"seconds":1,"id":"secret"}"#, "the field `id` is wrong: it must be a UUID"),
            (r#"{"seconds":1,"id":7}"#, "the field `id` is wrong: it must be a UUID"),
            (r#"{"seconds":1,"count":-1}"#, "the field `count` is wrong: it must be a whole number, 0 or more"),
            (r#"{"seconds":1,"kind":"a`b`c"}"#, "the field `kind` is wrong: it must be one of `paid`, `pending`"),
            (r#"{"seconds":1,"kind":true}"#, "the field `kind` is wrong: it has the wrong type or is out of range"),
            (r#"{"seconds":1,"name":7}"#, "the field `name` is wrong: it must be a text"),
            (r#"{"seconds":1,"so":7}"#, "the field `so` is wrong: it must be true or false"),
            (
                r#"{"seconds":1,"colour":1}"#,
                "the field `colour` is unknown; known here: `seconds`, `id`, `count`, `kind`, `name`, `so`",
            ),
        ] {
            assert_eq!(read_body::<Sent>(body.as_bytes()).expect_err(body), words, "{body}");
        }
        read_body::<Sent>(br#" {"seconds":1.5} "#).expect("read");
    }

    #[test]
    fn a_wrong_query_is_told_in_the_same_words() {
        for (said, words) in [
            (
                "limit: invalid digit found in string",
                "the field `limit` is wrong: it must be a whole number, 0 or more",
            ),
            (
                "limit: number too large to fit in target type",
                "the field `limit` is wrong: it must be a whole number, 0 or more",
            ),
            ("duplicate field `limit`", "the field `limit` is there twice"),
            (
                "colour: unknown field `colour`, expected `limit` or `state`",
                "the field `colour` is unknown; known here: `limit`, `state`",
            ),
        ] {
            let text = format!("Failed to deserialize query string: {said}");
            assert_eq!(wrong_query(&text), format!("the query is wrong: {words}"));
        }
    }

    #[test]
    fn a_nul_is_told_from_a_backslash_before_the_same_letters() {
        for nul in [r#""\u0000""#, r#""a\\\u0000""#, r#""\n\u0000b""#] {
            assert!(writes_nul(nul.as_bytes()), "{nul}");
        }
        for text in [r#""\\u0000""#, r#""\\\\u0000""#, r#""u0000""#, r#""\u0001""#, r#""a\"#] {
            assert!(!writes_nul(text.as_bytes()), "{text}");
        }
    }
}

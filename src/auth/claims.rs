//! From the claims of a token whose signature is right to a [`Principal`]: which claim says what, and
//! what each must look like.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{InvalidToken, Principal, refusal::quoted, verifier::LEEWAY};
use crate::{
    config::AuthConfig,
    domain::{Role, SubjectId},
};

/// 9999-12-31T23:59:59Z in seconds since 1970: later times are nonsense.
const LATEST_EXP: f64 = 253_402_300_799.0;

/// Longest name of an operator, characters.
const LONGEST_NAME: usize = 64;

/// The claims of one token.
pub(super) type Claims = Map<String, Value>;

/// Who signed a token decides whose words it uses for roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignedBy {
    /// The shared secret: Hadir's own words, and the mapped ones.
    Secret,
    /// A public key: the mapped words only, where there is a map.
    PublicKey,
}

/// Where tokens carry the subject and the role, and what foreign role names mean.
pub(super) struct ClaimNames {
    subject: String,
    role: String,
    roles: Vec<(String, Role)>,
}

impl ClaimNames {
    pub(super) fn new(config: &AuthConfig) -> Self {
        Self { subject: config.claim_subject.clone(), role: config.claim_role.clone(), roles: config.role_map.clone() }
    }

    /// For whom these claims speak at `now`.
    pub(super) fn principal(
        &self,
        claims: &Claims,
        signed_by: SignedBy,
        now: DateTime<Utc>,
    ) -> Result<Principal, InvalidToken> {
        let expires_at = instant("exp", claims.get("exp").ok_or(InvalidToken::Missing("exp".to_owned()))?)?;
        if now >= expires_at + LEEWAY {
            return Err(InvalidToken::Expired(expires_at));
        }
        if let Some(value) = present(claims, "nbf") {
            let not_before = instant("nbf", value)?;
            if now + LEEWAY < not_before {
                return Err(InvalidToken::NotYet(not_before));
            }
        }
        let subject = self.find(claims, &self.subject, "sub", signed_by)?;
        let role = self.role(self.find(claims, &self.role, "role", signed_by)?, signed_by)?;
        let read_only = read_only(claims)?;
        if read_only && role != Role::Dashboard {
            return Err(InvalidToken::wrong("read_only", "is for the role dashboard only"));
        }
        Ok(Principal {
            subject: SubjectId(uuid(&self.subject, subject)?),
            role,
            // Other roles act as themselves, and their providers may write any name.
            name: if role == Role::Dashboard { name(claims)? } else { None },
            read_only,
            expires_at,
            session_id: present(claims, "sid").map(|value| uuid("sid", value)).transpose()?,
        })
    }

    /// The configured claim. A token of our own secret may use the standard one: `hadir token` does.
    fn find<'a>(
        &self,
        claims: &'a Claims,
        configured: &str,
        standard: &str,
        signed_by: SignedBy,
    ) -> Result<&'a Value, InvalidToken> {
        let found = at_path(claims, configured);
        let found = if signed_by == SignedBy::Secret { found.or_else(|| claims.get(standard)) } else { found };
        found.ok_or_else(|| InvalidToken::Missing(configured.to_owned()))
    }

    /// One text, or a list of texts of which exactly one role is meant.
    fn role(&self, value: &Value, signed_by: SignedBy) -> Result<Role, InvalidToken> {
        let words: Vec<&str> = match value {
            Value::String(word) => vec![word],
            Value::Array(items) if !self.roles.is_empty() => items.iter().filter_map(Value::as_str).collect(),
            _ => return Err(InvalidToken::wrong(&self.role, "is not a text")),
        };
        let mut meant: Option<Role> = None;
        for role in words.iter().filter_map(|word| self.meaning(word, signed_by)) {
            if meant.is_some_and(|other| other != role) {
                return Err(InvalidToken::wrong(&self.role, "names more than one of Hadir's roles"));
            }
            meant = Some(role);
        }
        meant.ok_or_else(|| {
            let shown = quoted(&words.join(", "));
            InvalidToken::wrong(
                &self.role,
                format!("is `{shown}`, which is no role of Hadir's (AUTH_ROLE_MAP maps others)"),
            )
        })
    }

    fn meaning(&self, word: &str, signed_by: SignedBy) -> Option<Role> {
        let mapped = self.roles.iter().find(|(foreign, _)| foreign == word).map(|(_, role)| *role);
        // Where there is a map, a foreign issuer may use our words for something else.
        let own_words = self.roles.is_empty() || signed_by == SignedBy::Secret;
        mapped.or_else(|| if own_words { word.parse().ok() } else { None })
    }
}

/// A claim that is there and is not null.
fn present<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).filter(|value| !value.is_null())
}

/// The value at a dotted path. A claim's own name may have dots (Auth0's are URLs), so that each dot
/// may or may not be a step.
fn at_path<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let inner = claims.get(&path[..dot])?.as_object()?;
        at_path(inner, &path[dot + 1..])
    })
}

/// RFC 7519's NumericDate: seconds since 1970, fractions allowed.
fn instant(claim: &str, value: &Value) -> Result<DateTime<Utc>, InvalidToken> {
    let seconds = value.as_f64().ok_or_else(|| InvalidToken::wrong(claim, "is not a number of seconds since 1970"))?;
    let beyond = || InvalidToken::wrong(claim, "is no time in seconds since 1970 (milliseconds are too large)");
    if !(0.0..=LATEST_EXP).contains(&seconds) {
        return Err(beyond());
    }
    // In range by the line above, so the cast neither wraps nor saturates.
    DateTime::from_timestamp_millis((seconds * 1000.0) as i64).ok_or_else(beyond)
}

/// The name of an operator. It stands in events and log lines, where it must neither break a line nor turn its direction.
fn name(claims: &Claims) -> Result<Option<Arc<str>>, InvalidToken> {
    let Some(value) = present(claims, "name") else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| InvalidToken::wrong("name", "is not a text"))?.trim();
    if let Some(why) = name_complaint(text) {
        return Err(InvalidToken::wrong("name", why));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

/// What is wrong with the name of an operator.
pub(super) fn name_complaint(name: &str) -> Option<String> {
    let turns = |letter: char| matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if name.chars().count() > LONGEST_NAME {
        return Some(format!("has more than {LONGEST_NAME} characters"));
    }
    name.chars().any(|letter| letter.is_control() || turns(letter)).then(|| "has control characters".to_owned())
}

fn read_only(claims: &Claims) -> Result<bool, InvalidToken> {
    let Some(value) = present(claims, "read_only") else { return Ok(false) };
    value.as_bool().ok_or_else(|| InvalidToken::wrong("read_only", "is neither true nor false"))
}

/// The common form with dashes only: the parser also takes braces and URNs, which are other strings
/// for other programs.
fn uuid(claim: &str, value: &Value) -> Result<Uuid, InvalidToken> {
    let text = value.as_str().filter(|text| text.len() == uuid::fmt::Hyphenated::LENGTH);
    text.and_then(|text| Uuid::try_parse(text).ok())
        .ok_or_else(|| InvalidToken::wrong(claim, "is not a UUID with dashes"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    fn principal(more: Value) -> Result<Principal, InvalidToken> {
        let mut claims = json!({ "sub": Uuid::nil(), "role": "dashboard", "exp": 1_800_000_060 });
        claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let Value::Object(claims) = claims else { panic!("an object") };
        let names = ClaimNames::new(&Config::from_pairs(&[]).expect("valid").auth);
        names.principal(&claims, SignedBy::Secret, DateTime::from_timestamp(1_800_000_000, 0).expect("in range"))
    }

    #[test]
    fn an_operator_has_a_name_of_bounded_plain_text() {
        let name = |value: Value| principal(json!({ "name": value })).map(|principal| principal.name);
        assert_eq!(name(json!(" Sari Dewi ")).expect("good").as_deref(), Some("Sari Dewi"));
        assert_eq!(name(json!("é".repeat(64))).expect("good").as_deref(), Some("é".repeat(64).as_str()));
        assert_eq!(name(Value::Null), Ok(None));
        assert_eq!(name(json!(" ")), Ok(None));
        for bad in [json!("a".repeat(65)), json!("a\nb"), json!("a\u{0}"), json!("a\u{202e}b"), json!(7), json!(["a"])]
        {
            assert!(name(bad.clone()).is_err(), "{bad}");
        }
        let mitra = principal(json!({ "role": "mitra", "name": "a\nb" })).expect("providers write any name");
        assert_eq!(mitra.name, None);
    }

    #[test]
    fn read_only_is_a_truth_value_of_a_dashboard_token() {
        let read_only = |more: Value| principal(more).map(|principal| principal.read_only);
        assert_eq!(read_only(json!({})), Ok(false));
        assert_eq!(read_only(json!({ "read_only": false, "role": "service" })), Ok(false));
        assert_eq!(read_only(json!({ "read_only": true })), Ok(true));
        // A token that means to be harmless must not be taken for one that is not.
        for bad in
            [json!({ "read_only": "true" }), json!({ "read_only": 1 }), json!({ "read_only": true, "role": "service" })]
        {
            assert!(read_only(bad.clone()).is_err(), "{bad}");
        }
    }
}

//! From the text of a token to a [`Principal`], or one opaque refusal.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    config::AuthConfig,
    domain::{Role, SubjectId},
};

use super::{Principal, SecretError, secret};

/// Longer tokens are refused before anything is decoded. Ours have about 250 bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// Difference of clocks that is forgiven, at `exp` and `nbf`.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// 9999-12-31T23:59:59Z in seconds since 1970: later times are nonsense.
const LATEST_EXP: f64 = 253_402_300_799.0;

/// The token is not good. One answer for every reason, so that nobody learns which part to improve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid")]
pub struct InvalidToken;

/// Verifies tokens with the current and the previous secret. Keys are built once; cloning shares them.
#[derive(Clone)]
pub struct TokenVerifier {
    inner: Arc<Inner>,
}

struct Inner {
    /// One algorithm per key, whatever a token's header says.
    keys: Vec<(DecodingKey, Validation)>,
}

#[derive(Deserialize)]
struct ReadClaims {
    sub: String,
    role: String,
    exp: f64,
    nbf: Option<f64>,
    sid: Option<String>,
}

impl TokenVerifier {
    /// Builds the keys; reads or creates the generated secret when none is configured.
    pub fn new(config: &AuthConfig) -> Result<Self, SecretError> {
        let current = secret::resolve(config)?;
        let keys = [Some(&current), config.previous_secret.as_ref()]
            .into_iter()
            .flatten()
            .map(|secret| (DecodingKey::from_secret(secret.expose().as_bytes()), validation(config)))
            .collect();
        Ok(Self { inner: Arc::new(Inner { keys }) })
    }

    /// Whether the token is good now.
    pub fn verify(&self, token: &str) -> Result<Principal, InvalidToken> {
        self.verify_at(token, Utc::now())
    }

    /// Whether the token is good at `now`.
    pub fn verify_at(&self, token: &str, now: DateTime<Utc>) -> Result<Principal, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken);
        }
        let decoded = self
            .inner
            .keys
            .iter()
            .find_map(|(key, validation)| jsonwebtoken::decode::<ReadClaims>(token, key, validation).ok())
            .ok_or(InvalidToken)?;
        // RFC 7515 section 4.1.11: a critical extension that is not understood refuses the token; we understand none.
        if decoded.header.crit.is_some() {
            return Err(InvalidToken);
        }
        principal(&decoded.claims, now)
    }
}

/// The library skips what is missing or of the wrong type unless it is listed as required, and is told to leave the
/// clock alone: times are compared below, with the caller's `now`.
fn validation(config: &AuthConfig) -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    let mut required = vec!["exp", "sub"];
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = config.audience.is_some();
    if let Some(issuer) = &config.issuer {
        required.push("iss");
        validation.set_issuer(&[issuer]);
    }
    if let Some(audience) = &config.audience {
        required.push("aud");
        validation.set_audience(&[audience]);
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn principal(claims: &ReadClaims, now: DateTime<Utc>) -> Result<Principal, InvalidToken> {
    let expires_at = instant(claims.exp)?;
    if now >= expires_at + LEEWAY {
        return Err(InvalidToken);
    }
    if let Some(not_before) = claims.nbf
        && now + LEEWAY < instant(not_before)?
    {
        return Err(InvalidToken);
    }
    Ok(Principal {
        subject: SubjectId(uuid(&claims.sub)?),
        role: claims.role.parse::<Role>().map_err(|_| InvalidToken)?,
        expires_at,
        session_id: claims.sid.as_deref().map(uuid).transpose()?,
    })
}

/// RFC 7519's NumericDate: seconds since 1970, fractions allowed.
fn instant(seconds: f64) -> Result<DateTime<Utc>, InvalidToken> {
    if !(0.0..=LATEST_EXP).contains(&seconds) {
        return Err(InvalidToken);
    }
    // In range by the line above, so the cast neither wraps nor saturates.
    DateTime::from_timestamp_millis((seconds * 1000.0) as i64).ok_or(InvalidToken)
}

/// The common form with dashes only: the parser also takes braces and URNs, which are other strings for other programs.
fn uuid(text: &str) -> Result<Uuid, InvalidToken> {
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return Err(InvalidToken);
    }
    Uuid::try_parse(text).map_err(|_| InvalidToken)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        auth::{Grant, TokenIssuer},
        config::Config,
    };

    const SECRET: &str = "the current secret, 32 characters";
    const PREVIOUS: &str = "the previous secret, 32 characters";
    const SUB: &str = "018f3c1e-7b5a-7c3d-9e2f-1a2b3c4d5e6f";

    fn config(pairs: &[(&str, &str)]) -> AuthConfig {
        let pairs = [&[("AUTH_JWT_SECRET", SECRET)], pairs].concat();
        Config::from_pairs(&pairs).expect("valid").auth
    }

    fn verifier(pairs: &[(&str, &str)]) -> TokenVerifier {
        TokenVerifier::new(&config(pairs)).expect("a configured secret")
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("in range")
    }

    fn good() -> Value {
        json!({ "sub": SUB, "role": "mitra", "exp": 1_800_000_060 })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().expect("an object").remove(name);
        claims
    }

    fn signed(header: &Header, claims: &Value, secret: &str) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("signed")
    }

    /// Base64url of header and claims, signed with nothing or with what is given.
    fn assembled(header: &str, claims: &str, signature: &str) -> String {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
        format!("{}.{}.{signature}", BASE64.encode(header), BASE64.encode(claims))
    }

    /// A correct HS256 signature over a header and claims that no library would write.
    fn signed_by_hand(header: &str, claims: &str) -> String {
        let message = assembled(header, claims, "");
        let message = message.trim_end_matches('.');
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signed");
        format!("{message}.{signature}")
    }

    #[test]
    fn a_good_token_says_for_whom_it_speaks() {
        let sid = "018f3c1e-7b5a-7c3d-9e2f-000000000001";
        for role in Role::ALL {
            let claims = json!({ "sub": SUB, "role": role.as_str(), "exp": 1_800_000_060.5, "sid": sid, "more": [1] });
            let principal = verifier(&[]).verify_at(&signed(&Header::default(), &claims, SECRET), now()).expect("good");
            assert_eq!(principal.subject.to_string(), SUB);
            assert_eq!(principal.role, role);
            assert_eq!(principal.expires_at.timestamp_millis(), 1_800_000_060_500);
            assert_eq!(principal.session_id.map(|sid| sid.to_string()).as_deref(), Some(sid));
            assert_eq!(principal.mitra().is_some(), role == Role::Mitra);
        }
    }

    #[test]
    fn every_bad_token_gets_the_same_refusal() {
        let claims = good().to_string();
        let hs256 = r#"{"typ":"JWT","alg":"HS256"}"#;
        let fine = signed(&Header::default(), &good(), SECRET);
        let (head, signature) = fine.rsplit_once('.').expect("three parts");
        let cases: Vec<(&str, String)> = vec![
            ("empty", String::new()),
            ("not a token", "hello".to_owned()),
            ("two parts", head.to_owned()),
            ("four parts", format!("{fine}.x")),
            ("no signature", format!("{head}.")),
            ("half a signature", format!("{head}.{}", &signature[..20])),
            ("not base64", "a*b.c*d.e*f".to_owned()),
            ("blanks around", format!(" {fine}")),
            ("not ASCII", "é.é.é".to_owned()),
            ("another secret", signed(&Header::default(), &good(), "another secret of 32 characters!!")),
            ("changed claims", {
                let other = signed(&Header::default(), &with("role", json!("service")), SECRET);
                let payload = other.split('.').nth(1).expect("claims");
                let mut parts: Vec<&str> = fine.split('.').collect();
                parts[1] = payload;
                parts.join(".")
            }),
            ("alg none", assembled(r#"{"typ":"JWT","alg":"none"}"#, &claims, "")),
            ("alg None, signed", signed_by_hand(r#"{"typ":"JWT","alg":"None"}"#, &claims)),
            ("alg missing", signed_by_hand(r#"{"typ":"JWT"}"#, &claims)),
            ("RS256 header, HMAC signature", signed_by_hand(r#"{"typ":"JWT","alg":"RS256"}"#, &claims)),
            ("ES256 header, HMAC signature", signed_by_hand(r#"{"typ":"JWT","alg":"ES256"}"#, &claims)),
            ("HS512", signed(&Header::new(Algorithm::HS512), &good(), SECRET)),
            ("HS384", signed(&Header::new(Algorithm::HS384), &good(), SECRET)),
            ("a critical extension", signed_by_hand(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, &claims)),
            ("header not JSON", signed_by_hand("{", &claims)),
            ("claims not JSON", signed_by_hand(hs256, "{")),
            ("claims a list", signed_by_hand(hs256, "[]")),
            ("claims null", signed_by_hand(hs256, "null")),
            ("sub twice", signed_by_hand(hs256, &claims.replacen('{', &format!("{{\"sub\":\"{SUB}\","), 1))),
            ("expired", signed(&Header::default(), &with("exp", json!(1_799_999_995)), SECRET)),
            ("exp missing", signed(&Header::default(), &without("exp"), SECRET)),
            ("exp null", signed(&Header::default(), &with("exp", Value::Null), SECRET)),
            ("exp a text", signed(&Header::default(), &with("exp", json!("1800000060")), SECRET)),
            ("exp negative", signed(&Header::default(), &with("exp", json!(-1)), SECRET)),
            ("exp beyond all time", signed(&Header::default(), &with("exp", json!(u64::MAX)), SECRET)),
            ("exp in milliseconds", signed(&Header::default(), &with("exp", json!(1_800_000_060_000_u64)), SECRET)),
            ("not before later", signed(&Header::default(), &with("nbf", json!(1_800_000_006)), SECRET)),
            ("not before a text", signed(&Header::default(), &with("nbf", json!("now")), SECRET)),
            ("sub missing", signed(&Header::default(), &without("sub"), SECRET)),
            ("sub a number", signed(&Header::default(), &with("sub", json!(7)), SECRET)),
            ("sub a list", signed(&Header::default(), &with("sub", json!([SUB])), SECRET)),
            ("sub not a UUID", signed(&Header::default(), &with("sub", json!("mitra-7")), SECRET)),
            ("sub in braces", signed(&Header::default(), &with("sub", json!(format!("{{{SUB}}}"))), SECRET)),
            ("sub without dashes", signed(&Header::default(), &with("sub", json!(SUB.replace('-', ""))), SECRET)),
            ("role missing", signed(&Header::default(), &without("role"), SECRET)),
            ("role unknown", signed(&Header::default(), &with("role", json!("admin")), SECRET)),
            ("role in capitals", signed(&Header::default(), &with("role", json!("Mitra")), SECRET)),
            ("role a list", signed(&Header::default(), &with("role", json!(["mitra"])), SECRET)),
            ("sid not a UUID", signed(&Header::default(), &with("sid", json!("1")), SECRET)),
            ("sid a number", signed(&Header::default(), &with("sid", json!(1)), SECRET)),
        ];
        let verifier = verifier(&[]);
        assert!(verifier.verify_at(&fine, now()).is_ok(), "the one that the others are bent from is good");
        for (what, token) in cases {
            assert_eq!(verifier.verify_at(&token, now()), Err(InvalidToken), "{what}");
        }
    }

    #[test]
    fn a_token_larger_than_4_kib_is_refused_though_its_signature_is_right() {
        let just = |length: usize| signed(&Header::default(), &with("more", json!("x".repeat(length))), SECRET);
        let verifier = verifier(&[]);
        let (small, large) = (just(2800), just(3000));
        assert!(small.len() <= MAX_TOKEN_BYTES && large.len() > MAX_TOKEN_BYTES);
        assert!(verifier.verify_at(&small, now()).is_ok());
        assert_eq!(verifier.verify_at(&large, now()), Err(InvalidToken));
    }

    #[test]
    fn clocks_may_differ_by_five_seconds_and_no_more() {
        let verifier = verifier(&[]);
        let at =
            |name: &str, seconds: i64| signed(&Header::default(), &with(name, json!(1_800_000_000 + seconds)), SECRET);
        assert!(verifier.verify_at(&at("exp", -4), now()).is_ok());
        assert_eq!(verifier.verify_at(&at("exp", -5), now()), Err(InvalidToken));
        assert!(verifier.verify_at(&at("nbf", 5), now()).is_ok());
        assert_eq!(verifier.verify_at(&at("nbf", 6), now()), Err(InvalidToken));
    }

    #[test]
    fn both_secrets_verify_while_one_is_being_rotated() {
        let rotating = verifier(&[("AUTH_JWT_SECRET_PREVIOUS", PREVIOUS)]);
        let (new, old) = (signed(&Header::default(), &good(), SECRET), signed(&Header::default(), &good(), PREVIOUS));
        assert!(rotating.verify_at(&new, now()).is_ok());
        assert!(rotating.verify_at(&old, now()).is_ok());
        assert_eq!(verifier(&[]).verify_at(&old, now()), Err(InvalidToken));
    }

    #[test]
    fn issuer_and_audience_are_required_exactly_when_configured() {
        let plain = verifier(&[]);
        let strict = verifier(&[("AUTH_JWT_ISSUER", "https://id.example"), ("AUTH_JWT_AUDIENCE", "hadir")]);
        let token = |iss: Value, aud: Value| {
            let mut claims = good();
            for (name, value) in [("iss", iss), ("aud", aud)] {
                if !value.is_null() {
                    claims[name] = value;
                }
            }
            signed(&Header::default(), &claims, SECRET)
        };
        let (iss, aud) = (json!("https://id.example"), json!("hadir"));
        assert!(strict.verify_at(&token(iss.clone(), aud.clone()), now()).is_ok());
        assert!(strict.verify_at(&token(iss.clone(), json!(["other", "hadir"])), now()).is_ok());
        for (wrong_iss, wrong_aud) in [
            (Value::Null, aud.clone()),
            (iss.clone(), Value::Null),
            (json!("https://evil.example"), aud.clone()),
            (iss.clone(), json!("other")),
            (iss.clone(), json!([])),
            (iss.clone(), json!(7)),
            (json!(7), aud.clone()),
        ] {
            let token = token(wrong_iss.clone(), wrong_aud.clone());
            assert_eq!(strict.verify_at(&token, now()), Err(InvalidToken), "{wrong_iss} {wrong_aud}");
        }
        assert!(plain.verify_at(&token(json!("anybody"), json!("anything")), now()).is_ok());
    }

    #[test]
    fn what_is_issued_verifies_with_its_exact_life() {
        let config = config(&[("AUTH_JWT_ISSUER", "hadir"), ("AUTH_JWT_AUDIENCE", "hadir")]);
        let issuer = TokenIssuer::new(&config).expect("a configured secret");
        let grant = Grant {
            subject: SubjectId(Uuid::try_parse(SUB).expect("a UUID")),
            role: Role::Service,
            session_id: Some(Uuid::nil()),
            ttl: Duration::from_millis(1500),
        };
        let verifier = TokenVerifier::new(&config).expect("a configured secret");
        let principal = verifier.verify_at(&issuer.issue(&grant, now()), now()).expect("good");
        assert_eq!((principal.subject, principal.role), (grant.subject, grant.role));
        assert_eq!(principal.session_id, Some(Uuid::nil()));
        assert_eq!(principal.expires_at, now() + grant.ttl);
        assert!(verifier.verify(&issuer.token(grant.subject, Role::Customer)).is_ok());
    }
}

//! From the text of a token to a [`Principal`], or a refusal.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};

use super::{
    InvalidToken, Principal, SecretError,
    claims::{ClaimNames, Claims, SignedBy},
    public_keys::PublicKeys,
    refusal::RefusalLog,
    secret,
};
use crate::{config::AuthConfig, telemetry::Metrics};

/// Longer tokens are refused before anything is decoded. Ours have about 250 bytes; those of identity
/// providers have one or two thousand.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// Difference of clocks that is forgiven, at `exp` and `nbf`.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// Verifies tokens with the secrets and the public keys. Keys are built once; cloning shares them.
#[derive(Clone)]
pub struct TokenVerifier {
    inner: Arc<Inner>,
}

struct Inner {
    /// HS256 only, whatever a token's header says.
    secrets: Vec<DecodingKey>,
    public: Option<Arc<PublicKeys>>,
    issuer: Option<String>,
    audience: Option<String>,
    claims: ClaimNames,
    refusals: RefusalLog,
}

impl TokenVerifier {
    /// Builds the keys; reads or creates the generated secret when none is configured. Public keys
    /// are read by [`PublicKeys::refresh`].
    ///
    /// # Errors
    /// The generated secret cannot be had.
    pub fn new(config: &AuthConfig, metrics: Metrics) -> Result<Self, SecretError> {
        let current = secret::resolve(config)?;
        let secrets = [current.as_ref(), config.previous_secret.as_ref()]
            .into_iter()
            .flatten()
            .map(|secret| DecodingKey::from_secret(secret.expose().as_bytes()))
            .collect();
        Ok(Self {
            inner: Arc::new(Inner {
                secrets,
                public: PublicKeys::new(config, metrics).map(Arc::new),
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
                claims: ClaimNames::new(config),
                refusals: RefusalLog::default(),
            }),
        })
    }

    /// The public keys, when a source is configured.
    pub fn public_keys(&self) -> Option<&Arc<PublicKeys>> {
        self.inner.public.as_ref()
    }

    /// Whether the token is good now. An unknown public key is looked for at the source first, at
    /// most once in ten seconds.
    ///
    /// # Errors
    /// Why it is refused; that is for the log, not for the client.
    pub async fn verify(&self, token: &str) -> Result<Principal, InvalidToken> {
        let mut result = self.verify_at(token, Utc::now());
        if let (Err(InvalidToken::UnknownKey { .. }), Some(keys)) = (&result, &self.inner.public)
            && keys.refreshed_for_unknown_key().await
        {
            result = self.verify_at(token, Utc::now());
        }
        if let Err(reason) = &result {
            self.inner.refusals.note(reason);
        }
        result
    }

    /// Whether the token is good at `now`, with the keys that are known.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify_at(&self, token: &str, now: DateTime<Utc>) -> Result<Principal, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidToken::NotAToken)?;
        // RFC 7515 section 4.1.11: a critical extension that is not understood refuses the token.
        if header.crit.is_some() {
            return Err(InvalidToken::Critical);
        }
        let (claims, signed_by) = match (header.alg, &self.inner.public) {
            (Algorithm::HS256, _) if !self.inner.secrets.is_empty() => {
                (self.signed_with_a_secret(token)?, SignedBy::Secret)
            }
            (algorithm @ (Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA), Some(keys)) => {
                let keys = keys.current();
                let key = keys.find(algorithm, header.kid.as_deref())?;
                (self.decoded(token, &key.key, key.algorithm)?, SignedBy::PublicKey)
            }
            (other, _) => return Err(self.not_accepted(other)),
        };
        self.inner.claims.principal(&claims, signed_by, now)
    }

    /// The claims, by the first secret that signed it; else the reason that says most.
    fn signed_with_a_secret(&self, token: &str) -> Result<Claims, InvalidToken> {
        let mut refusal = InvalidToken::Signature;
        for key in &self.inner.secrets {
            match self.decoded(token, key, Algorithm::HS256) {
                Err(InvalidToken::Signature) => {}
                Err(other) => refusal = other,
                Ok(claims) => return Ok(claims),
            }
        }
        Err(refusal)
    }

    fn decoded(&self, token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Claims, InvalidToken> {
        let decoded = jsonwebtoken::decode::<Claims>(token, key, &self.validation(algorithm));
        decoded.map(|token| token.claims).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => InvalidToken::Signature,
            ErrorKind::MissingRequiredClaim(claim) => InvalidToken::Missing(claim.clone()),
            ErrorKind::InvalidIssuer => InvalidToken::wrong("iss", "is not AUTH_JWT_ISSUER"),
            ErrorKind::InvalidAudience => InvalidToken::wrong("aud", "does not name AUTH_JWT_AUDIENCE"),
            ErrorKind::InvalidClaimFormat(claim) => InvalidToken::wrong(claim, "is of another type"),
            _ => InvalidToken::NotAToken,
        })
    }

    /// The library skips what is missing or of the wrong type unless it is listed as required, and
    /// leaves the clock alone: times are compared with the caller's `now`.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        let mut required = Vec::new();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = self.inner.audience.is_some();
        if let Some(issuer) = &self.inner.issuer {
            required.push("iss");
            validation.set_issuer(&[issuer]);
        }
        if let Some(audience) = &self.inner.audience {
            required.push("aud");
            validation.set_audience(&[audience]);
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn not_accepted(&self, algorithm: Algorithm) -> InvalidToken {
        let accepted = match (self.inner.secrets.is_empty(), self.inner.public.is_some()) {
            (false, false) => "only HS256 with AUTH_JWT_SECRET is accepted (AUTH_JWKS_URL adds public keys)",
            (true, _) => "only RS256, ES256 and EdDSA of the key set are accepted",
            (false, true) => "only HS256, RS256, ES256 and EdDSA are accepted",
        };
        InvalidToken::Algorithm { algorithm: format!("{algorithm:?}"), accepted }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::{
        auth::{Grant, TokenIssuer},
        config::Config,
        domain::{Role, SubjectId},
    };

    const SECRET: &str = "the current secret, 32 characters";
    const PREVIOUS: &str = "the previous secret, 32 characters";
    const SUB: &str = "018f3c1e-7b5a-7c3d-9e2f-1a2b3c4d5e6f";

    fn config(pairs: &[(&str, &str)]) -> AuthConfig {
        let pairs = [&[("AUTH_JWT_SECRET", SECRET)], pairs].concat();
        Config::from_pairs(&pairs).expect("valid").auth
    }

    fn verifier(pairs: &[(&str, &str)]) -> TokenVerifier {
        TokenVerifier::new(&config(pairs), Metrics::new()).expect("a configured secret")
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
            assert!(verifier.verify_at(&token, now()).is_err(), "{what}");
        }
    }

    #[test]
    fn a_token_larger_than_4_kib_is_refused_though_its_signature_is_right() {
        let just = |length: usize| signed(&Header::default(), &with("more", json!("x".repeat(length))), SECRET);
        let verifier = verifier(&[]);
        let (small, large) = (just(2800), just(3000));
        assert!(small.len() <= MAX_TOKEN_BYTES && large.len() > MAX_TOKEN_BYTES);
        assert!(verifier.verify_at(&small, now()).is_ok());
        assert!(verifier.verify_at(&large, now()).is_err());
    }

    #[test]
    fn clocks_may_differ_by_five_seconds_and_no_more() {
        let verifier = verifier(&[]);
        let at =
            |name: &str, seconds: i64| signed(&Header::default(), &with(name, json!(1_800_000_000 + seconds)), SECRET);
        assert!(verifier.verify_at(&at("exp", -4), now()).is_ok());
        assert!(verifier.verify_at(&at("exp", -5), now()).is_err());
        assert!(verifier.verify_at(&at("nbf", 5), now()).is_ok());
        assert!(verifier.verify_at(&at("nbf", 6), now()).is_err());
    }

    #[test]
    fn both_secrets_verify_while_one_is_being_rotated() {
        let rotating = verifier(&[("AUTH_JWT_SECRET_PREVIOUS", PREVIOUS)]);
        let (new, old) = (signed(&Header::default(), &good(), SECRET), signed(&Header::default(), &good(), PREVIOUS));
        assert!(rotating.verify_at(&new, now()).is_ok());
        assert!(rotating.verify_at(&old, now()).is_ok());
        assert!(verifier(&[]).verify_at(&old, now()).is_err());
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
            assert!(strict.verify_at(&token, now()).is_err(), "{wrong_iss} {wrong_aud}");
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
        let verifier = TokenVerifier::new(&config, Metrics::new()).expect("a configured secret");
        let principal = verifier.verify_at(&issuer.issue(&grant, now()), now()).expect("good");
        assert_eq!((principal.subject, principal.role), (grant.subject, grant.role));
        assert_eq!(principal.session_id, Some(Uuid::nil()));
        assert_eq!(principal.expires_at, now() + grant.ttl);
        assert!(verifier.verify_at(&issuer.token(grant.subject, Role::Customer), Utc::now()).is_ok());
    }
}

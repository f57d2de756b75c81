//! Tokens of our own: for `hadir token`, the demo, the tests and the load generator.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use uuid::Uuid;

use crate::{
    config::AuthConfig,
    domain::{Role, SubjectId},
};

use super::{SecretError, WrittenClaims, claims, secret};

/// What a token shall say.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// `sub`.
    pub subject: SubjectId,
    /// `role`.
    pub role: Role,
    /// `sid`.
    pub session_id: Option<Uuid>,
    /// From now to `exp`, to the millisecond.
    pub ttl: Duration,
}

/// What a dashboard token says of the person who holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operator {
    /// `name`.
    pub name: Option<String>,
    /// `read_only`.
    pub read_only: bool,
}

impl Operator {
    /// What is wrong with a name, if anything.
    pub fn complaint(name: &str) -> Option<String> {
        claims::name_complaint(name)
    }
}

/// Signs tokens with the current secret. Cloning shares the key.
#[derive(Clone)]
pub struct TokenIssuer {
    inner: Arc<Inner>,
}

struct Inner {
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
    ttl: Duration,
}

impl TokenIssuer {
    /// Builds the key; reads or creates the generated secret when none is configured.
    pub fn new(config: &AuthConfig) -> Result<Self, SecretError> {
        let secret = secret::resolve(config)?.ok_or(SecretError::NoSecret)?;
        Ok(Self {
            inner: Arc::new(Inner {
                key: EncodingKey::from_secret(secret.expose().as_bytes()),
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
                ttl: config.access_token_ttl,
            }),
        })
    }

    /// A token of the configured life, from now, without a `sid`.
    pub fn token(&self, subject: impl Into<SubjectId>, role: Role) -> String {
        self.issue(&Grant { subject: subject.into(), role, session_id: None, ttl: self.inner.ttl }, Utc::now())
    }

    /// The token that `grant` describes.
    pub fn issue(&self, grant: &Grant, now: DateTime<Utc>) -> String {
        self.issue_to(&Operator::default(), grant, now)
    }

    /// The same with what a dashboard token says of its holder.
    pub fn issue_to(&self, operator: &Operator, grant: &Grant, now: DateTime<Utc>) -> String {
        let expires_at = now + grant.ttl;
        let claims = WrittenClaims {
            sub: grant.subject.to_string(),
            role: grant.role.as_str(),
            exp: expires_at.timestamp_millis() as f64 / 1000.0,
            sid: grant.session_id.map(|id| id.to_string()),
            name: operator.name.as_deref(),
            read_only: operator.read_only.then_some(true),
            iss: self.inner.issuer.as_deref(),
            aud: self.inner.audience.as_deref(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.inner.key)
            .expect("HS256 over texts and a finite number does not fail")
    }
}

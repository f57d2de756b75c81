//! `hadir token`.

use std::time::Duration;

use chrono::Utc;
use uuid::Uuid;

use crate::{
    auth::{Grant, SecretError, TokenIssuer},
    config::{Config, SecretSource},
    domain::{Role, SubjectId},
    telemetry,
};

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRequest {
    /// `role`.
    pub role: Role,
    /// `sub`; a new one when left out.
    pub subject: Option<Uuid>,
    /// Its life; the configured one when left out.
    pub ttl: Option<Duration>,
}

/// The token, a line. Says on standard error when it is signed with the generated secret, because that is another one
/// in another folder.
pub(super) fn issue(config: &Config, request: &TokenRequest) -> Result<String, SecretError> {
    let issuer = TokenIssuer::new(&config.auth)?;
    if let SecretSource::Generated(dir) = &config.auth.secret {
        telemetry::say(format_args!("hadir: signed with the generated secret in {}", dir.display()));
    }
    let grant = Grant {
        subject: SubjectId(request.subject.unwrap_or_else(Uuid::new_v4)),
        role: request.role,
        session_id: None,
        ttl: request.ttl.unwrap_or(config.auth.access_token_ttl),
    };
    Ok(format!("{}\n", issuer.issue(&grant, Utc::now())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenVerifier;

    #[test]
    fn the_server_believes_it_with_a_configured_and_with_the_generated_secret() {
        let dir = tempfile::tempdir().expect("a folder");
        let data_dir = ("HADIR_DATA_DIR", dir.path().to_str().expect("UTF-8"));
        for pairs in [vec![data_dir], vec![("AUTH_JWT_SECRET", "0123456789abcdef0123456789abcdef")]] {
            let config = Config::from_pairs(&pairs).expect("valid");
            let request = TokenRequest { role: Role::Service, subject: None, ttl: Some(Duration::from_secs(60)) };
            let line = issue(&config, &request).expect("issued");
            let verifier = TokenVerifier::new(&config.auth, crate::telemetry::Metrics::new()).expect("the same secret");
            let principal = verifier.verify_at(line.trim_end(), Utc::now()).expect("good");
            assert_eq!(principal.role, Role::Service);
            assert!(principal.expires_at <= Utc::now() + Duration::from_secs(60));
        }
    }
}

//! `hadir token`.

use std::time::Duration;

use chrono::Utc;
use uuid::Uuid;

use crate::{
    auth::{Grant, Operator, TokenIssuer},
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
    /// What a dashboard token says of its holder.
    pub operator: Operator,
    /// Print the address of the dashboard that opens signed in, not the token alone.
    pub link: Option<Link>,
}

/// Where the dashboard is opened.
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    /// At this node's internal listener.
    Here,
    /// Behind this address of a proxy or tunnel.
    At(String),
}

/// The token, a line. Says on standard error when it is signed with the generated secret, because that is another one
/// in another folder.
pub(super) fn issue(config: &Config, request: &TokenRequest) -> anyhow::Result<String> {
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
    // Refused here, not at the server's door.
    if let Some(why) = request.operator.name.as_deref().and_then(Operator::complaint) {
        anyhow::bail!("--name {why}");
    }
    let token = issuer.issue_to(&request.operator, &grant, Utc::now());
    Ok(match &request.link {
        None => format!("{token}\n"),
        Some(Link::At(base)) => format!("{}/#token={token}\n", base.trim_end_matches('/')),
        Some(Link::Here) => format!("http://{}/#token={token}\n", config.listen.internal_addr.reachable()),
    })
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
            let request = TokenRequest {
                role: Role::Service,
                subject: None,
                ttl: Some(Duration::from_secs(60)),
                operator: Operator::default(),
                link: None,
            };
            let line = issue(&config, &request).expect("issued");
            let verifier = TokenVerifier::new(&config.auth, crate::telemetry::Metrics::new()).expect("the same secret");
            let principal = verifier.verify_at(line.trim_end(), Utc::now()).expect("good");
            assert_eq!(principal.role, Role::Service);
            assert!(principal.expires_at <= Utc::now() + Duration::from_secs(60));
        }
    }
}

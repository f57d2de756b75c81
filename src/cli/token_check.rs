//! `hadir token --check`: what a token says, and in words why the server accepts or refuses it.
//!
//! For the owner of the token, on a machine with the server's settings. The server itself answers
//! with one word.

use std::{fmt::Write, process::ExitCode};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    auth::{InvalidToken, Principal, TokenVerifier},
    config::Config,
    telemetry::Metrics,
};

/// Prints the findings; fails when the token is not good.
pub(super) async fn report(config: &Config, token: &str) -> anyhow::Result<ExitCode> {
    let verifier = TokenVerifier::new(&config.auth, Metrics::new())?;
    let mut text = String::new();
    if let Some(keys) = verifier.public_keys() {
        match keys.refresh().await {
            Ok(count) => writeln!(text, "keys      {count} public keys from {}", keys.source())?,
            Err(why) => writeln!(text, "keys      {} {why}", keys.source())?,
        }
    }
    let token = token.trim();
    let now = Utc::now();
    text.push_str(&findings(token, &verifier.verify_at(token, now), now));
    super::print(&text)?;
    let good = verifier.verify_at(token, now).is_ok();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn findings(token: &str, result: &Result<Principal, InvalidToken>, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    let mut parts = token.split('.').map(part);
    for (name, part) in [("header", parts.next()), ("claims", parts.next())] {
        let shown = part.flatten().map_or_else(|| "not readable".to_owned(), |value| value.to_string());
        let _ = writeln!(text, "{name:<9} {shown}");
    }
    let _ = match result {
        Ok(principal) => {
            let left = (principal.expires_at - now).num_seconds();
            writeln!(
                text,
                "result    good: it speaks for {} {} and expires in {left} s\n          \
                 (whether this subject exists, or its sign-in `sid` was revoked, is in the database)",
                principal.role.as_str(),
                principal.subject
            )
        }
        Err(why) => writeln!(text, "result    refused: {why}"),
    };
    text
}

/// One part of a token as JSON, its signature not checked.
fn part(text: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::{Grant, TokenIssuer},
        domain::{Role, SubjectId},
    };

    fn config(secret: &str) -> Config {
        Config::from_pairs(&[("AUTH_JWT_SECRET", secret)]).expect("valid")
    }

    fn checked(token: &str) -> String {
        let config = config("the secret of this server, 32 characters");
        let verifier = TokenVerifier::new(&config.auth, Metrics::new()).expect("a secret");
        findings(token, &verifier.verify_at(token, Utc::now()), Utc::now())
    }

    fn token(secret: &str, ttl_seconds: u64) -> String {
        let issuer = TokenIssuer::new(&config(secret).auth).expect("a secret");
        let grant = Grant {
            subject: SubjectId(uuid::Uuid::nil()),
            role: Role::Customer,
            session_id: None,
            ttl: std::time::Duration::from_secs(ttl_seconds),
        };
        issuer.issue(&grant, Utc::now() - chrono::TimeDelta::hours(1))
    }

    #[test]
    fn a_good_token_is_said_to_be_good_and_for_whom() {
        let text = checked(&token("the secret of this server, 32 characters", 7_200));
        assert!(text.contains("good: it speaks for customer 00000000-0000-0000-0000-000000000000"), "{text}");
        assert!(text.contains(r#""alg":"HS256""#) && text.contains(r#""role":"customer""#), "{text}");
    }

    #[test]
    fn each_refusal_says_in_words_what_is_wrong() {
        let expired = checked(&token("the secret of this server, 32 characters", 60));
        assert!(expired.contains("refused: it expired at "), "{expired}");
        let foreign = checked(&token("the secret of another server, 32 chars", 7_200));
        assert!(foreign.contains("refused: its signature is not of the configured key"), "{foreign}");
        let nonsense = checked("nonsense");
        assert!(nonsense.contains("not readable") && nonsense.contains("refused: it is not a signed"), "{nonsense}");
    }
}

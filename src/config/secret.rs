//! Texts that must not be shown, and URLs with the secret part left out.

use std::{fmt, sync::Arc};

use url::Url;

/// What stands where a secret is.
pub const MASK: &str = "****";

/// A text that no log, error or debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text itself, for the one who connects or signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// A URL that names several hosts, which no parser of URLs takes: `scheme://user@a:1,b:2/path`.
pub(super) struct Hosts<'a> {
    before: &'a str,
    hosts: &'a str,
    after: &'a str,
}

impl<'a> Hosts<'a> {
    /// `None` when the text names one host at most.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let begin = text.find("://")? + 3;
        let end = text[begin..].find(['/', '?', '#']).map_or(text.len(), |length| begin + length);
        let begin = text[begin..end].rfind('@').map_or(begin, |at| begin + at + 1);
        let (before, hosts, after) = (&text[..begin], &text[begin..end], &text[end..]);
        hosts.contains(',').then_some(Self { before, hosts, after })
    }

    /// The URL once for each host.
    pub(super) fn each(&self) -> Vec<String> {
        self.hosts.split(',').map(|host| format!("{}{host}{}", self.before, self.after)).collect()
    }
}

/// The URL with its password, and whatever in its query may be one, masked. What is not a URL is masked altogether.
pub fn masked_url(text: &str) -> String {
    if let Some(hosts) = Hosts::of(text) {
        let Some(first) = hosts.each().first().map(|url| masked_one(url)) else { return MASK.to_owned() };
        let Some((before, rest)) = first.split_once("://") else { return MASK.to_owned() };
        let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let user = authority.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
        return format!("{before}://{user}{}{after}", hosts.hosts);
    }
    masked_one(text)
}

fn masked_one(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return MASK.to_owned() };
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    if url.query().is_some() {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let mut query = url.query_pairs_mut();
        query.clear();
        for (name, value) in &pairs {
            query.append_pair(name, if may_be_secret(name) { MASK } else { value });
        }
    }
    url.to_string()
}

fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token", "key", "auth"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_to_nobody() {
        let secret = Secret::new("correct horse battery staple");
        assert_eq!(format!("{secret} {secret:?}"), "**** ****");
    }

    #[test]
    fn a_url_keeps_everything_but_its_secrets() {
        let cases = [
            (
                "postgres://u:hunter2@db.example:5432/hadir?sslmode=require",
                "postgres://u:****@db.example:5432/hadir?sslmode=require",
            ),
            ("postgres://u@db.example/hadir?password=hunter2", "postgres://u@db.example/hadir?password=****"),
            (
                "redis-sentinel://:hunter2@a:26379/0?sentinelPassword=x",
                "redis-sentinel://:****@a:26379/0?sentinelPassword=****",
            ),
            ("rediss://default:hunter%322@a:6379/2", "rediss://default:****@a:6379/2"),
            (
                "postgres://u:hunter2@a:5432,[::1]:5433/hadir?password=hunter2",
                "postgres://u:****@a:5432,[::1]:5433/hadir?password=****",
            ),
            ("hunter2", "****"),
        ];
        for (url, shown) in cases {
            assert_eq!(masked_url(url), shown, "{url}");
        }
    }
}

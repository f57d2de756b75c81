//! The public keys in force: read from a file or fetched from a URL, kept while the source is
//! unavailable, refreshed in the background and when a token names an unknown key.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::key_set::{KeySet, MAX_BYTES};
use crate::{
    config::{AuthConfig, KeySource, masked_url},
    telemetry::Metrics,
};

/// Longest time for one fetch, connecting included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Unknown keys cause at most one refresh in this time.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);
/// A source that failed is asked again after this time, or after the regular period if that is shorter.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The public keys in force.
pub struct PublicKeys {
    source: Source,
    shown: String,
    refresh_every: Duration,
    keys: RwLock<Arc<KeySet>>,
    state: Mutex<State>,
    wanted: Notify,
    /// Counts the refreshes that were made for unknown keys.
    completed: watch::Sender<u64>,
    metrics: Metrics,
}

enum Source {
    File(std::path::PathBuf),
    Url(reqwest::Client, url::Url),
}

#[derive(Default)]
struct State {
    /// A token named an unknown key, and no refresh that began later has ended.
    requested: bool,
    last_request: Option<Instant>,
    fetched_at: Option<DateTime<Utc>>,
    failing_since: Option<Instant>,
}

impl PublicKeys {
    /// For the configured source; `None` when there is none. Nothing is read yet.
    pub fn new(config: &AuthConfig, metrics: Metrics) -> Option<Self> {
        let (source, shown) = match config.key_source.as_ref()? {
            KeySource::File(path) => (Source::File(path.clone()), path.display().to_string()),
            KeySource::Url(url) => (Source::Url(client(), url.clone()), masked_url(url.as_str())),
        };
        Some(Self {
            source,
            shown,
            refresh_every: config.key_refresh,
            keys: RwLock::default(),
            state: Mutex::default(),
            wanted: Notify::new(),
            completed: watch::channel(0).0,
            metrics,
        })
    }

    pub(super) fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read())
    }

    /// The source as it may be shown.
    pub fn source(&self) -> &str {
        &self.shown
    }

    /// How many keys are in force, and when they were read.
    pub fn in_force(&self) -> (usize, Option<DateTime<Utc>>) {
        (self.current().len(), self.state.lock().fetched_at)
    }

    /// Reads the source now. A failure keeps the keys that are known.
    ///
    /// # Errors
    /// A sentence about the source: unreachable, too large, not a key set.
    pub async fn refresh(&self) -> Result<usize, String> {
        let serves_request = self.state.lock().requested;
        let result = match self.fetch().await {
            Ok(document) => KeySet::parse(&document),
            Err(why) => Err(why),
        };
        let result = result.map(|keys| {
            let count = keys.len();
            *self.keys.write() = Arc::new(keys);
            count
        });
        self.note(&result);
        if serves_request {
            self.state.lock().requested = false;
            self.completed.send_modify(|count| *count += 1);
        }
        result
    }

    /// Refreshes for as long as the node runs.
    pub async fn keep(self: Arc<Self>) {
        loop {
            let failing = self.state.lock().failing_since.is_some();
            let pause = if failing { self.refresh_every.min(RETRY_AFTER) } else { self.refresh_every };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
            // The failure was noted.
            let _noted = self.refresh().await;
        }
    }

    /// A token names a key that is not known: waits for a refresh that begins after this call.
    /// Returns false when none is due, because unknown keys caused one a moment ago.
    pub(super) async fn refreshed_for_unknown_key(&self) -> bool {
        let mut completed = {
            let mut state = self.state.lock();
            if !state.requested {
                if state.last_request.is_some_and(|last| last.elapsed() < UNKNOWN_KEY_PAUSE) {
                    return false;
                }
                state.requested = true;
                state.last_request = Some(Instant::now());
                self.wanted.notify_one();
            }
            self.completed.subscribe()
        };
        // One fetch may be under way already and does not count.
        timeout(2 * FETCH_TIMEOUT + Duration::from_secs(1), completed.changed()).await.is_ok()
    }

    async fn fetch(&self) -> Result<Vec<u8>, String> {
        match &self.source {
            Source::File(path) => {
                let size = tokio::fs::metadata(path).await.map_err(|error| format!("cannot be read ({error})"))?.len();
                if size > MAX_BYTES as u64 {
                    return Err(format!("is larger than {MAX_BYTES} bytes"));
                }
                tokio::fs::read(path).await.map_err(|error| format!("cannot be read ({error})"))
            }
            Source::Url(client, url) => timeout(FETCH_TIMEOUT, download(client, url))
                .await
                .map_err(|_| format!("did not answer within {} s", FETCH_TIMEOUT.as_secs()))?,
        }
    }

    /// One line when the source begins to fail, and one when it works again.
    fn note(&self, result: &Result<usize, String>) {
        let mut state = self.state.lock();
        match result {
            Ok(count) => {
                let now = Utc::now();
                let first = state.fetched_at.is_none();
                state.fetched_at = Some(now);
                if let Some(since) = state.failing_since.take() {
                    let seconds = since.elapsed().as_secs();
                    tracing::info!(source = self.shown, keys = count, "public keys are read again after {seconds} s");
                } else if first {
                    tracing::info!(source = self.shown, keys = count, "public keys are in force");
                }
                self.metrics.key_set_read(*count, now);
            }
            Err(why) => {
                if state.failing_since.is_none() {
                    state.failing_since = Some(Instant::now());
                    let known = self.keys.read().len();
                    tracing::warn!(
                        source = self.shown,
                        known,
                        "the set of public keys {why}; known keys stay in force"
                    );
                }
                self.metrics.key_set_failed();
            }
        }
    }
}

/// Follows no redirect: one could lead away from the configured host, or from https.
fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(FETCH_TIMEOUT)
        .user_agent(concat!("hadir/", env!("CARGO_PKG_VERSION")))
        .build()
        .expect("the TLS library is compiled in")
}

/// The body of a 200, read only as far as a key set may be long.
async fn download(client: &reqwest::Client, url: &url::Url) -> Result<Vec<u8>, String> {
    let answer = client.get(url.clone()).header("accept", "application/json").send().await;
    let mut answer = answer.map_err(|error| format!("cannot be fetched ({})", root_cause(&error)))?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(format!("cannot be fetched (HTTP {})", answer.status().as_u16()));
    }
    let mut body = Vec::new();
    loop {
        let chunk = answer.chunk().await.map_err(|error| format!("ended early ({})", root_cause(&error)))?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(format!("is larger than {MAX_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
}

/// The innermost reason; the outer ones repeat the URL.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

//! Single flight: callers that ask the store for the same thing at once share one query.
//!
//! An outage of Valkey must not become a stampede on Postgres: however many ask, the store is asked a few times a second.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Mutex as Turn,
    time::{sleep, timeout},
};

use super::{Parts, PresenceError, ReplicationSettings, mode_control::ModeControl, store_client::StoreClient};
use crate::{
    domain::{AvailablePage, Counts, MitraId, MitraRow, Mode},
    hub::Hub,
};

/// For how long an answer (or a failure) of the store serves everybody.
const KEPT_MS: u64 = 500;
/// Least time between two questions about single mitras.
const PACE_MS: u64 = 200;
/// Longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(3);
/// Ids in one question.
const BATCH: usize = 1_000;
/// Mitras in the sample that the answers of a moment are drawn from.
const SAMPLE: u32 = 500;

type Answer<T> = Result<T, PresenceError>;

/// One answer, asked for once at a time and kept for a moment. Whoever comes meanwhile waits for it.
pub(crate) struct SingleFlight<T> {
    held: Turn<Option<(u64, Answer<T>)>>,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self { held: Turn::default() }
    }
}

impl<T: Clone> SingleFlight<T> {
    pub(crate) async fn get(&self, now_ms: impl Fn() -> u64, ask: impl Future<Output = Answer<T>>) -> Answer<T> {
        let mut held = self.held.lock().await;
        if let Some((at, answer)) = &*held
            && now_ms() < at + KEPT_MS
        {
            return answer.clone();
        }
        let answer = ask.await;
        *held = Some((now_ms(), answer.clone()));
        answer
    }

    async fn forget(&self) {
        self.held.lock().await.take();
    }
}

/// Rows of single mitras. Whoever gets the turn asks for all that wait, and they find their answers when their turns come,
/// which is before that of anybody who came later: turns are given in order.
#[derive(Default)]
struct Rows {
    wanted: Mutex<Wanted>,
    turn: Turn<LastQuestion>,
}

/// Who waits, with the number of the newest request for each.
#[derive(Default)]
struct Wanted {
    requests: u64,
    ids: HashMap<MitraId, u64>,
}

impl Wanted {
    /// A request that is given up. A newer one for the same mitra stays.
    fn withdraw(&mut self, id: MitraId, request: u64) {
        if self.ids.get(&id) == Some(&request) {
            self.ids.remove(&id);
        }
    }
}

#[derive(Default)]
struct LastQuestion {
    at_ms: u64,
    asked: HashMap<MitraId, u64>,
    answer: Option<Answer<HashMap<MitraId, MitraRow>>>,
}

/// What many callers ask the store at once, asked once for all of them.
pub struct StoreReads {
    settings: Arc<ReplicationSettings>,
    hub: Arc<Hub>,
    mode: Arc<ModeControl>,
    store: StoreClient,
    counts: SingleFlight<Counts>,
    sample: SingleFlight<AvailablePage>,
    rows: Rows,
}

impl StoreReads {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            settings: Arc::clone(&parts.settings),
            hub: Arc::clone(&parts.hub),
            mode: Arc::clone(&parts.mode),
            store: parts.store.clone(),
            counts: SingleFlight::default(),
            sample: SingleFlight::default(),
            rows: Rows::default(),
        }
    }

    /// The counts of the store, at most a moment old.
    pub(crate) async fn counts(&self) -> Answer<Counts> {
        self.counts.get(|| self.hub.now_ms(), self.store.counts(self.settings.fresh_in_store())).await
    }

    /// The counts of the store as they are now, for the one routine that pushes them.
    pub(super) async fn counts_now(&self) -> Answer<Counts> {
        self.counts.forget().await;
        self.counts().await
    }

    /// A sample of those whom the store holds for available, at most a moment old, larger than anybody asks for.
    pub(crate) async fn sample(&self) -> Answer<AvailablePage> {
        let ask = self.store.find_available(self.settings.fresh_in_store(), SAMPLE);
        self.sample.get(|| self.hub.now_ms(), ask).await
    }

    /// One mitra's row, asked for together with others'.
    pub(crate) async fn row(&self, id: MitraId) -> Answer<Option<MitraRow>> {
        // Asked first: whoever is refused here leaves nothing in the list.
        if self.mode.mode() == Mode::Stale {
            return Err(PresenceError::Unavailable("neither store can be asked; try again shortly".to_owned()));
        }
        let request = {
            let mut wanted = self.rows.wanted.lock();
            wanted.requests += 1;
            let request = wanted.requests;
            wanted.ids.insert(id, request);
            request
        };
        let Ok(mut last) = timeout(PATIENCE, self.rows.turn.lock()).await else {
            self.rows.wanted.lock().withdraw(id, request);
            return Err(PresenceError::Unavailable("too many wait for the store; try again shortly".to_owned()));
        };
        // An answer that was asked for before the request came is none.
        if last.asked.get(&id).is_none_or(|answered| *answered < request) {
            let wait = (last.at_ms + PACE_MS).saturating_sub(self.hub.now_ms());
            if last.at_ms > 0 && wait > 0 {
                sleep(Duration::from_millis(wait)).await;
            }
            // Left in the list until the answer is there: whoever asks may be gone before.
            let asked: HashMap<MitraId, u64> = {
                let wanted = self.rows.wanted.lock();
                let others = wanted.ids.iter().map(|(id, request)| (*id, *request)).take(BATCH - 1);
                others.chain([(id, wanted.ids.get(&id).copied().unwrap_or(request))]).collect()
            };
            let ids: Vec<MitraId> = asked.keys().copied().collect();
            let answer = self.store.mitras(&ids).await;
            self.rows.wanted.lock().ids.retain(|id, newest| asked.get(id).is_none_or(|request| request < newest));
            *last = LastQuestion {
                at_ms: self.hub.now_ms(),
                asked,
                answer: Some(answer.map(|rows| rows.into_iter().map(|row| (row.id, row)).collect())),
            };
        }
        match &last.answer {
            Some(Ok(rows)) => Ok(rows.get(&id).cloned()),
            Some(Err(error)) => Err(error.clone()),
            None => Err(PresenceError::Unavailable("nobody was asked; try again shortly".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_given_up_leaves_nothing_behind() {
        let id = MitraId(uuid::Uuid::from_u128(1));
        let mut wanted = Wanted { requests: 2, ids: HashMap::from([(id, 2)]) };
        wanted.withdraw(id, 1);
        assert_eq!(wanted.ids.get(&id), Some(&2), "a newer request waits still");
        wanted.withdraw(id, 2);
        assert!(wanted.ids.is_empty());
    }
}

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use uuid::Uuid;

use super::*;
use crate::{
    domain::{MitraFacts, MitraRow},
    mirror::{Applied, Refused},
};

struct Bench {
    mirror: MemoryMirror,
    now: Arc<AtomicU64>,
}

fn bench() -> Bench {
    let now = Arc::new(AtomicU64::new(1_000_000));
    let settings = MirrorSettings {
        suspect_after: Duration::from_secs(45),
        snapshot_ttl: Duration::from_secs(10),
        snapshot_window: Duration::from_millis(250),
    };
    let hands = Arc::clone(&now);
    Bench { mirror: MemoryMirror::with_clock(settings, Arc::new(move || hands.load(Relaxed))), now }
}

fn row(n: u128, revision: i64) -> MitraRow {
    MitraRow {
        id: MitraId(Uuid::from_u128(n)),
        facts: MitraFacts {
            online: true,
            active: true,
            sessions: 0,
            max_sessions: 1,
            fence: Fence { generation: 1, revision },
            online_epoch: 1,
        },
        heartbeat_age: None,
    }
}

fn offline(row: MitraRow) -> MitraRow {
    MitraRow { facts: MitraFacts { online: false, ..row.facts }, ..row }
}

impl Bench {
    async fn apply(&self, row: MitraRow) -> Applied {
        let write = Write { row, heartbeat_age: Some(Duration::ZERO), announce: None };
        self.mirror.apply(&[write]).await.unwrap().outcomes[0]
    }

    async fn available(&self) -> u64 {
        self.mirror.counts().await.unwrap().0.available
    }

    fn pass(&self, ms: u64) {
        self.now.fetch_add(ms, Relaxed);
    }
}

#[tokio::test]
async fn nothing_old_lists_a_mitra_again_after_offline() {
    let bench = bench();
    let offline = offline(row(1, 5));
    assert_eq!(bench.apply(row(1, 4)).await, Applied::Changed);
    assert_eq!(bench.apply(offline.clone()).await, Applied::Changed);
    assert_eq!(bench.apply(row(1, 4)).await, Applied::Older { newer: offline.fence });
    assert_eq!(bench.apply(offline).await, Applied::Same);
    let beat = Beat { id: row(1, 4).id, online_epoch: 1, at_ms: u64::MAX };
    assert_eq!(bench.mirror.beat(&[beat]).await.unwrap().refused[0].why, Refused::Offline);
    assert_eq!(bench.available().await, 0);
}

#[tokio::test]
async fn a_silent_mitra_leaves_the_count_and_a_beat_brings_it_back() {
    let bench = bench();
    bench.apply(row(1, 1)).await;
    bench.pass(45_000);
    assert_eq!(bench.available().await, 1, "exactly the suspect time is still fresh");
    bench.pass(1);
    assert_eq!(bench.available().await, 0);
    let beat = Beat { id: row(1, 1).id, online_epoch: 1, at_ms: u64::MAX };
    assert!(bench.mirror.beat(&[beat]).await.unwrap().refused.is_empty());
    assert_eq!(bench.available().await, 1);
    bench.pass(45_001);
    assert_eq!(bench.available().await, 0, "a time in the future was taken as now");
}

#[tokio::test]
async fn a_flip_of_any_goes_at_once_and_counts_wait_for_their_window() {
    let bench = bench();
    bench.mirror.open_epoch(0).await.unwrap();
    bench.mirror.tick().await.unwrap();
    let version = |pulse: Pulse| pulse.snapshot.unwrap().version;
    let before = version(bench.mirror.tick().await.unwrap());
    bench.apply(row(1, 1)).await;
    let flipped = bench.mirror.tick().await.unwrap();
    assert_eq!(flipped.due_in, None);
    assert_eq!(version(flipped), before + 1);
    bench.apply(row(2, 2)).await;
    bench.pass(100);
    let waiting = bench.mirror.tick().await.unwrap();
    assert_eq!(waiting.due_in, Some(Duration::from_millis(150)));
    assert_eq!(waiting.snapshot.as_ref().unwrap().available, 1);
    bench.pass(150);
    let told = bench.mirror.tick().await.unwrap();
    assert_eq!((told.snapshot.as_ref().unwrap().available, version(told)), (2, before + 2));
}

#[tokio::test]
async fn nothing_is_published_before_the_mirror_is_seeded() {
    let bench = bench();
    let mut events = bench.mirror.events();
    bench.apply(row(1, 1)).await;
    assert!(events.try_recv().is_err());
    assert!(bench.mirror.tick().await.unwrap().epoch.is_none());
}

#[tokio::test]
async fn a_claim_is_put_back_only_if_nothing_newer_was_applied() {
    let bench = bench();
    bench.apply(row(1, 1)).await;
    bench.apply(row(2, 2)).await;
    bench.pass(90_000);
    let claimed = bench.mirror.claim_silent(Duration::from_secs(90), 10, &Caution::NONE).await.unwrap().claimed;
    assert_eq!(claimed.len(), 2);
    bench.apply(offline(row(2, 3))).await;
    bench.mirror.unclaim(&claimed).await.unwrap();
    let counts = bench.mirror.counts().await.unwrap().0;
    assert_eq!((counts.online, counts.suspect), (1, 1));
}

#[tokio::test]
async fn a_draw_is_fair_and_never_stale() {
    let bench = bench();
    for n in 0..20 {
        bench.apply(row(n, 1)).await;
        bench.pass(10);
    }
    bench.pass(44_895);
    let mut drawn = std::collections::BTreeMap::<MitraId, u32>::new();
    for _ in 0..2_000 {
        let (page, _) = bench.mirror.find_available(1).await.unwrap();
        assert_eq!(page.total, 10);
        *drawn.entry(page.mitras[0].id).or_default() += 1;
    }
    assert_eq!(drawn.len(), 10);
    assert!(drawn.values().all(|times| (100..=320).contains(times)), "{drawn:?}");
}

//! Any other program may read Valkey at any moment: after every operation all keys agree with each other and with a plain
//! model of what should be there. Random, with the seed printed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hadir::{
    domain::{Fence, MitraFacts, MitraRow},
    mirror::{Applied, Beat, Mirror, Write},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::support::valkey::{Raw, Server};

use super::{calm, claimed, connect, id};

const MITRAS: u128 = 12;
const STEPS: usize = 1_000;

/// What should be there of one mitra.
#[derive(Clone, Debug)]
struct Expected {
    row: MitraRow,
    claimed: bool,
}

impl Expected {
    fn online(&self) -> bool {
        self.row.online && !self.claimed
    }

    fn listed(&self) -> bool {
        self.online() && self.row.active
    }
}

type Model = BTreeMap<u128, Expected>;

#[tokio::test]
async fn all_keys_agree_after_every_operation() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::start();
    let mirror = connect(&server.url(0), None, calm()).await;
    mirror.open_epoch(0).await.unwrap();
    let mut raw = server.raw();
    let mut model = Model::new();
    let mut claims = Vec::new();
    let mut revision = 1;

    for step in 0..STEPS {
        let n = random.random_range(0..MITRAS);
        match random.random_range(0..10) {
            0..5 => {
                // New, repeated, delayed and damaged writes, some of a restored store.
                let mut writes = Vec::new();
                for _ in 0..random.random_range(1..4) {
                    revision += 1;
                    writes.push(arbitrary_write(&mut random, revision));
                }
                let outcomes = mirror.apply(&writes).await.unwrap().outcomes;
                for (write, outcome) in writes.iter().zip(outcomes) {
                    expect_applied(&mut model, write, outcome);
                }
            }
            5..7 => {
                let now_ms = mirror.tick().await.unwrap().now_ms;
                let at_ms = now_ms + 20_000 - random.random_range(0..80_000);
                mirror.beat(&[Beat { id: id(n), online_epoch: random.random_range(1..4), at_ms }]).await.unwrap();
            }
            7 => {
                let silent_for = Duration::from_secs(random.random_range(0..90));
                let claimed = claimed(&mirror, silent_for, 3).await;
                for claim in &claimed {
                    let expected = model.get_mut(&claim.id.0.as_u128()).unwrap();
                    assert!(expected.listed() || expected.claimed, "claimed what was not listed: {expected:?}");
                    assert_eq!(expected.row.online_epoch, claim.online_epoch);
                    expected.claimed = true;
                }
                claims.extend(claimed);
            }
            8 => {
                let some: Vec<_> = claims.iter().copied().filter(|_| random.random_bool(0.5)).collect();
                mirror.unclaim(&some).await.unwrap();
                for claim in some {
                    if let Some(expected) = model.get_mut(&claim.id.0.as_u128())
                        && expected.row.online_epoch == claim.online_epoch
                    {
                        expected.claimed = false;
                    }
                }
            }
            _ => {
                let seen = Fence { generation: 2, revision: random.random_range(0..revision + 1) };
                mirror.forget(&[(id(n), seen)]).await.unwrap();
                if model.get(&n).is_some_and(|expected| expected.row.fence <= seen) {
                    model.remove(&n);
                }
            }
        }
        let at = format!("seed {seed}, step {step}");
        check(&mut raw, &model, &at);
        let pulse = mirror.tick().await.unwrap();
        assert!(pulse.epoch.is_some(), "{at}: the mirror believes that somebody else wrote to it");
        check_snapshot(&mut raw, pulse.now_ms, &at);
    }
    mirror.close().await;
}

fn arbitrary_write(random: &mut StdRng, revision: i64) -> Write {
    let n = random.random_range(0..MITRAS);
    let delay = if random.random_bool(0.3) { random.random_range(0..30) } else { 0 };
    let row = MitraRow {
        id: id(n),
        facts: MitraFacts {
            online: random.random_bool(0.7),
            active: random.random_bool(0.8),
            sessions: random.random_range(0..3),
            max_sessions: random.random_range(0..3),
            fence: Fence {
                generation: if random.random_bool(0.1) { 1 } else { 2 },
                revision: (revision - delay).max(1),
            },
            online_epoch: random.random_range(1..4),
        },
        heartbeat_age: None,
    };
    let age = random.random_range(0..100);
    Write { row, heartbeat_age: (age < 80).then(|| Duration::from_secs(age)), announce: None }
}

fn expect_applied(model: &mut Model, write: &Write, outcome: Applied) {
    let n = write.row.id.0.as_u128();
    match model.get(&n) {
        Some(known) if known.row.fence > write.row.fence => {
            assert_eq!(outcome, Applied::Older { newer: known.row.fence });
        }
        known => {
            let same = known.is_some_and(|known| known.row == write.row && !known.claimed);
            assert_eq!(outcome, if same { Applied::Same } else { Applied::Changed }, "{known:?} and {write:?}");
            model.insert(n, Expected { row: write.row.clone(), claimed: false });
        }
    }
}

fn check(raw: &mut Raw, model: &Model, at: &str) {
    let ids = |wanted: &dyn Fn(&Expected) -> bool| -> BTreeSet<String> {
        model.iter().filter(|(_, expected)| wanted(expected)).map(|(n, _)| id(*n).to_string()).collect()
    };
    let set = |list: Vec<String>| list.into_iter().collect::<BTreeSet<_>>();
    let scores = |list: Vec<String>| -> BTreeMap<String, String> {
        list.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    };

    assert_eq!(set(raw.ask(&["SMEMBERS", "mitras:online"]).list()), ids(&Expected::online), "{at}");
    assert_eq!(set(raw.ask(&["SMEMBERS", "mitras:deactivated"]).list()), ids(&|e| !e.row.active), "{at}");
    let liveness = scores(raw.ask(&["ZRANGE", "mitras:liveness", "0", "-1", "WITHSCORES"]).list());
    let available = scores(raw.ask(&["ZRANGE", "mitras:available", "0", "-1", "WITHSCORES"]).list());
    assert_eq!(liveness.keys().cloned().collect::<BTreeSet<_>>(), ids(&Expected::listed), "{at}");
    let roomy = |expected: &Expected| expected.listed() && expected.row.has_room();
    assert_eq!(available.keys().cloned().collect::<BTreeSet<_>>(), ids(&roomy), "{at}");
    assert!(available.iter().all(|(id, score)| liveness.get(id) == Some(score)), "{at}: {available:?} {liveness:?}");

    let time = raw.ask(&["TIME"]).list();
    let now_ms: i64 = time[0].parse::<i64>().unwrap() * 1_000 + time[1].parse::<i64>().unwrap() / 1_000;
    for n in 0..MITRAS {
        let id = id(n).to_string();
        let expected = model.get(&n);
        let capacity = expected
            .filter(|expected| expected.online() || expected.row.sessions > 0)
            .map(|expected| expected.row.sessions.to_string());
        assert_eq!(raw.ask(&["GET", &format!("mitra:capacity:{id}")]).text(), capacity, "{at}");
        let key = format!("mitra:heartbeat:{id}");
        let heartbeat = liveness.get(&id).map(|score| {
            let score = score.parse().expect("whole milliseconds");
            assert!(score <= now_ms, "{at}: a heartbeat from the future");
            let life = raw.ask(&["TTL", &key]).number();
            assert!((86_300..=86_400).contains(&life), "{at}: lives for {life} s");
            let time = chrono::DateTime::from_timestamp_millis(score).unwrap();
            time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
        });
        assert_eq!(raw.ask(&["GET", &key]).text(), heartbeat, "{at}");
    }
}

fn check_snapshot(raw: &mut Raw, now_ms: u64, at: &str) {
    let snapshot = raw.ask(&["GET", "availability:snapshot"]).text().expect("kept");
    let snapshot: serde_json::Value = serde_json::from_str(&snapshot).unwrap();
    let fresh_from = (now_ms - 60_000).to_string();
    let fresh = raw.ask(&["ZCOUNT", "mitras:available", &fresh_from, "+inf"]).number();
    assert_eq!(snapshot["available"], fresh, "{at}");
    assert_eq!(snapshot["any"], fresh > 0, "{at}");
}

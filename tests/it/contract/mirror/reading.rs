//! Finding, entries, nodes and telling.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hadir::{
    domain::{LastHeard, MitraId, Mode, NodeId, NodeRecord, SocketCounts},
    mirror::{MirrorEvent, Write},
    protocol::ControlMessage,
};

use super::{Bench, Kind, aged, beat, calm, eventually, hasty, heard, id, on_both, row, with, write};

on_both! {
    whoever_is_found_is_available_and_drawn_fairly,
    finding_goes_round_and_finds_each_once,
    a_stale_mitra_is_never_found,
    nobody_available_is_an_empty_page,
    suspects_come_by_silence_page_by_page,
    a_page_of_suspects_begins_where_the_last_one_ended_whatever_became_of_it,
    a_hundred_thousand_suspects_of_one_moment_are_paged_through,
    entries_come_in_the_order_asked,
    a_node_sees_itself_and_leaves_when_it_closes,
    what_is_told_is_heard_by_the_teller_too,
}

async fn whoever_is_found_is_available_and_drawn_fairly(kind: Kind) {
    let bench = kind.open(calm()).await;
    let mut rows: Vec<_> = (0..20).map(|n| aged(row(n, 1), Duration::from_secs(n as u64))).collect();
    rows.extend((20..40).map(|n| write(with(row(n, 1), |facts| facts.sessions = 1))));
    rows.extend((40..60).map(|n| aged(row(n, 1), Duration::from_secs(100))));
    rows.extend((60..80).map(|n| write(with(row(n, 1), |facts| facts.online = false))));
    bench.apply(&rows).await.unwrap();
    let mut drawn = BTreeMap::<_, u32>::new();
    for _ in 0..2_000 {
        let (page, _) = bench.find_available(1).await.unwrap();
        assert_eq!((page.total, page.mitras.len()), (20, 1));
        let found = &page.mitras[0];
        assert_eq!((found.sessions, found.max_sessions), (0, 1));
        *drawn.entry(found.id).or_default() += 1;
    }
    assert_eq!(drawn.keys().copied().collect::<BTreeSet<_>>(), (0..20).map(id).collect());
    // 100 each are expected, with a deviation of 10: six deviations either way.
    assert!(drawn.values().all(|times| (40..=160).contains(times)), "{drawn:?}");
}

async fn finding_goes_round_and_finds_each_once(kind: Kind) {
    let bench = kind.open(calm()).await;
    let rows: Vec<_> = (0..7).map(|n| aged(row(n, 1), Duration::from_secs(n as u64))).collect();
    bench.apply(&rows).await.unwrap();
    for (limit, expected) in [(0, 0), (1, 1), (5, 5), (7, 7), (50, 7)] {
        for _ in 0..10 {
            let (page, _) = bench.find_available(limit).await.unwrap();
            let ids: BTreeSet<_> = page.mitras.iter().map(|mitra| mitra.id).collect();
            assert_eq!((page.mitras.len(), ids.len(), page.total), (expected, expected, 7));
        }
    }
    let (page, _) = bench.find_available(7).await.unwrap();
    let found = page.mitras.iter().find(|mitra| mitra.id == id(6)).unwrap();
    assert!(found.heartbeat_age >= Duration::from_secs(6) && found.heartbeat_age < Duration::from_secs(15));
}

async fn a_stale_mitra_is_never_found(kind: Kind) {
    let bench = kind.open(hasty()).await;
    bench.apply(&[write(row(1, 1)), write(row(2, 2))]).await.unwrap();
    eventually("nobody left", || async {
        let (page, _) = bench.find_available(10).await.unwrap();
        assert!(page.mitras.iter().all(|mitra| mitra.heartbeat_age <= hasty().suspect_after), "{page:?}");
        page.total == 0 && page.mitras.is_empty()
    })
    .await;
}

async fn nobody_available_is_an_empty_page(kind: Kind) {
    let bench = kind.open(calm()).await;
    let (page, pulse) = bench.find_available(10).await.unwrap();
    assert_eq!((page.mitras.len(), page.total), (0, 0));
    assert!(pulse.epoch.is_some());
}

/// All ids of these pages, and how many pages they took.
async fn paged(bench: &Bench, limit: u32) -> (Vec<MitraId>, usize) {
    let (mut seen, mut pages, mut after): (Vec<LastHeard>, _, _) = (Vec::new(), 0, None);
    loop {
        let page = bench.suspects(after, limit).await.unwrap().found;
        pages += 1;
        after = page.last().copied();
        seen.extend(&page);
        if page.len() < limit as usize {
            break;
        }
    }
    assert!(seen.is_sorted(), "by silence and then by id");
    (seen.into_iter().map(|heard| heard.id).collect(), pages)
}

async fn suspects_come_by_silence_page_by_page(kind: Kind) {
    let bench = kind.open(calm()).await;
    let silent = |n, seconds| aged(row(n, 1), Duration::from_secs(seconds));
    let offline = write(with(row(7, 1), |facts| facts.online = false));
    let full = aged(with(row(4, 1), |facts| facts.sessions = 1), Duration::from_secs(80));
    let rows = [silent(1, 5), silent(2, 90), silent(3, 70), full, silent(5, 100), silent(6, 0), offline];
    bench.apply(&rows).await.unwrap();
    for limit in 1..=5 {
        assert_eq!(paged(&bench, limit).await.0, [5, 2, 4, 3].map(id), "in pages of {limit}");
    }
    let pulse = bench.suspects(None, 10).await.unwrap().pulse;
    assert!(pulse.epoch.is_some());
}

async fn a_page_of_suspects_begins_where_the_last_one_ended_whatever_became_of_it(kind: Kind) {
    let bench = kind.open(calm()).await;
    let rows: Vec<_> = (1..=6).map(|n| aged(row(n, 1), Duration::from_secs(100 - n as u64))).collect();
    bench.apply(&rows).await.unwrap();
    let first = bench.suspects(None, 3).await.unwrap().found;
    assert_eq!(first.iter().map(|heard| heard.id).collect::<Vec<_>>(), [1, 2, 3].map(id));
    // The last of the page is heard again, and another one comes in before it.
    bench.beat(&[beat(3)]).await.unwrap();
    bench.apply(&[aged(row(9, 1), Duration::from_secs(200))]).await.unwrap();
    let second = bench.suspects(first.last().copied(), 3).await.unwrap().found;
    assert_eq!(second.iter().map(|heard| heard.id).collect::<Vec<_>>(), [4, 5, 6].map(id));
    assert!(bench.suspects(second.last().copied(), 3).await.unwrap().found.is_empty());
}

async fn a_hundred_thousand_suspects_of_one_moment_are_paged_through(kind: Kind) {
    const ALL: u128 = 100_000;
    let bench = kind.open(calm()).await;
    let rows: Vec<_> = (0..ALL).map(|n| Write { heartbeat_age: None, ..write(row(n, 1)) }).collect();
    for batch in rows.chunks(1_000) {
        bench.apply(batch).await.unwrap();
    }
    let (seen, pages) = paged(&bench, 1_000).await;
    assert_eq!((seen.len() as u128, pages), (ALL, 101), "a hundred full pages and the end");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len() as u128, ALL, "each once");
}

async fn entries_come_in_the_order_asked(kind: Kind) {
    let bench = kind.open(calm()).await;
    let claimed = aged(with(row(3, 30), |facts| facts.online_epoch = 8), Duration::from_secs(90));
    bench.apply(&[write(row(1, 10)), write(with(row(2, 20), |facts| facts.online = false)), claimed]).await.unwrap();
    let entries = bench.entries(&[id(3), id(9), id(2), id(1), id(3)]).await.unwrap().of_each;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| entry.as_ref().map(|entry| (entry.id, entry.online, entry.online_epoch, entry.fence.revision)))
        .collect();
    let third = Some((id(3), true, 8, 30));
    assert_eq!(told, [third, None, Some((id(2), false, 1, 20)), Some((id(1), true, 1, 10)), third]);
    assert_eq!(entries[2].as_ref().unwrap().heartbeat_age, None);
    assert!(bench.entries(&[]).await.unwrap().of_each.is_empty());
}

fn record(node: &str, customer: u64) -> NodeRecord {
    let sockets = SocketCounts { mitra: 1, customer, dashboard: 2 };
    NodeRecord { node_id: NodeId::new(node), sockets, mode: Mode::Live, seen_ms: 0 }
}

async fn a_node_sees_itself_and_leaves_when_it_closes(kind: Kind) {
    let bench = kind.open(calm()).await;
    let nodes = bench.report_node(&record("n1", 5)).await.unwrap();
    assert_eq!(nodes, [record("n1", 5)]);
    bench.report_node(&record("n2", 6)).await.unwrap();
    let nodes = bench.report_node(&record("n1", 7)).await.unwrap();
    let told: Vec<_> = nodes.iter().map(|node| (node.node_id.as_str(), node.sockets.customer)).collect();
    assert_eq!(told, [("n1", 7), ("n2", 6)]);
    assert!(nodes.iter().all(|node| node.seen_ms < 10_000));
    bench.close().await;
}

async fn what_is_told_is_heard_by_the_teller_too(kind: Kind) {
    let bench = kind.open(calm()).await;
    let mut events = bench.events();
    let probe = ControlMessage::Probe { node: NodeId::new("n1"), nonce: 42 };
    let told = |event| matches!(event, MirrorEvent::Control(heard) if heard == probe).then_some(());
    // Whoever tells before the subscription stands is not heard.
    for _ in 0..50 {
        bench.tell(&probe).await.unwrap();
        let wait = heard(&mut events, "the probe", told);
        if tokio::time::timeout(Duration::from_millis(100), wait).await.is_ok() {
            return;
        }
    }
    panic!("never heard");
}

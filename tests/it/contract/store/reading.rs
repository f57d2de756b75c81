//! Questions: rows by id, counts, a fair choice, pages.

use std::{collections::HashMap, time::Duration};

use hadir::{
    domain::{Counts, MitraId, Source},
    store::{DurableState, MitraQuery},
};

use super::{Bench, DEFAULT_MAX_SESSIONS, cause, id, ids, on_both};

on_both!(
    rows_of_ids_leave_out_the_unknown,
    counts_judge_freshness_by_stored_heartbeats,
    an_empty_store_counts_nothing,
    only_those_with_room_and_lately_heard_are_available,
    the_choice_is_fair,
    a_page_of_the_available_knows_how_many_there_are,
    each_state_lists_its_own,
    pages_go_on_where_the_last_one_ended,
    search_finds_any_part_of_an_id_and_of_a_name,
    search_takes_wildcards_as_they_are_written,
    a_scan_sees_everyone_once,
    half_of_a_mitra_hides_nobody_behind_it,
    a_store_says_which_it_is,
);

const FRESH: Duration = Duration::from_secs(60);
const STALE: Duration = Duration::from_secs(90);

/// 1 free, 2 full, 3 over-full, 4 silent, 5 never heard, 6 offline, 7 deactivated, 8 with a capacity of 0.
async fn fleet(bench: &Bench) {
    for n in 1..=5 {
        bench.online(n).await;
    }
    bench.load(2, DEFAULT_MAX_SESSIONS).await;
    bench.load(3, DEFAULT_MAX_SESSIONS + 1).await;
    bench.silence(4, STALE).await;
    bench.run(format!("UPDATE mitra_heartbeats SET last_heartbeat_at = NULL WHERE mitra_id = '{}'", id(5))).await;
    bench.created(6).await;
    bench.created(7).await;
    bench.set_active(id(7), false, &cause("fraud")).await.expect("deactivated");
    bench.online(8).await;
    bench.put_mitra(id(8), "Mitra 8", Some(0), &cause("resting")).await.expect("updated");
}

async fn rows_of_ids_leave_out_the_unknown(bench: Bench) {
    bench.online(1).await;
    bench.created(2).await;
    let rows = bench.mitras(&[id(2), id(9), id(1), id(2)]).await.expect("read");
    assert_eq!(ids(&rows), [id(1), id(2)]);
    assert!(rows[0].online && !rows[1].online);
    assert_eq!((rows[0].fence, &rows[1]), (bench.row(1).await.fence, &bench.row(2).await));
    assert!(bench.mitras(&[]).await.expect("read").is_empty());
}

async fn counts_judge_freshness_by_stored_heartbeats(bench: Bench) {
    fleet(&bench).await;
    let customer = id(100);
    bench.run(format!("INSERT INTO customers (id) VALUES ('{customer}')")).await;
    let mut sessions = 0;
    let full = format!("'{}'", id(2));
    for (status, mitra) in
        [("active", &*full), ("active", &*full), ("pending_payment", &*full), ("searching", "NULL"), ("ended", &*full)]
    {
        sessions += 1;
        let session = id(200 + sessions);
        bench
            .run(format!(
                "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) \
                 VALUES ('{session}', '{customer}', {mitra}, '{status}')"
            ))
            .await;
    }
    let counts = Counts {
        online: 6,
        reachable: 4,
        available: 1,
        busy: 3,
        suspect: 2,
        deactivated: 1,
        active_sessions: 2,
        pending_payment_sessions: 1,
    };
    assert_eq!(bench.counts(FRESH).await.expect("counted"), counts);
    let patient = bench.counts(STALE * 2).await.expect("counted");
    assert_eq!(patient, Counts { reachable: 5, available: 2, suspect: 1, ..counts });
}

async fn an_empty_store_counts_nothing(bench: Bench) {
    let counts = bench.counts(FRESH).await.expect("counted");
    assert_eq!((counts.online, counts.reachable, counts.available, counts.deactivated), (0, 0, 0, 0));
    let page = bench.find_available(FRESH, 10).await.expect("found");
    assert_eq!((page.mitras.len(), page.total), (0, 0));
    assert!(bench.scan(None, 10).await.expect("scanned").is_empty());
}

async fn only_those_with_room_and_lately_heard_are_available(bench: Bench) {
    fleet(&bench).await;
    bench.load(1, 1).await;
    let page = bench.find_available(FRESH, 50).await.expect("found");
    assert_eq!(page.total, 1);
    let one = &page.mitras[0];
    assert_eq!((one.id, one.sessions, one.max_sessions), (id(1), 1, DEFAULT_MAX_SESSIONS));
    assert!(one.heartbeat_age < FRESH);
}

async fn the_choice_is_fair(bench: Bench) {
    const ROUNDS: usize = 200;
    for n in 1..=10 {
        bench.online(n).await;
    }
    let mut chosen: HashMap<MitraId, usize> = HashMap::new();
    for _ in 0..ROUNDS {
        for one in bench.find_available(FRESH, 2).await.expect("found").mitras {
            *chosen.entry(one.id).or_default() += 1;
        }
    }
    // Each is expected 40 times; as few as 10 or as many as 90 comes once in ten million runs.
    assert_eq!(chosen.len(), 10, "{chosen:?}");
    assert!(chosen.values().all(|times| (10..=90).contains(times)), "{chosen:?}");
}

async fn a_page_of_the_available_knows_how_many_there_are(bench: Bench) {
    for n in 1..=7 {
        bench.online(n).await;
    }
    for limit in [0, 1, 3, 7, 50] {
        let page = bench.find_available(FRESH, limit).await.expect("found");
        assert_eq!((page.mitras.len(), page.total), (limit.min(7) as usize, 7));
    }
}

async fn listed(bench: &Bench, state: DurableState, search: Option<&str>) -> Vec<MitraId> {
    let query = MitraQuery { state, fresh_within: None, search: search.map(str::to_owned), after: None, limit: 100 };
    bench.list(&query).await.expect("listed").into_iter().map(|profile| profile.row.id).collect()
}

async fn each_state_lists_its_own(bench: Bench) {
    fleet(&bench).await;
    let wanted: [(DurableState, &[u128]); 6] = [
        (DurableState::Any, &[1, 2, 3, 4, 5, 6, 7, 8]),
        (DurableState::Online, &[1, 2, 3, 4, 5, 8]),
        (DurableState::OnlineWithRoom, &[1, 4, 5]),
        (DurableState::OnlineFull, &[2, 3, 8]),
        (DurableState::Offline, &[6]),
        (DurableState::Deactivated, &[7]),
    ];
    for (state, numbers) in wanted {
        let expected: Vec<_> = numbers.iter().map(|n| id(*n)).collect();
        assert_eq!(listed(&bench, state, None).await, expected, "{state:?}");
    }
}

async fn pages_go_on_where_the_last_one_ended(bench: Bench) {
    for n in [5, 3, 1, 4, 2] {
        bench.online(n).await;
    }
    let mut query = MitraQuery { state: DurableState::Online, fresh_within: None, search: None, after: None, limit: 2 };
    let mut seen = Vec::new();
    loop {
        let page = bench.list(&query).await.expect("listed");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        query.after = Some(last.row.id);
        seen.extend(page.into_iter().map(|profile| (profile.row.id, profile.display_name)));
    }
    let expected: Vec<_> = (1..=5).map(|n| (id(n), format!("Mitra {n}"))).collect();
    assert_eq!(seen, expected);
}

async fn search_finds_any_part_of_an_id_and_of_a_name(bench: Bench) {
    let (sari, budi) = (id(0xabcd_0000 << 96), id(0xdcba_0000 << 96));
    bench.put_mitra(sari, "Sari Dewi", None, &cause("")).await.expect("created");
    bench.put_mitra(budi, "Budi 東京", None, &cause("")).await.expect("created");
    for (search, found) in [
        ("", vec![sari, budi]),
        ("abcd", vec![sari]),
        ("ABCD0000-", vec![sari]),
        (&sari.to_string(), vec![sari]),
        ("BCD0", vec![sari]),
        ("bcd00000", vec![sari]),
        ("d0000-0", vec![sari]),
        ("-", vec![]),
        ("i d", vec![sari]),
        ("DEWI", vec![sari]),
        ("i", vec![sari, budi]),
        ("京", vec![budi]),
        ("nobody", vec![]),
    ] {
        assert_eq!(listed(&bench, DurableState::Any, Some(search)).await, found, "{search}");
    }
}

async fn search_takes_wildcards_as_they_are_written(bench: Bench) {
    let names = ["100% Sari", "a_b", r"back\slash", "quote'd", "star*", "plain"];
    for (n, name) in names.into_iter().enumerate() {
        bench.put_mitra(id(1 + n as u128), name, None, &cause("")).await.expect("created");
    }
    for (search, found) in
        [("%", 1), ("_", 2), (r"\", 3), ("'", 4), ("*", 5), ("%%", 0), ("a%b", 0), ("__", 0), ("?", 0), ("'; --", 0)]
    {
        let expected: Vec<_> = (found > 0).then(|| id(found)).into_iter().collect();
        assert_eq!(listed(&bench, DurableState::Any, Some(search)).await, expected, "{search}");
    }
}

async fn a_scan_sees_everyone_once(bench: Bench) {
    fleet(&bench).await;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = bench.scan(after, 3).await.expect("scanned");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        after = Some(last.id);
        seen.extend(page);
    }
    assert_eq!(ids(&seen), (1..=8).map(id).collect::<Vec<_>>());
    assert_eq!(seen[6], bench.row(7).await);
}

/// Somebody removed a row that belongs to a mitra: a page that is short because of it would be taken for the last.
async fn half_of_a_mitra_hides_nobody_behind_it(bench: Bench) {
    for n in 1..=5 {
        bench.created(n).await;
    }
    let removal = format!("DELETE FROM mitra_heartbeats WHERE mitra_id = '{}'", id(2));
    bench.unseen("mitra_heartbeats", "heartbeat_removed", removal).await;
    let others = [1, 3, 4].map(id);
    let mut scanned = ids(&bench.scan(None, 3).await.expect("scanned"));
    scanned.extend(ids(&bench.scan(scanned.last().copied(), 3).await.expect("scanned")));
    assert_eq!(scanned, [1, 3, 4, 5].map(id));
    assert_eq!(ids(&bench.changed_since(0, 3).await.expect("read")), others);
    let query = MitraQuery { state: DurableState::Any, fresh_within: None, search: None, after: None, limit: 3 };
    let listed = bench.list(&query).await.expect("listed");
    assert_eq!(listed.iter().map(|profile| profile.row.id).collect::<Vec<_>>(), others);
}

async fn a_store_says_which_it_is(bench: Bench) {
    let expected = match bench.beside {
        super::Beside::Sqlite { .. } => Source::Sqlite,
        super::Beside::Postgres { .. } => Source::Postgres,
    };
    assert_eq!(bench.source(), expected);
}

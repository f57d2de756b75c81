//! Pages of mitras: by id, by silence, and what a search finds among given ids.

use std::{collections::BTreeSet, time::Duration};

use hadir::{
    domain::{LastHeard, MitraId},
    store::{DurableState, MitraQuery, SilentQuery},
};

use super::{Bench, Beside, cause, id, on_both};

on_both!(
    only_the_fresh_are_listed_when_freshness_is_asked_for,
    the_silent_come_by_silence_and_then_by_id,
    pages_of_the_silent_lose_nobody_and_repeat_nobody,
    a_search_among_ids_and_among_the_silent_finds_the_same,
    search_folds_the_case_of_every_script,
    pages_of_a_hundred_thousand_hold_what_was_asked_for,
);

const FRESH: Duration = Duration::from_secs(60);

fn silent(limit: u32) -> SilentQuery {
    SilentQuery { fresh_within: FRESH, search: None, after: None, limit }
}

async fn silent_page(bench: &Bench, query: &SilentQuery) -> Vec<(LastHeard, MitraId)> {
    let page = bench.silent(query).await.expect("listed");
    page.into_iter().map(|(heard, profile)| (heard, profile.row.id)).collect()
}

/// 1 and 6 fresh, 2 and 4 silent since one moment, 3 longer, 5 never heard, 7 silent and offline.
async fn fleet(bench: &Bench) {
    for n in 1..=7 {
        bench.online(n).await;
    }
    let at = bench.ago(FRESH * 2);
    bench
        .run(format!(
            "UPDATE mitra_heartbeats SET last_heartbeat_at = {at} WHERE mitra_id IN ('{}', '{}')",
            id(2),
            id(4)
        ))
        .await;
    bench.silence(3, FRESH * 3).await;
    bench.run(format!("UPDATE mitra_heartbeats SET last_heartbeat_at = NULL WHERE mitra_id = '{}'", id(5))).await;
    bench.silence(7, FRESH * 4).await;
    bench.set_online(id(7), false, &cause("rest")).await.expect("offline");
}

async fn only_the_fresh_are_listed_when_freshness_is_asked_for(bench: Bench) {
    fleet(&bench).await;
    let query = |fresh_within, after, limit| MitraQuery {
        state: DurableState::OnlineWithRoom,
        fresh_within,
        search: None,
        after,
        limit,
    };
    let listed = async |query| {
        let page = bench.list(&query).await.expect("listed");
        page.into_iter().map(|profile| profile.row.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(query(Some(FRESH), None, 10)).await, [1, 6].map(id));
    assert_eq!(listed(query(Some(FRESH), Some(id(1)), 1)).await, [6].map(id));
    assert_eq!(listed(query(Some(FRESH * 4), None, 10)).await, [1, 2, 3, 4, 6].map(id));
    assert_eq!(listed(query(None, None, 10)).await, [1, 2, 3, 4, 5, 6].map(id));
}

async fn the_silent_come_by_silence_and_then_by_id(bench: Bench) {
    fleet(&bench).await;
    let page = silent_page(&bench, &silent(10)).await;
    assert_eq!(page.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [5, 3, 2, 4].map(id));
    assert!(page.is_sorted_by_key(|(heard, _)| *heard));
    assert_eq!((page[0].0.at_ms, page[2].0.at_ms), (0, page[3].0.at_ms), "never heard, and heard at one moment");
}

async fn pages_of_the_silent_lose_nobody_and_repeat_nobody(bench: Bench) {
    fleet(&bench).await;
    for limit in 1..=4 {
        let (mut query, mut seen) = (silent(limit), Vec::new());
        loop {
            let page = silent_page(&bench, &query).await;
            seen.extend(page.iter().map(|(_, id)| *id));
            if page.len() < limit as usize {
                break;
            }
            query.after = page.last().map(|(heard, _)| *heard);
        }
        assert_eq!(seen, [5, 3, 2, 4].map(id), "in pages of {limit}");
    }
}

async fn a_search_among_ids_and_among_the_silent_finds_the_same(bench: Bench) {
    fleet(&bench).await;
    bench.put_mitra(id(4), "Sari", None, &cause("")).await.expect("named");
    bench.put_mitra(id(6), "Sari too", None, &cause("")).await.expect("named");
    let ids: Vec<MitraId> = (1..=9).map(id).collect();
    let among = async |search: Option<&str>| {
        let found = bench.profiles(&ids, search).await.expect("read");
        found.into_iter().map(|profile| profile.row.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(among(None).await, (1..=7).map(id).collect());
    assert_eq!(among(Some("sARI")).await, [4, 6].map(id).into());
    assert_eq!(among(Some(&id(5).to_string()[20..])).await, [5].map(id).into());
    assert!(bench.profiles(&[], None).await.expect("read").is_empty());
    let page = silent_page(&bench, &SilentQuery { search: Some("sari".into()), ..silent(10) }).await;
    assert_eq!(page.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [id(4)]);
}

async fn search_folds_the_case_of_every_script(bench: Bench) {
    let names = ["Élodie Ångström", "ДМИТРИЙ", "Ὀδυσσεύς", "straße", "ŽELJKO", "Ωmega"];
    for (n, name) in names.into_iter().enumerate() {
        bench.put_mitra(id(1 + n as u128), name, None, &cause("")).await.expect("created");
    }
    for (search, found) in [
        ("éLODIE", 1),
        ("ÅNGSTRÖM", 1),
        ("дмитрий", 2),
        ("дМи", 2),
        ("σσΕΎΣ", 3),
        ("STRAß", 4),
        ("željko", 5),
        ("ωMEGA", 6),
        ("elodie", 0),
    ] {
        let query = MitraQuery {
            state: DurableState::Any,
            fresh_within: None,
            search: Some(search.to_owned()),
            after: None,
            limit: 10,
        };
        let listed = bench.list(&query).await.expect("listed");
        let expected: Vec<_> = (found > 0).then(|| id(found)).into_iter().collect();
        assert_eq!(listed.iter().map(|profile| profile.row.id).collect::<Vec<_>>(), expected, "{search}");
    }
}

/// All of them online; every 450th silent, which are 222.
async fn a_hundred_thousand(bench: &Bench) {
    let (made, set) = match bench.beside {
        Beside::Postgres { .. } => (
            "INSERT INTO mitras (id, display_name) SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, \
             'Mitra ' || n FROM generate_series(1, 100000) AS n",
            "true",
        ),
        Beside::Sqlite { .. } => (
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000) \
             INSERT INTO mitras (id, display_name) \
             SELECT '00000000-0000-4000-8000-' || printf('%012x', n), 'Mitra ' || n FROM numbers",
            "1",
        ),
    };
    bench.run(made.to_owned()).await;
    bench.run(format!("UPDATE mitra_status SET is_online = {set}")).await;
    let at = bench.ago(FRESH * 2);
    bench
        .run(format!(
            "UPDATE mitra_heartbeats SET last_heartbeat_at = {at} WHERE mitra_id IN \
             (SELECT mitra_id FROM (SELECT mitra_id, row_number() OVER (ORDER BY mitra_id) AS n FROM mitra_heartbeats) AS \
             numbered WHERE n % 450 = 0)"
        ))
        .await;
}

async fn pages_of_a_hundred_thousand_hold_what_was_asked_for(bench: Bench) {
    a_hundred_thousand(&bench).await;
    let first = silent_page(&bench, &silent(200)).await;
    let after = first.last().map(|(heard, _)| *heard);
    let second = silent_page(&bench, &SilentQuery { after, ..silent(200) }).await;
    assert_eq!((first.len(), second.len()), (200, 22), "222 in two pages");
    let all: BTreeSet<_> = first.iter().chain(&second).map(|(_, id)| *id).collect();
    assert_eq!(all.len(), 222);

    // Everybody silent: a page from the middle begins right behind the one before.
    let everybody = SilentQuery { fresh_within: Duration::ZERO, ..silent(200) };
    let one = silent_page(&bench, &everybody).await;
    let after = one.last().map(|(heard, _)| *heard);
    let next = silent_page(&bench, &SilentQuery { after, ..everybody }).await;
    assert_eq!((one.len(), next.len()), (200, 200));
    assert!(one.iter().chain(&next).is_sorted_by_key(|(heard, _)| *heard));
    assert!(one.last().map(|(heard, _)| *heard) < next.first().map(|(heard, _)| *heard));

    let fresh = |after| MitraQuery {
        state: DurableState::OnlineWithRoom,
        fresh_within: Some(FRESH),
        search: None,
        after,
        limit: 1_000,
    };
    let page = bench.list(&fresh(Some(all.first().copied().expect("one")))).await.expect("listed");
    assert_eq!(page.len(), 1_000, "full, though silent ones lie between");
    assert!(page.iter().all(|profile| !all.contains(&profile.row.id)));
}

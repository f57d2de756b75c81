//! Whether the mirror says what the store says: every key that other programs may read, and every record, compared with every
//! row.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use sqlx::{Connection, PgConnection, Row};

use crate::kit::resp::{Answer, Raw};

/// Differences that are told.
const TOLD: usize = 3;

struct Line {
    id: String,
    active: bool,
    online: bool,
    sessions: i32,
    room: bool,
    /// As the mirror writes a row down.
    record: String,
}

/// What differs, in words; empty when the mirror of this Valkey equals the store. One that is not seeded differs.
///
/// # Errors
/// One of them does not answer.
pub async fn differences(database_url: &str, valkey_port: u16) -> Result<Vec<String>> {
    let mirror = tokio::task::spawn_blocking(move || Mirror::read(valkey_port)).await??;
    let rows = rows(database_url).await?;
    let mut wrong = Vec::new();
    if !mirror.has_epoch {
        wrong.push("the mirror has no epoch".to_owned());
    }
    for line in &rows {
        let listed = line.online && line.active;
        let has = [
            ("mitras:online", mirror.online.contains(&line.id), line.online),
            ("mitras:deactivated", mirror.deactivated.contains(&line.id), !line.active),
            ("mitras:liveness", mirror.liveness.contains(&line.id), listed),
            ("mitras:available", mirror.available.contains(&line.id), listed && line.room),
        ];
        let wrong_sets = has.iter().filter(|(_, there, wanted)| there != wanted);
        wrong.extend(wrong_sets.map(|(key, there, _)| format!("{} in {key}: {there}", line.id)));
        let capacity = (line.online || line.sessions > 0).then(|| line.sessions.to_string());
        if mirror.capacities.get(&line.id) != capacity.as_ref() {
            wrong.push(format!("mitra:capacity:{}", line.id));
        }
        if mirror.records.get(&line.id) != Some(&line.record) {
            let known = mirror.records.get(&line.id).map_or("nothing", String::as_str);
            wrong.push(format!("{} is known as {known}, is {}", line.id, line.record));
        }
    }
    let known: BTreeSet<&String> = rows.iter().map(|line| &line.id).collect();
    let strangers = mirror.records.keys().filter(|id| !known.contains(id));
    wrong.extend(strangers.map(|id| format!("{id} is in the mirror only")));
    let more = wrong.len().saturating_sub(TOLD);
    wrong.truncate(TOLD);
    if more > 0 {
        wrong.push(format!("and {more} more"));
    }
    Ok(wrong)
}

async fn rows(database_url: &str) -> Result<Vec<Line>> {
    let mut connection = PgConnection::connect(database_url).await?;
    let rows = sqlx::query(
        "SELECT id::text AS id, is_active, is_online, active_sessions, coalesce(max_sessions, 1) AS max_sessions,
                revision, online_epoch, generation
         FROM hadir_mitras",
    )
    .fetch_all(&mut connection)
    .await?;
    connection.close().await?;
    rows.into_iter()
        .map(|row| {
            let (active, online): (bool, bool) = (row.try_get("is_active")?, row.try_get("is_online")?);
            let (sessions, most): (i32, i32) = (row.try_get("active_sessions")?, row.try_get("max_sessions")?);
            let (revision, epoch): (i64, i64) = (row.try_get("revision")?, row.try_get("online_epoch")?);
            let generation: i64 = row.try_get("generation")?;
            let state = match (online, active) {
                (true, true) => 'o',
                (false, true) => 'f',
                (false, false) => 'd',
                (true, false) => 'x',
            };
            Ok(Line {
                id: row.try_get("id")?,
                active,
                online,
                sessions,
                room: sessions < most,
                record: format!("{state}:{epoch}:{generation}:{revision}:{sessions}:{most}"),
            })
        })
        .collect()
}

struct Mirror {
    has_epoch: bool,
    online: BTreeSet<String>,
    deactivated: BTreeSet<String>,
    liveness: BTreeSet<String>,
    available: BTreeSet<String>,
    records: BTreeMap<String, String>,
    capacities: BTreeMap<String, String>,
}

impl Mirror {
    fn read(port: u16) -> Result<Self> {
        let mut raw = Raw::to(port)?;
        let mut list = |words: &[&[u8]]| -> Result<Vec<String>> {
            match raw.ask(words)? {
                Answer::List(list) => Ok(list.iter().map(Answer::text).collect()),
                other => anyhow::bail!("{other:?} is no list"),
            }
        };
        let online = list(&[b"SMEMBERS", b"mitras:online"])?.into_iter().collect();
        let deactivated = list(&[b"SMEMBERS", b"mitras:deactivated"])?.into_iter().collect();
        let liveness = list(&[b"ZRANGE", b"mitras:liveness", b"0", b"-1"])?.into_iter().collect();
        let available = list(&[b"ZRANGE", b"mitras:available", b"0", b"-1"])?.into_iter().collect();
        let pairs = list(&[b"HGETALL", b"hadir:mitras"])?;
        let keys = list(&[b"KEYS", b"mitra:capacity:*"])?;
        let records = pairs.as_chunks::<2>().0.iter().map(|[id, record]| (id.clone(), record.clone())).collect();
        let mut capacities = BTreeMap::new();
        for key in keys {
            let value = raw.ask(&[b"GET", key.as_bytes()])?;
            let id = key.strip_prefix("mitra:capacity:").context("it was asked for")?;
            capacities.insert(id.to_owned(), value.text());
        }
        let has_epoch = raw.ask(&[b"GET", b"hadir:epoch"])? != Answer::Nil;
        Ok(Self { has_epoch, online, deactivated, liveness, available, records, capacities })
    }
}

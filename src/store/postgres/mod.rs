//! The truth in Postgres, shared by all nodes and written by other programs too.
//!
//! Every call has a deadline, and a connection that missed one is dropped. What presence itself asks has connections of its
//! own: commands that wait for rows of a stranger's long transaction may hold all the others. The rules live in the triggers and functions of
//! `migrations/postgres`; this translates between them and the trait. Only `app` constructs this.

mod bells;
mod check;
mod connect;
mod holders;
mod lists;
mod migrate;
mod node_lock;
mod nodes;
mod outage;
mod pooler;
mod reads;
mod rights;
mod schema;
mod servers;
mod session;
mod sessions;
mod trial;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use sqlx::{Row, postgres::PgRow};
use tokio::{join, time::sleep};
use uuid::Uuid;

pub use check::{Finding, LOWEST_VERSION, check};
pub use connect::PostgresSettings;
pub use migrate::migrate;
pub use node_lock::NodeLock;
use outage::Outage;
pub use pooler::refuse_transaction_pooler;
pub use rights::refuse_missing_rights;
pub use schema::awaits_migration;
use servers::Servers;
use session::{Pool, Query, explain};

use super::{
    AuthSession, Bell, Heard, MitraProfile, MitraQuery, SessionChange, SessionCounts, SilentQuery, Store, StoreError,
    Transition,
    decode::{decoded, unreadable, whole_page},
    milliseconds,
};
use crate::domain::{
    AvailablePage, Cause, ChatSession, Counts, CustomerId, Fence, LastHeard, MitraFacts, MitraId, MitraRow, NodeId,
    PresenceEvent, SessionAction, SessionId, Source,
};

/// Heartbeats of rows that another transaction holds are tried again this often, after this pause.
const BUSY_ATTEMPTS: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The truth in Postgres.
pub struct PostgresStore {
    settings: PostgresSettings,
    servers: Arc<Servers>,
    /// For what callers ask and command: admissions, commands, sessions, lists.
    callers: Pool,
    /// For what presence itself asks, and nothing here waits for a row that somebody holds: counts, looks, heartbeats, sweeps.
    presence: Pool,
    /// What both pools met.
    outage: Arc<Outage>,
}

/// The columns of a row of the view `hadir_mitras`, `$1` being the default capacity, and the rest of the statement.
macro_rules! select_mitras {
    ($($rest:expr),+) => {
        concat!(
            "SELECT id, display_name, is_active, is_online, active_sessions, coalesce(max_sessions, $1) AS max_sessions, \
             revision, online_epoch, generation, age_ms ",
            $($rest),+
        )
    };
}
use select_mitras;

/// The same of one page, in its order, from the tables `m`, `s` and `h`. The view reads the clock for every row, so PostgreSQL
/// computes all of it before any ORDER BY or LIMIT of ours; here a page costs a page.
macro_rules! select_page {
    ($key:literal, $limit:literal, $($condition:expr),+) => {
        select_mitras!(
            "FROM (SELECT *, (SELECT generation FROM hadir_meta) AS generation, \
             hadir_age_ms(last_heartbeat_at) AS age_ms \
             FROM (SELECT m.id, m.display_name, m.is_active, s.is_online, s.active_sessions, m.max_sessions, s.revision, \
             s.online_epoch, h.last_heartbeat_at FROM mitras m JOIN mitra_status s ON s.mitra_id = m.id \
             JOIN mitra_heartbeats h ON h.mitra_id = m.id WHERE ",
            $($condition,)+
            " ORDER BY ", $key, " LIMIT ", $limit, ") AS page) AS aged ORDER BY ", $key
        )
    };
}
use select_page;

fn mitra_row(row: &PgRow) -> Result<MitraRow, sqlx::Error> {
    let age_ms: Option<i64> = row.try_get("age_ms")?;
    let number = |column| row.try_get::<i32, _>(column).map(|n| n.max(0) as u32);
    Ok(MitraRow {
        id: MitraId(row.try_get("id")?),
        facts: MitraFacts {
            online: row.try_get("is_online")?,
            active: row.try_get("is_active")?,
            sessions: number("active_sessions")?,
            max_sessions: number("max_sessions")?,
            fence: Fence { generation: row.try_get("generation")?, revision: row.try_get("revision")? },
            online_epoch: row.try_get("online_epoch")?,
        },
        // A little in the future is now.
        heartbeat_age: age_ms.map(|age| Duration::from_millis(age.max(0) as u64)),
    })
}

fn mitra_rows(rows: &[PgRow]) -> Vec<MitraRow> {
    decoded(rows, "mitra", uuid_of("id"), mitra_row)
}

/// Names a row by this column.
fn uuid_of(column: &'static str) -> impl Fn(&PgRow) -> Result<Uuid, sqlx::Error> {
    move |row| row.try_get(column)
}

impl PostgresStore {
    fn capacity(&self) -> i32 {
        i32::try_from(self.settings.default_max_sessions).unwrap_or(i32::MAX)
    }

    /// Mitras for presence itself.
    async fn rows(&self, query: Query<'_>) -> Result<Vec<MitraRow>, StoreError> {
        Ok(mitra_rows(&self.presence.ask(query).await?))
    }

    async fn transition(&self, id: MitraId, query: Query<'_>) -> Result<Transition, StoreError> {
        let row = self.callers.ask_one(query).await?.ok_or(StoreError::UnknownMitra(id))?;
        let transition = || Ok(Transition { row: mitra_row(&row)?, changed: row.try_get("changed")? });
        transition().map_err(|error: sqlx::Error| unreadable("mitra", id, &error))
    }
}

/// A write function's answer: whether it changed the row, and the row.
macro_rules! call {
    ($function:literal) => {
        select_mitras!(", changed FROM (SELECT f.changed, (f.mitra_row).* FROM ", $function, " AS f) AS written")
    };
}

#[async_trait]
impl Store for PostgresStore {
    fn source(&self) -> Source {
        Source::Postgres
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // A demoted primary still answers `SELECT 1`.
        let sql = "SELECT current_setting('transaction_read_only') = 'on'";
        if self.presence.single(sqlx::query(sql)).await? { Err(session::read_only()) } else { Ok(()) }
    }

    fn trouble(&self) -> Option<String> {
        self.outage.reason()
    }

    async fn mitra(&self, id: MitraId) -> Result<Option<MitraRow>, StoreError> {
        Ok(self.profile(id).await?.map(|profile| profile.row))
    }

    async fn mitras(&self, ids: &[MitraId]) -> Result<Vec<MitraRow>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let sql = select_mitras!("FROM hadir_mitras WHERE id = ANY ($2) ORDER BY id");
        self.rows(sqlx::query(sql).bind(self.capacity()).bind(ids)).await
    }

    async fn unknown_mitras(&self, ids: &[MitraId]) -> Result<Vec<MitraId>, StoreError> {
        let sql = "SELECT u.id FROM unnest($1) AS u (id) WHERE NOT EXISTS (SELECT 1 FROM mitras m WHERE m.id = u.id)";
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = self.presence.ask(sqlx::query(sql).bind(ids)).await?;
        rows.iter().map(|row| row.try_get("id").map(MitraId)).collect::<Result<_, _>>().map_err(explain)
    }

    async fn profile(&self, id: MitraId) -> Result<Option<MitraProfile>, StoreError> {
        self.read_profile(id).await
    }

    async fn put_mitra(
        &self,
        id: MitraId,
        display_name: &str,
        max_sessions: Option<u32>,
        cause: &Cause,
    ) -> Result<Transition, StoreError> {
        let max_sessions = max_sessions.map(|max| i32::try_from(max).unwrap_or(i32::MAX));
        let query = sqlx::query(call!("hadir_put_mitra($2, $3, $4, $5, $6)"))
            .bind(self.capacity())
            .bind(id.0)
            .bind(display_name)
            .bind(max_sessions)
            .bind(cause.actor_text())
            .bind(&cause.reason);
        self.transition(id, query).await
    }

    async fn set_online(&self, id: MitraId, online: bool, cause: &Cause) -> Result<Transition, StoreError> {
        let query = sqlx::query(call!("hadir_set_online($2, $3, $4, $5)"))
            .bind(self.capacity())
            .bind(id.0)
            .bind(online)
            .bind(cause.actor_text())
            .bind(&cause.reason);
        let transition = self.transition(id, query).await?;
        if online && !transition.row.active { Err(StoreError::Deactivated(id)) } else { Ok(transition) }
    }

    async fn set_active(&self, id: MitraId, active: bool, cause: &Cause) -> Result<Transition, StoreError> {
        let query = sqlx::query(call!("hadir_set_active($2, $3, $4, $5)"))
            .bind(self.capacity())
            .bind(id.0)
            .bind(active)
            .bind(cause.actor_text())
            .bind(&cause.reason);
        self.transition(id, query).await
    }

    async fn expire_silent(
        &self,
        candidates: &[(MitraId, i64)],
        silent_for: Duration,
    ) -> Result<Vec<MitraRow>, StoreError> {
        let (ids, epochs): (Vec<Uuid>, Vec<i64>) = candidates.iter().map(|(id, epoch)| (id.0, *epoch)).unzip();
        let query = sqlx::query(select_mitras!("FROM hadir_expire_silent($2, $3, $4)"))
            .bind(self.capacity())
            .bind(ids)
            .bind(epochs)
            .bind(milliseconds(silent_for));
        self.rows(query).await
    }

    async fn record_heartbeats(&self, ages: &[(MitraId, Duration)]) -> Result<u64, StoreError> {
        let began = Instant::now();
        let (mut ids, mut ages): (Vec<Uuid>, Vec<i64>) =
            ages.iter().map(|(id, age)| (id.0, milliseconds(*age))).unzip();
        let mut moved = 0;
        for attempt in 0..=BUSY_ATTEMPTS {
            let waited = milliseconds(began.elapsed());
            let now_ages: Vec<i64> = ages.iter().map(|age| age + waited).collect();
            let query =
                sqlx::query("SELECT moved, busy FROM hadir_record_heartbeats($1, $2)").bind(&ids).bind(now_ages);
            let Some(row) = self.presence.ask_one(query).await? else { break };
            moved += row.try_get::<i64, _>("moved").map_err(explain)?.max(0) as u64;
            let busy: HashSet<Uuid> = row.try_get::<Vec<Uuid>, _>("busy").map_err(explain)?.into_iter().collect();
            if busy.is_empty() {
                break;
            }
            if attempt == BUSY_ATTEMPTS {
                tracing::debug!(rows = busy.len(), "heartbeats of rows that others hold are left to the next batch");
            }
            (ids, ages) = ids.into_iter().zip(ages).filter(|(id, _)| busy.contains(id)).unzip();
            sleep(BUSY_PAUSE).await;
        }
        Ok(moved)
    }

    async fn counts(&self, fresh_within: Duration) -> Result<Counts, StoreError> {
        self.read_counts(fresh_within).await
    }

    async fn find_available(&self, fresh_within: Duration, limit: u32) -> Result<AvailablePage, StoreError> {
        self.read_available(fresh_within, limit).await
    }

    async fn list(&self, query: &MitraQuery) -> Result<Vec<MitraProfile>, StoreError> {
        self.read_list(query).await
    }

    async fn silent(&self, query: &SilentQuery) -> Result<Vec<(LastHeard, MitraProfile)>, StoreError> {
        self.read_silent(query).await
    }

    async fn profiles(&self, ids: &[MitraId], search: Option<&str>) -> Result<Vec<MitraProfile>, StoreError> {
        self.read_profiles(ids, search).await
    }

    async fn scan(&self, after: Option<MitraId>, limit: u32) -> Result<Vec<MitraRow>, StoreError> {
        // The nil id is nobody's (a constraint says so): every other is greater. Not `select_page`: a seed asks this a thousand times,
        // and only of this does PostgreSQL keep the plan.
        let sql = select_mitras!(
            "FROM hadir_mitras WHERE id = ANY (ARRAY (SELECT mitra_id FROM mitra_status WHERE mitra_id > $2 \
             ORDER BY mitra_id LIMIT $3)) ORDER BY id"
        );
        whole_page!(
            limit,
            after.map_or(Uuid::nil(), |id| id.0),
            |after, wanted| self
                .presence
                .ask(sqlx::query(sql).bind(self.capacity()).bind(*after).bind(i64::from(wanted))),
            uuid_of("id"),
            mitra_rows
        )
    }

    async fn changed_since(&self, revision: i64, limit: u32) -> Result<Vec<MitraRow>, StoreError> {
        let sql = select_page!("revision", "$3", "s.revision > $2");
        whole_page!(
            limit,
            revision,
            |after, wanted| self
                .presence
                .ask(sqlx::query(sql).bind(self.capacity()).bind(*after).bind(i64::from(wanted))),
            |row: &PgRow| row.try_get("revision"),
            mitra_rows
        )
    }

    async fn newest_revision(&self) -> Result<i64, StoreError> {
        let sql = "SELECT coalesce(max(revision), 0) FROM mitra_status";
        self.presence.single(sqlx::query(sql)).await
    }

    async fn last_given_revision(&self) -> Result<i64, StoreError> {
        self.presence.single(sqlx::query("SELECT last_value FROM hadir_revision")).await
    }

    async fn invalid_sign_ins(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        self.read_invalid_sign_ins(ids).await
    }

    async fn create_session(
        &self,
        id: Option<SessionId>,
        customer: CustomerId,
    ) -> Result<(ChatSession, bool), StoreError> {
        self.write_session(id, customer).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<ChatSession>, StoreError> {
        self.read_session(id).await
    }

    async fn change_session(
        &self,
        id: SessionId,
        action: &SessionAction,
        cause: &Cause,
    ) -> Result<SessionChange, StoreError> {
        self.write_session_change(id, action, cause).await
    }

    async fn expire_sessions(&self, limit: u32) -> Result<Vec<SessionChange>, StoreError> {
        self.write_expired_sessions(limit).await
    }

    async fn next_expiry(&self) -> Result<Option<Duration>, StoreError> {
        self.read_next_expiry().await
    }

    async fn session_counts(&self) -> Result<SessionCounts, StoreError> {
        self.read_session_counts().await
    }

    async fn report_lone(&self, node: &NodeId) -> Result<(), StoreError> {
        self.write_lone(node).await
    }

    async fn has_lone_nodes(&self, but: &NodeId, within: Duration) -> Result<bool, StoreError> {
        self.read_lone(but, within).await
    }

    async fn heard_within(
        &self,
        within: Duration,
        after: Option<MitraId>,
        limit: u32,
    ) -> Result<Vec<Heard>, StoreError> {
        self.read_heard(within, after, limit).await
    }

    async fn identity(&self) -> Result<Uuid, StoreError> {
        self.presence.single(sqlx::query("SELECT store_id FROM hadir_meta")).await
    }

    async fn new_generation(&self) -> Result<i64, StoreError> {
        self.presence.single(sqlx::query(migrate::NEW_GENERATION)).await
    }

    async fn pause_sweep(&self, sweep: &str, rest: Duration) -> Result<(), StoreError> {
        self.write_pause(sweep, rest).await
    }

    async fn paused_sweeps(&self) -> Result<Vec<(String, Duration)>, StoreError> {
        self.read_pauses().await
    }

    async fn events(&self, id: MitraId, limit: u32) -> Result<Vec<PresenceEvent>, StoreError> {
        self.read_events(id, None, limit).await
    }

    async fn latest_event(&self, id: MitraId, kind: &str) -> Result<Option<PresenceEvent>, StoreError> {
        Ok(self.read_events(id, Some(kind), 1).await?.pop())
    }

    async fn load_of(&self, id: MitraId, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        self.read_load(id, limit).await
    }

    async fn prune_events(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        // Rows that another node removes just now are its own to count.
        let sql = "WITH gone AS (DELETE FROM presence_events WHERE id IN (SELECT id FROM presence_events \
                   WHERE at < now() - $1 * interval '1 millisecond' ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED) \
                   RETURNING 1) SELECT count(*) FROM gone";
        let gone: i64 = self.callers.single(sqlx::query(sql).bind(milliseconds(keep)).bind(i64::from(limit))).await?;
        Ok(gone.max(0) as u64)
    }

    async fn auth_session(&self, id: Uuid) -> Result<Option<AuthSession>, StoreError> {
        self.read_auth_session(id).await
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.presence.single(sqlx::query("SELECT clock_timestamp()")).await
    }

    async fn bells(&self) -> Result<BoxStream<'static, Bell>, StoreError> {
        Ok(bells::listen(bells::Listening {
            servers: Arc::clone(&self.servers),
            set_up: format!("{}; {}", self.settings.set_up(self.settings.query_timeout), connect::NEVER_IDLE_OUT)
                .into(),
            channel: self.settings.channel(),
            deadline: self.settings.query_timeout,
        }))
    }

    async fn close(&self) {
        join!(self.callers.close(), self.presence.close());
    }
}

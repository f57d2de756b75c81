//! What nodes tell each other through the store: who is without the mirror and what it heard, and which sweeps rest.

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, explain, mitra_rows, select_mitras, select_page, uuid_of};
use crate::{
    domain::{MitraId, MitraRow, NodeId},
    store::{Heard, StoreError, decode::whole_page, milliseconds},
};

impl PostgresStore {
    pub(super) async fn write_lone(&self, node: &NodeId) -> Result<(), StoreError> {
        // Those of nodes that are long gone go with it.
        let sql = "WITH gone AS (DELETE FROM hadir_lone_nodes WHERE seen_at < now() - interval '1 day' AND node_id <> $1) \
                   INSERT INTO hadir_lone_nodes (node_id) VALUES ($1) \
                   ON CONFLICT (node_id) DO UPDATE SET seen_at = excluded.seen_at";
        self.presence.ask(sqlx::query(sql).bind(node.as_str())).await.map(|_| ())
    }

    pub(super) async fn read_lone(&self, but: &NodeId, within: Duration) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM hadir_lone_nodes \
                   WHERE node_id <> $1 AND seen_at > now() - $2 * interval '1 millisecond' \
                   AND seen_at <= hadir_latest_heartbeat())";
        self.presence.single(sqlx::query(sql).bind(but.as_str()).bind(milliseconds(within))).await
    }

    pub(super) async fn read_heard(
        &self,
        within: Duration,
        after: Option<MitraId>,
        limit: u32,
    ) -> Result<Vec<Heard>, StoreError> {
        let sql = select_page!(
            "id",
            "$4",
            "s.is_online AND m.is_active AND m.id > $2 AND s.mitra_id > $2 AND h.mitra_id > $2 \
             AND h.last_heartbeat_at > now() - $3 * interval '1 millisecond' \
             AND h.last_heartbeat_at <= hadir_latest_heartbeat()"
        );
        let query = |after: &Uuid, wanted: u32| {
            let query = sqlx::query(sql).bind(self.capacity()).bind(*after);
            query.bind(milliseconds(within)).bind(i64::from(wanted))
        };
        let heard = |row: MitraRow| Heard {
            id: row.id,
            online_epoch: row.online_epoch,
            age: row.heartbeat_age.unwrap_or_default(),
        };
        whole_page!(
            limit,
            after.map_or(Uuid::nil(), |id| id.0),
            |after, wanted| self.presence.ask(query(after, wanted)),
            uuid_of("id"),
            |rows: &[PgRow]| mitra_rows(rows).into_iter().map(heard)
        )
    }

    pub(super) async fn write_pause(&self, sweep: &str, rest: Duration) -> Result<(), StoreError> {
        let sql = "INSERT INTO hadir_sweep_pauses (sweep, until) VALUES ($1, now() + $2 * interval '1 millisecond') \
                   ON CONFLICT (sweep) DO UPDATE SET until = excluded.until";
        self.callers.ask(sqlx::query(sql).bind(sweep).bind(milliseconds(rest))).await.map(|_| ())
    }

    pub(super) async fn read_pauses(&self) -> Result<Vec<(String, Duration)>, StoreError> {
        let sql = "SELECT sweep, (extract(epoch FROM hadir_time(until) - now()) * 1000)::bigint AS left_ms \
                   FROM hadir_sweep_pauses WHERE until > now()";
        let pause = |row: &PgRow| {
            let left = row.try_get::<i64, _>("left_ms")?.max(0) as u64;
            Ok::<_, sqlx::Error>((row.try_get("sweep")?, Duration::from_millis(left)))
        };
        self.presence.ask(sqlx::query(sql)).await?.iter().map(pause).collect::<Result<_, _>>().map_err(explain)
    }
}

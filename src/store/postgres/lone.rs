//! Nodes without the mirror, and what they heard.

use std::time::Duration;

use sqlx::Row;

use super::{PostgresStore, explain};
use crate::{
    domain::{MitraId, NodeId},
    store::{Heard, StoreError, milliseconds},
};

impl PostgresStore {
    pub(super) async fn write_lone(&self, node: &NodeId) -> Result<(), StoreError> {
        // Those of nodes that are long gone go with it.
        let sql = "WITH gone AS (DELETE FROM hadir_lone_nodes WHERE seen_at < now() - interval '1 day' AND node_id <> $1) \
                   INSERT INTO hadir_lone_nodes (node_id) VALUES ($1) \
                   ON CONFLICT (node_id) DO UPDATE SET seen_at = excluded.seen_at";
        self.ask(sqlx::query(sql).bind(node.as_str())).await.map(|_| ())
    }

    pub(super) async fn read_lone(&self, but: &NodeId, within: Duration) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM hadir_lone_nodes \
                   WHERE node_id <> $1 AND seen_at > now() - $2 * interval '1 millisecond')";
        self.single(sqlx::query(sql).bind(but.as_str()).bind(milliseconds(within))).await
    }

    pub(super) async fn read_heard(
        &self,
        within: Duration,
        after: Option<MitraId>,
        limit: u32,
    ) -> Result<Vec<Heard>, StoreError> {
        let sql = "SELECT id, online_epoch, greatest(age_ms, 0) AS age_ms FROM hadir_mitras \
                   WHERE is_online AND is_active AND ($1::uuid IS NULL OR id > $1) \
                   AND last_heartbeat_at > now() - $2 * interval '1 millisecond' ORDER BY id LIMIT $3";
        let query = sqlx::query(sql).bind(after.map(|id| id.0)).bind(milliseconds(within)).bind(i64::from(limit));
        let heard = |row: &sqlx::postgres::PgRow| {
            Ok::<_, sqlx::Error>(Heard {
                id: MitraId(row.try_get("id")?),
                online_epoch: row.try_get("online_epoch")?,
                age: Duration::from_millis(row.try_get::<i64, _>("age_ms")?.max(0) as u64),
            })
        };
        self.ask(query).await?.iter().map(heard).collect::<Result<_, _>>().map_err(explain)
    }
}

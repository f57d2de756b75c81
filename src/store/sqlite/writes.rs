//! Writes, one at a time, each one transaction that first says who writes and why.

use std::time::Duration;

use sqlx::{Sqlite, Transaction};

use super::{SqliteStore, mitra_row};
use crate::{
    domain::{Actor, Cause, MitraId, MitraRow},
    store::{StoreError, Transition, milliseconds},
};

pub(super) type Tx = Transaction<'static, Sqlite>;

impl SqliteStore {
    pub(super) async fn begin(&self, cause: &Cause) -> Result<Tx, sqlx::Error> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let sql = "UPDATE hadir_meta SET actor = ?1, reason = nullif(?2, '')";
        sqlx::query(sql).bind(cause.actor_text()).bind(&cause.reason).execute(&mut *tx).await?;
        Ok(tx)
    }

    /// Plain SQL by a person at the file is recorded as such.
    pub(super) async fn commit(&self, mut tx: Tx) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE hadir_meta SET actor = 'sql', reason = NULL").execute(&mut *tx).await?;
        tx.commit().await?;
        self.writes.worked();
        Ok(())
    }

    pub(super) async fn row_in(&self, tx: &mut Tx, id: MitraId) -> Result<Option<MitraRow>, sqlx::Error> {
        let sql = select_mitras!("WHERE m.id = ?2");
        let query = sqlx::query(sql).bind(self.settings.default_max_sessions).bind(id.to_string());
        query.fetch_optional(&mut **tx).await?.map(|row| mitra_row(&row)).transpose()
    }

    /// Runs one write for one mitra and says whether it changed the row. `refuse` looks at the row before.
    async fn transition(
        &self,
        id: MitraId,
        cause: &Cause,
        refuse: impl Fn(&MitraRow) -> Option<StoreError> + Send,
        statements: &[&'static str],
        value: bool,
    ) -> Result<Transition, StoreError> {
        self.writing(async {
            let mut tx = self.begin(cause).await?;
            let Some(before) = self.row_in(&mut tx, id).await? else {
                return Ok(Err(StoreError::UnknownMitra(id)));
            };
            if let Some(refusal) = refuse(&before) {
                return Ok(Err(refusal));
            }
            for sql in statements {
                sqlx::query(*sql).bind(id.to_string()).bind(value).execute(&mut *tx).await?;
            }
            let row = self.row_in(&mut tx, id).await?.ok_or(sqlx::Error::RowNotFound)?;
            self.commit(tx).await?;
            Ok(Ok(Transition { changed: row.fence != before.fence, row }))
        })
        .await?
    }

    pub(super) async fn write_online(
        &self,
        id: MitraId,
        online: bool,
        cause: &Cause,
    ) -> Result<Transition, StoreError> {
        let refuse = |row: &MitraRow| (online && !row.active).then_some(StoreError::Deactivated(id));
        let statements = [
            "UPDATE mitra_status SET is_online = ?2 WHERE mitra_id = ?1 AND is_online <> ?2",
            // Going online again is a heartbeat.
            "UPDATE mitra_heartbeats SET last_heartbeat_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) \
             WHERE mitra_id = ?1 AND ?2",
        ];
        self.transition(id, cause, refuse, &statements, online).await
    }

    pub(super) async fn write_active(
        &self,
        id: MitraId,
        active: bool,
        cause: &Cause,
    ) -> Result<Transition, StoreError> {
        let statements = ["UPDATE mitras SET is_active = ?2 WHERE id = ?1 AND is_active <> ?2"];
        self.transition(id, cause, |_| None, &statements, active).await
    }

    pub(super) async fn write_mitra(
        &self,
        id: MitraId,
        display_name: &str,
        max_sessions: Option<u32>,
        cause: &Cause,
    ) -> Result<Transition, StoreError> {
        self.writing(async {
            let mut tx = self.begin(cause).await?;
            let before = self.row_in(&mut tx, id).await?;
            let sql = "INSERT INTO mitras (id, display_name, max_sessions) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE \
                       SET display_name = excluded.display_name, max_sessions = coalesce(excluded.max_sessions, max_sessions)";
            let query = sqlx::query(sql).bind(id.to_string()).bind(display_name).bind(max_sessions);
            query.execute(&mut *tx).await?;
            let row = self.row_in(&mut tx, id).await?.ok_or(sqlx::Error::RowNotFound)?;
            self.commit(tx).await?;
            Ok(Transition { changed: before.is_none_or(|before| before.fence != row.fence), row })
        })
        .await
    }

    pub(super) async fn write_expired(
        &self,
        candidates: &[(MitraId, i64)],
        silent_for: Duration,
    ) -> Result<Vec<MitraRow>, StoreError> {
        let cause = Cause::new(Actor::Sweep, "silent");
        let pairs: Vec<_> = candidates.iter().map(|(id, epoch)| (id.to_string(), epoch)).collect();
        let pairs = serde_json::json!(pairs).to_string();
        let changed = self
            .writing(async {
                let mut tx = self.begin(&cause).await?;
                let sql = "UPDATE mitra_status SET is_online = 0 WHERE is_online = 1 AND mitra_id IN ( \
                           SELECT s.mitra_id FROM json_each(?1) c \
                           JOIN mitra_status s ON s.mitra_id = c.value ->> 0 AND s.online_epoch = c.value ->> 1 \
                           JOIN mitra_heartbeats h ON h.mitra_id = s.mitra_id \
                           WHERE coalesce(h.last_heartbeat_at, -9223372036854775807) <= CAST(unixepoch('subsec') * 1000 AS INTEGER) - ?2 \
                           OR h.last_heartbeat_at > CAST(unixepoch('subsec') * 1000 AS INTEGER) + 10000) \
                           RETURNING mitra_id";
                let query = sqlx::query(sql).bind(&pairs).bind(milliseconds(silent_for));
                let rows = query.fetch_all(&mut *tx).await?;
                self.commit(tx).await?;
                rows.iter().map(|row| super::id_column(row, "mitra_id")).collect::<Result<Vec<_>, _>>()
            })
            .await?;
        self.read_rows(&changed).await
    }

    pub(super) async fn write_heartbeats(&self, ages: &[(MitraId, Duration)]) -> Result<u64, StoreError> {
        let pairs: Vec<_> = ages.iter().map(|(id, age)| (id.to_string(), milliseconds(*age))).collect();
        let sql = "UPDATE mitra_heartbeats SET last_heartbeat_at = at FROM ( \
                     SELECT value ->> 0 AS id, CAST(unixepoch('subsec') * 1000 AS INTEGER) - min(value ->> 1) AS at \
                     FROM json_each(?1) GROUP BY 1) AS beat \
                   WHERE mitra_id = beat.id AND (beat.at > coalesce(last_heartbeat_at, 0) \
                     OR last_heartbeat_at > CAST(unixepoch('subsec') * 1000 AS INTEGER) + 10000)";
        let query = sqlx::query(sql).bind(serde_json::json!(pairs).to_string());
        self.execute(query).await
    }

    pub(super) async fn write_pruned(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM presence_events WHERE id IN (SELECT id FROM presence_events \
                   WHERE at < CAST(unixepoch('subsec') * 1000 AS INTEGER) - ?1 ORDER BY at LIMIT ?2)";
        let query = sqlx::query(sql).bind(milliseconds(keep)).bind(limit);
        self.execute(query).await
    }
}

//! Chat sessions. The law is a function of the migrations; the state machine goes there as data, so that it stands in
//! `domain` only.

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, explain, mitra_row, select_mitras, session::Query, uuid_of};
use crate::{
    domain::{
        Cause, ChatSession, CustomerId, Expiry, Holder, MitraId, SessionAction, SessionId, SessionStatus, Step,
        WrongState,
    },
    store::{
        SessionChange, SessionCounts, StoreError,
        decode::{decoded, unreadable},
        milliseconds,
    },
};

/// The columns of a session that a function gives as `session_row`.
macro_rules! session_columns {
    () => {
        "(f.session_row).id AS session_id, (f.session_row).customer_id AS session_customer, \
         (f.session_row).mitra_id AS session_mitra, (f.session_row).status AS session_status, \
         (f.session_row).expires_at AS session_expires_at, (f.session_row).created_at AS session_created_at"
    };
}

/// What a write function says of each session, a row for each mitra concerned, or one without; `$1` is the default capacity.
macro_rules! select_changes {
    ($function:literal) => {
        concat!(
            select_mitras!(
                ", outcome, session_id, session_customer, session_mitra, session_status, session_expires_at, \
                 session_created_at FROM (SELECT f.outcome, (f.mitra_row).*, "
            ),
            session_columns!(),
            " FROM ",
            $function,
            " AS f) AS written"
        )
    };
}

fn session_row(row: &PgRow) -> Result<ChatSession, sqlx::Error> {
    let status: &str = row.try_get("session_status")?;
    Ok(ChatSession {
        id: SessionId(row.try_get("session_id")?),
        customer_id: CustomerId(row.try_get("session_customer")?),
        mitra_id: row.try_get::<Option<Uuid>, _>("session_mitra")?.map(MitraId),
        status: status.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        expires_at: row.try_get("session_expires_at")?,
        created_at: row.try_get("session_created_at")?,
    })
}

/// Rows of one session follow each other.
fn changes(rows: &[PgRow]) -> Vec<SessionChange> {
    let mut changes: Vec<SessionChange> = Vec::new();
    let change = |row: &PgRow| {
        let mitra = row.try_get::<Option<Uuid>, _>("id")?.map(|_| mitra_row(row)).transpose()?;
        let changed = row.try_get::<&str, _>("outcome")? == "changed";
        Ok(SessionChange { session: session_row(row)?, changed, mitras: mitra.into_iter().collect() })
    };
    for change in decoded(rows, "session", uuid_of("session_id"), change) {
        match changes.last_mut() {
            Some(last) if last.session.id == change.session.id => last.mitras.extend(change.mitras),
            _ => changes.push(change),
        }
    }
    changes
}

/// What the state machine says of this action: the statuses it leads from and to, and those in which it was done before.
fn steps(action: &SessionAction) -> [Vec<&'static str>; 3] {
    let [mut from, mut to, mut repeated] = [Vec::new(), Vec::new(), Vec::new()];
    for status in SessionStatus::ALL {
        match status.next(action) {
            Ok(Step::To(next)) => {
                from.push(status.as_str());
                to.push(next.as_str());
            }
            Ok(Step::Repeat) => repeated.push(status.as_str()),
            Err(WrongState { .. }) => {}
        }
    }
    [from, to, repeated]
}

impl PostgresStore {
    pub(super) async fn write_session(
        &self,
        id: Option<SessionId>,
        customer: CustomerId,
    ) -> Result<(ChatSession, bool), StoreError> {
        let id = id.map_or_else(Uuid::now_v7, |id| id.0);
        let sql = concat!("SELECT f.created, ", session_columns!(), " FROM hadir_create_session($1, $2) AS f");
        let row = self.callers.ask_one(sqlx::query(sql).bind(id).bind(customer.0)).await?;
        let row = row.ok_or_else(|| explain(sqlx::Error::RowNotFound))?;
        let session = session_row(&row).map_err(|error| unreadable("session", id, &error))?;
        if session.customer_id != customer {
            return Err(StoreError::SessionIdTaken(session.id));
        }
        Ok((session, row.try_get("created").map_err(explain)?))
    }

    pub(super) async fn read_session(&self, id: SessionId) -> Result<Option<ChatSession>, StoreError> {
        let sql = concat!(
            "SELECT ",
            session_columns!(),
            " FROM (SELECT s AS session_row FROM hadir_sessions s WHERE id = $1) AS f"
        );
        let row = self.callers.ask_one(sqlx::query(sql).bind(id.0)).await?;
        row.as_ref().map(session_row).transpose().map_err(|error| unreadable("session", id, &error))
    }

    pub(super) async fn write_session_change(
        &self,
        id: SessionId,
        action: &SessionAction,
        cause: &Cause,
    ) -> Result<SessionChange, StoreError> {
        let [from, to, repeated] = steps(action);
        let (taker, frees) = match action.holder() {
            Holder::Stays => (None, false),
            Holder::Becomes(mitra) => (Some(mitra), false),
            Holder::Nobody => (None, true),
        };
        let (runs, later) = match action.expiry() {
            Expiry::In(duration) => (Some(milliseconds(duration)), None),
            Expiry::LaterBy(by) => (None, Some(milliseconds(by))),
            Expiry::Stays | Expiry::Never => (None, None),
        };
        let sql = select_changes!("hadir_change_session($2, $3, $4, $5, $6, $7, $8, $9, $10, $1, $11, $12)");
        let query = sqlx::query(sql)
            .bind(self.capacity())
            .bind(id.0)
            .bind(from)
            .bind(to)
            .bind(&repeated)
            .bind(taker.map(|mitra| mitra.0))
            .bind(frees)
            .bind(runs)
            .bind(later)
            .bind(*action == SessionAction::Expire)
            .bind(cause.actor_text())
            .bind(&cause.reason);
        let rows = self.callers.ask(query).await?;
        let outcome: &str = match rows.first() {
            Some(row) => row.try_get("outcome").map_err(explain)?,
            None => return Err(StoreError::UnknownSession(id)),
        };
        let change = changes(&rows).pop().ok_or_else(|| StoreError::Unreadable(format!("session {id}")))?;
        let who = taker.unwrap_or(MitraId(Uuid::nil()));
        match outcome {
            "changed" | "unchanged" => Ok(change),
            // The function knows repeats of actions that name a mitra; this one does not name any.
            "wrong_state" if taker.is_none() && repeated.contains(&change.session.status.as_str()) => Ok(change),
            "unknown_mitra" => Err(StoreError::UnknownMitra(who)),
            "not_available" => Err(StoreError::NotAvailable(who)),
            "capacity_exceeded" => Err(StoreError::CapacityExceeded(who)),
            _ => Err(WrongState { status: change.session.status }.into()),
        }
    }

    pub(super) async fn write_expired_sessions(&self, limit: u32) -> Result<Vec<SessionChange>, StoreError> {
        let query: Query<'_> = sqlx::query(select_changes!("hadir_expire_sessions($2)"));
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let rows = self.callers.ask(query.bind(self.capacity()).bind(limit)).await?;
        Ok(changes(&rows))
    }

    pub(super) async fn read_next_expiry(&self) -> Result<Option<Duration>, StoreError> {
        let sql = "SELECT (extract(epoch FROM hadir_time(expires_at) - clock_timestamp()) * 1000)::bigint AS ms FROM chat_sessions \
                   WHERE status IN ('searching', 'pending_payment', 'active') AND expires_at IS NOT NULL \
                   ORDER BY expires_at LIMIT 1";
        let row = self.callers.ask_one(sqlx::query(sql)).await?;
        row.map(|row| Ok(Duration::from_millis(row.try_get::<i64, _>("ms")?.max(0) as u64)))
            .transpose()
            .map_err(explain)
    }

    pub(super) async fn read_load(&self, mitra: MitraId, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        let sql = "SELECT id FROM chat_sessions WHERE mitra_id = $1 AND status IN ('active', 'pending_payment') \
                   ORDER BY created_at, id LIMIT $2";
        let rows = self.callers.ask(sqlx::query(sql).bind(mitra.0).bind(i64::from(limit))).await?;
        rows.iter().map(|row| row.try_get("id").map(SessionId)).collect::<Result<_, _>>().map_err(explain)
    }

    pub(super) async fn read_session_counts(&self) -> Result<SessionCounts, StoreError> {
        let sql = "SELECT count(*) FILTER (WHERE status = 'searching') AS searching, \
                   count(*) FILTER (WHERE status = 'pending_payment') AS pending_payment, \
                   count(*) FILTER (WHERE status = 'active') AS active \
                   FROM chat_sessions WHERE status IN ('searching', 'pending_payment', 'active')";
        let row = self.presence.ask_one(sqlx::query(sql)).await?.ok_or_else(|| explain(sqlx::Error::RowNotFound))?;
        let number = |column| row.try_get::<i64, _>(column).map(|n| n.max(0) as u64).map_err(explain);
        Ok(SessionCounts {
            searching: number("searching")?,
            pending_payment: number("pending_payment")?,
            active: number("active")?,
        })
    }
}

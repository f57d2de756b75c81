//! The lock by which nodes tell whether they may share a database. A node without a shared mirror must be the only one: two of
//! them, or one beside nodes with a mirror, would not see each other's heartbeats.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{sleep, timeout};

use super::{
    connect::PostgresSettings,
    holders::{Holder, NODE_LOCK, holders},
    pooler::{backend, transaction_pooler},
    session::{explain_start, too_slow},
};
use crate::{domain::NodeId, store::StoreError};

/// Kind of our advisory lock on a node's name.
const NAME_LOCK: i32 = 0x68_61_64_6e;
/// The session is looked at once in so many deadlines.
const QUIET_DEADLINES: u32 = 2;
/// Pause between attempts to take the lock again.
const PAUSE: Duration = Duration::from_millis(500);

/// Who else may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Company {
    /// Nobody: this node has no shared mirror.
    Nobody,
    /// Others that share the mirror.
    Others,
}

impl Company {
    fn question(self) -> &'static str {
        match self {
            Self::Nobody => "SELECT pg_try_advisory_lock($1, hashtext($2)), pg_backend_pid()",
            Self::Others => "SELECT pg_try_advisory_lock_shared($1, hashtext($2)), pg_backend_pid()",
        }
    }

    fn refused(self, held: &[Holder], schema: &str) -> StoreError {
        let in_the_way = held.iter().find(|holder| self == Self::Nobody || holder.is_alone);
        if let Some(stranger) = in_the_way.filter(|holder| !holder.is_hadir()) {
            return StoreError::Invalid(format!(
                "{stranger} holds the lock of Hadir's nodes on schema `{schema}`, and is no Hadir by its name: end it, for \
                 example with SELECT pg_terminate_backend({})",
                stranger.pid
            ));
        }
        let why = match self {
            Self::Nobody => {
                "another Hadir runs on this database, and one without Valkey must be alone; stop it, or set VALKEY_URL \
                 for both"
            }
            Self::Others => {
                "a Hadir without Valkey runs on this database and must be alone; stop it, or set VALKEY_URL for both"
            }
        };
        StoreError::Invalid(match in_the_way {
            Some(holder) => format!("{why}: it is {holder}"),
            None => why.to_owned(),
        })
    }
}

/// Held by every node of a store while its session lives: by one without a shared mirror alone, by those with one together.
/// Dropped, it is free again.
pub struct NodeLock {
    company: Company,
    session: PgConnection,
    /// Of the session at the server: after a break the server may hold on to it for a while, and to its lock.
    backend: i32,
    settings: PostgresSettings,
    /// Of this node, once it is claimed: the session holds a lock on it too.
    name: Option<NodeId>,
}

impl NodeLock {
    /// Takes the lock of this schema for a node that must be alone.
    ///
    /// # Errors
    /// Another node holds it, or Postgres cannot be reached.
    pub async fn alone(settings: &PostgresSettings) -> Result<Self, StoreError> {
        Self::take(settings, Company::Nobody).await
    }

    /// Takes it together with other nodes that share the mirror.
    ///
    /// # Errors
    /// A node that must be alone holds it, or Postgres cannot be reached.
    pub async fn together(settings: &PostgresSettings) -> Result<Self, StoreError> {
        Self::take(settings, Company::Others).await
    }

    async fn take(settings: &PostgresSettings, company: Company) -> Result<Self, StoreError> {
        let mut session = settings.session("hadir node", settings.query_timeout).await?;
        let question =
            sqlx::query_as(company.question()).bind(NODE_LOCK).bind(&settings.schema).fetch_one(&mut session);
        let (taken, backend): (bool, i32) =
            timeout(settings.query_timeout, question).await.map_err(|_| too_slow())?.map_err(explain_start)?;
        if taken {
            return Ok(Self { company, session, backend, settings: settings.clone(), name: None });
        }
        let held = holders(&mut session, NODE_LOCK, &settings.schema);
        let held = timeout(settings.query_timeout, held).await.map_err(|_| too_slow())??;
        Err(company.refused(&held, &settings.schema))
    }

    /// Takes a node's name among the nodes of this schema, for as long as the lock is kept. Returns
    /// whether it was free.
    ///
    /// # Errors
    /// Postgres cannot be reached.
    pub async fn claim_name(&mut self, name: &NodeId) -> Result<bool, StoreError> {
        self.name = Some(name.clone());
        let claimed = format!("{}/{}", self.settings.schema, name.as_str());
        let question = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
            .bind(NAME_LOCK)
            .bind(claimed)
            .fetch_one(&mut self.session);
        timeout(self.settings.query_timeout, question).await.map_err(|_| too_slow())?.map_err(explain_start)
    }

    /// The name goes with the session; another node may have taken it since.
    async fn claim_again(mut self, name: Option<NodeId>) -> Self {
        if let Some(name) = name
            && matches!(self.claim_name(&name).await, Ok(false))
        {
            tracing::error!(%name, "another node has this node's name now; give each node its own HADIR_NODE_ID");
        }
        self
    }

    /// Keeps the lock: a lost session (a restarted server, a cut connection) is noticed within seconds and the lock is taken
    /// again. Ends only when this node must be alone and another was faster, with the reason why it must stop. A node with
    /// a shared mirror goes on without the lock, says why, and takes it when it can: a stray node must not stop a fleet.
    pub async fn keep(mut self) -> StoreError {
        loop {
            sleep(self.settings.query_timeout * QUIET_DEADLINES).await;
            match timeout(self.settings.query_timeout, backend(&mut self.session)).await {
                Ok(Ok(backend)) if backend == self.backend => continue,
                // A pooler was set to another mode, or put in between.
                Ok(Ok(_another)) => return transaction_pooler(),
                Ok(Err(_)) | Err(_) => {}
            }
            tracing::debug!("the lock among nodes was lost with its session; taking it again");
            let mut told = false;
            self = loop {
                match Self::take(&self.settings, self.company).await {
                    Ok(again) => break again.claim_again(self.name.clone()).await,
                    Err(StoreError::Unavailable(why)) => tracing::debug!(%why, "the lock cannot be taken yet"),
                    Err(taken) if self.company == Company::Others => {
                        if !std::mem::replace(&mut told, true) {
                            tracing::error!(%taken, "this node goes on, and the other one counts without it");
                        }
                    }
                    Err(taken) => match self.end_former_session().await {
                        Ok(true) => tracing::debug!("the server still held the lock for the session that was lost"),
                        Ok(false) => return taken,
                        Err(why) => tracing::debug!(%why, "the lock cannot be looked at yet"),
                    },
                }
                sleep(PAUSE).await;
            };
        }
    }

    /// Ends our own former session, if it is what holds the lock. Says whether it was.
    async fn end_former_session(&self) -> Result<bool, StoreError> {
        let mut session = self.settings.session("hadir node", self.settings.query_timeout).await?;
        let question = sqlx::query_scalar(
            "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_locks \
             WHERE locktype = 'advisory' AND granted AND classid::bigint = $1 \
             AND objid::bigint = hashtext($2)::bigint & 4294967295 AND objsubid = 2 AND pid = $3 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .bind(i64::from(NODE_LOCK))
        .bind(&self.settings.schema)
        .bind(self.backend)
        .fetch_one(&mut session);
        timeout(self.settings.query_timeout, question).await.map_err(|_| too_slow())?.map_err(explain_start)
    }
}

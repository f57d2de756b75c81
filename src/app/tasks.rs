//! The table of everything that runs by itself: name, what it does in one sentence, when, and what it calls.

use std::{sync::Arc, time::Duration};

use crate::{
    cluster::{Cluster, Inbox},
    config::Config,
    gateway::Gateway,
    presence::{Presence, PresenceError},
    replication::{ChangeFeed, Replication, Supervisor, Trust},
    sessions::Sessions,
    tasks::{AutoOffline, EventRetention, HeartbeatMirror, Pace, Reseed, Run, Tasks},
};

/// Cadence of the removal of old presence events.
const RETENTION_SWEEP: Duration = Duration::from_secs(3_600);

/// Cadence at which a store that fails is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What the tasks call.
pub(super) struct Callees<'a> {
    pub(super) replication: &'a Arc<Replication>,
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) presence: &'a Arc<Presence>,
    pub(super) sessions: &'a Arc<Sessions>,
    pub(super) gateway: &'a Arc<Gateway>,
    /// What other nodes ask.
    pub(super) inbox: Inbox,
}

/// Starts everything that runs by itself, but for the lock among nodes.
pub(super) fn start(tasks: &Tasks, config: &Config, callees: Callees<'_>) {
    let Callees { replication, cluster, presence, sessions, gateway, inbox } = callees;
    let timing = &config.timing;
    tasks.keep("session_expiry", "Expires sessions when their time runs out.", again(sessions, Sessions::keep_time));
    tasks.keep("timer_wheel", "Wakes sockets when something is due.", again(gateway, Gateway::wake_sockets));
    keep_in_step(tasks, config, replication);
    let inbox = Arc::new(inbox);
    let answer = again(cluster, move |cluster: Arc<Cluster>| cluster.answer(Arc::clone(&inbox)));
    tasks.keep("control", "Answers what other nodes ask.", answer);
    tasks.keep("probe", "Checks that pub/sub is alive, and how late.", again(cluster, Cluster::keep_probing));
    let reporting = Arc::clone(cluster);
    let about = "Tells the other nodes of this one, and learns of them.";
    tasks.repeat("node_report", about, timing.node_report_interval, move || {
        let cluster = Arc::clone(&reporting);
        Box::pin(async move { Run::Done(format!("{} nodes", cluster.report().await)) })
    });
    tasks.keep("session_counts", "Counts sessions by status.", again(presence, Presence::count_sessions));
    let cadence = timing.node_report_interval;
    let feed = again(presence, move |presence: Arc<Presence>| presence.feed_dashboards(cadence));
    tasks.keep("dashboards", "Feeds this node's dashboards.", feed);
    watch_store(tasks, replication);
    start_sweeps(tasks, config, replication, presence);
}

/// The tasks of replication.
fn keep_in_step(tasks: &Tasks, config: &Config, replication: &Replication) {
    let timing = &config.timing;
    let supervisor = again(&replication.supervisor, Supervisor::supervise);
    tasks.keep("supervisor", "Polls the mirror, notices its loss and return, and seeds it.", supervisor);
    let trust = again(&replication.trust, Trust::watch_punctuality);
    tasks.keep("punctuality", "Notices when this node itself was late.", trust);
    let cadence = timing.change_feed_interval;
    let feed = again(&replication.change_feed, move |feed: Arc<ChangeFeed>| feed.follow(cadence));
    tasks.keep("change_feed", "Follows what others commit to the store.", feed);
    let isolated = Arc::clone(&replication.isolated_nodes);
    let cadence = isolated.cadence(timing.change_feed_interval);
    tasks.repeat("isolated_nodes", "Copies heartbeats of nodes without the mirror to it.", cadence, move || {
        let isolated = Arc::clone(&isolated);
        Box::pin(async move { told(isolated.import(cadence).await, "copied") })
    });
    let heartbeats = Arc::clone(&replication.heartbeats);
    let about = "Delivers heartbeats to the mirror.";
    tasks.repeat("heartbeat_flush", about, timing.flush_interval, move || {
        let heartbeats = Arc::clone(&heartbeats);
        Box::pin(async move { told(heartbeats.flush().await, "delivered") })
    });
    let heartbeats = Arc::clone(&replication.heartbeats);
    // A task of its own: a store that is unavailable as well must not keep the mirror waiting.
    let about = "Writes heartbeats to the store while the mirror is not trusted.";
    tasks.repeat("heartbeat_fallback", about, timing.flush_interval, move || {
        let heartbeats = Arc::clone(&heartbeats);
        Box::pin(async move { told(heartbeats.flush_to_store().await, "written") })
    });
}

/// Makes this task of this part, as often as it is needed.
fn again<T: Send + Sync + 'static, F>(
    part: &Arc<T>,
    task: impl Fn(Arc<T>) -> F + Send + Sync + 'static,
) -> impl Fn() -> F + Send + Sync + 'static {
    let part = Arc::clone(part);
    move || task(Arc::clone(&part))
}

fn start_sweeps(tasks: &Tasks, config: &Config, replication: &Replication, presence: &Arc<Presence>) {
    let timing = &config.timing;
    let own = || Arc::clone(presence);
    let pace = Pace::steady(timing.auto_offline_interval);
    tasks.sweep("Takes mitras offline that were silent for too long.", AutoOffline(own()), pace);
    let (sweep, pace) =
        (HeartbeatMirror(Arc::clone(&replication.heartbeats)), Pace::steady(timing.heartbeat_mirror_interval));
    tasks.sweep("Writes heartbeats to the store.", sweep, pace);
    let pace = Pace::spread(timing.reseed_interval);
    tasks.sweep("Compares the store with the mirror and repairs what differs.", Reseed(own()), pace);
    let retention = EventRetention { presence: own(), keep: config.store.event_retention };
    tasks.sweep("Removes old presence events.", retention, Pace::soon(RETENTION_SWEEP));
}

/// Asks a store that fails now and then, so that its return is noticed though nobody commands anything.
fn watch_store(tasks: &Tasks, replication: &Replication) {
    let store = replication.store.clone();
    tasks.repeat("store_retry", "Tries a store that fails until it works again.", STORE_RETRY, move || {
        let store = store.clone();
        Box::pin(async move {
            if store.trouble().is_none() {
                return Run::Done("the store is well".to_owned());
            }
            let works = store.answers().await;
            if works {
                Run::Done("the store works again".to_owned())
            } else {
                Run::Failed("the store still fails".to_owned())
            }
        })
    });
}

fn told(answer: Result<impl std::fmt::Display, PresenceError>, what: &str) -> Run {
    match answer {
        Ok(count) => Run::Done(format!("{count} heartbeats {what}")),
        Err(error) => Run::Failed(error.to_string()),
    }
}

//! What nodes ask each other: who is there, how many sockets a subject has, and to close them everywhere.
//!
//! Messages travel through the mirror's pub/sub and may be lost; every question has a deadline. `replication` hands the
//! messages over through a bounded channel and never calls this. `presence` asks, `app` starts the tasks.

mod probe;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use self::probe::Probe;
use crate::{
    domain::{NodeId, NodeRecord, SubjectId},
    hub::Hub,
    protocol::{Close, ControlMessage},
    replication::{MirrorClient, ModeControl, Replication},
};

/// How long an asker waits for the other nodes.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// The nodes as they were last reported.
#[derive(Clone, Debug)]
pub struct KnownNodes {
    /// At least this one. `seen_ms` of another is the age of what is known of it.
    pub nodes: Vec<NodeRecord>,
    /// When the mirror last named the others; `None` when it never did.
    pub as_of: Option<DateTime<Utc>>,
}

/// What the mirror last answered to a report.
#[derive(Default)]
struct Reported {
    nodes: Vec<NodeRecord>,
    heard: Option<(Instant, DateTime<Utc>)>,
}

/// What other nodes ask, behind a lock: a task that answers and is started again takes it over.
pub type Inbox = tokio::sync::Mutex<mpsc::Receiver<ControlMessage>>;

/// A question that waits for answers; forgotten at its end, and when its caller goes away before.
struct Question<'a> {
    cluster: &'a Cluster,
    request: &'a str,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.cluster.asked.lock().remove(self.request);
    }
}

/// This node among the others.
pub struct Cluster {
    node_id: NodeId,
    hub: Arc<Hub>,
    mode: Arc<ModeControl>,
    mirror: Arc<MirrorClient>,
    probe: Probe,
    /// Questions to all nodes that wait for answers, by request.
    asked: Mutex<HashMap<String, mpsc::Sender<(NodeId, u64)>>>,
    reported: Mutex<Reported>,
}

impl Cluster {
    /// This node among the others; `probe_interval` is the cadence of its messages to itself.
    pub fn new(replication: &Replication, probe_interval: Duration) -> Self {
        Self {
            node_id: replication.settings.node_id.clone(),
            hub: Arc::clone(&replication.hub),
            mode: Arc::clone(&replication.mode),
            mirror: Arc::clone(&replication.mirror),
            probe: Probe::new(replication, probe_interval),
            asked: Mutex::default(),
            reported: Mutex::default(),
        }
    }

    /// Answers the other nodes for as long as it is polled.
    pub async fn answer(self: Arc<Self>, inbox: Arc<Inbox>) {
        let mut inbox = inbox.lock().await;
        while let Some(message) = inbox.recv().await {
            self.on_control(message).await;
        }
    }

    /// Sends this node's probes for as long as it is polled.
    pub async fn keep_probing(self: Arc<Self>) {
        self.probe.run().await;
    }

    /// Acts on a message of another node (or of this one).
    async fn on_control(&self, message: ControlMessage) {
        match message {
            ControlMessage::Disconnect { request, subject, reason } => {
                let closed = self.hub.disconnect(subject, &Close::disconnected(&reason));
                self.reply(request, closed).await;
            }
            ControlMessage::CountSockets { request, subject } => {
                self.reply(request, self.hub.sockets_of(subject)).await;
            }
            ControlMessage::Sockets { request, node, sockets } => {
                if let Some(asker) = self.asked.lock().get(&request) {
                    // Bounded: an asker that has stopped listening loses the answer.
                    let _full = asker.try_send((node, sockets));
                }
            }
            ControlMessage::Probe { node, nonce } if node == self.node_id => self.probe.heard(nonce),
            // `replication` takes the changes of status itself.
            ControlMessage::Probe { .. } | ControlMessage::Status(_) => {}
        }
    }

    async fn reply(&self, request: String, sockets: u64) {
        // Messages wait behind this: it does not wait for a mirror that was given up.
        if !self.mode.mirror_takes_writes() {
            return;
        }
        let answer = ControlMessage::Sockets { request, node: self.node_id.clone(), sockets };
        // An asker that hears nothing counts what it knows; nothing to heal here.
        let _unheard = self.mirror.tell(&answer).await;
    }

    /// Closes every socket of a subject on every node. Answers how many, of the nodes that replied in time; without the
    /// mirror, of this node alone.
    pub(crate) async fn disconnect(&self, subject: SubjectId, reason: &str) -> u64 {
        let reason = reason.to_owned();
        let close = Close::disconnected(&reason);
        let closed = self.ask_nodes(|request| ControlMessage::Disconnect { request, subject, reason }).await;
        // This node's own sockets, should its own question not have come back to it.
        closed.values().sum::<u64>() + self.hub.disconnect(subject, &close)
    }

    /// How many sockets of a subject each node holds, of the nodes that replied in time; without the mirror, this node alone.
    pub(crate) async fn sockets_by_node(&self, subject: SubjectId) -> BTreeMap<NodeId, u64> {
        let mut sockets = self.ask_nodes(|request| ControlMessage::CountSockets { request, subject }).await;
        sockets.insert(self.node_id.clone(), self.hub.sockets_of(subject));
        sockets
    }

    /// What each node that replied in time answers to a question; nothing, without the mirror.
    async fn ask_nodes(&self, question: impl FnOnce(String) -> ControlMessage) -> BTreeMap<NodeId, u64> {
        let mut answers = BTreeMap::new();
        if !self.mode.mirror_takes_writes() {
            return answers;
        }
        let request = Uuid::new_v4().to_string();
        let expected = self.reported.lock().nodes.len().max(1);
        let (sender, mut replies) = mpsc::channel(expected.max(64));
        self.asked.lock().insert(request.clone(), sender);
        let _question = Question { cluster: self, request: &request };
        let told = self.mirror.tell(&question(request.clone())).await;
        if told.is_ok() {
            let deadline = Instant::now() + ANSWERS_WITHIN;
            while answers.len() < expected
                && let Ok(Some((node, sockets))) = timeout_at(deadline, replies.recv()).await
            {
                answers.insert(node, sockets);
            }
        }
        answers
    }

    /// The nodes as last reported; at least this one. Without the mirror the others are the last known, with their age.
    pub(crate) fn nodes(&self) -> KnownNodes {
        let own = self.mode.node_record();
        let (mut nodes, heard) = {
            let reported = self.reported.lock();
            (reported.nodes.clone(), reported.heard)
        };
        if let Some((at, _)) = heard {
            let since_ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
            nodes.iter_mut().for_each(|node| node.seen_ms = node.seen_ms.saturating_add(since_ms));
        }
        // The others as they last reported; this one as it is.
        match nodes.iter_mut().find(|node| node.node_id == own.node_id) {
            Some(reported) => *reported = own,
            None => nodes.push(own),
        }
        KnownNodes { nodes, as_of: heard.map(|(_, as_of)| as_of) }
    }

    /// Tells the others of this node and learns of them. Without a mirror the last answer is kept: what cannot be
    /// known is not none. Returns how many nodes are live, as far as can be known.
    pub(crate) async fn report(&self) -> usize {
        let reported = if self.mode.mirror_takes_writes() { self.mirror.report_node().await.ok() } else { None };
        let Some(nodes) = reported else { return 1 };
        let known = nodes.len();
        *self.reported.lock() = Reported { nodes, heard: Some((Instant::now(), Utc::now())) };
        known
    }
}

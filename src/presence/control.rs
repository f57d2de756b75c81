//! What nodes tell each other, and questions to all of them.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use super::{Presence, PresenceError};
use crate::{
    domain::{ControlMessage, NodeId, NodeRecord, SubjectId},
    protocol::Close,
};

/// How long an asker waits for the other nodes.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// A question that waits for answers; forgotten at its end, and when its caller goes away before.
struct Asking<'a> {
    presence: &'a Presence,
    request: &'a str,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.presence.asked.lock().remove(self.request);
    }
}

impl Presence {
    /// Acts on a message of another node (or of this one).
    pub(super) async fn heed(&self, message: ControlMessage) {
        match message {
            ControlMessage::Status(change) => {
                // Told by whoever applied it to the mirror: the bell of the same change need not be answered.
                self.known.remember(change.mitra_id, change.fence);
                self.hub.apply_status(&change);
            }
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
            ControlMessage::Probe { node, nonce } if node == self.settings.node_id => {
                let now = self.hub.now_ms();
                self.probe_heard_ms.store(now, Relaxed);
                let lag = now.saturating_sub(nonce);
                self.metrics.set_pubsub_loop_lag(Duration::from_millis(lag));
            }
            ControlMessage::Probe { .. } => {}
        }
    }

    async fn reply(&self, request: String, sockets: u64) {
        // Whoever hears the mirror waits for this: not for one that was given up.
        if !self.mode.mirror_takes_writes() {
            return;
        }
        let answer = ControlMessage::Sockets { request, node: self.settings.node_id.clone(), sockets };
        // An asker that hears nothing counts what it knows; nothing to heal here.
        let _unheard = self.mirror.tell(&answer).await;
    }

    /// Closes every socket of a subject on every node. Answers how many, of the nodes that replied in time; without the
    /// mirror, of this node alone.
    ///
    /// # Errors
    /// None today; a signature for the edges, which answer failures of all use cases alike.
    pub async fn disconnect(&self, subject: SubjectId, reason: &str) -> Result<u64, PresenceError> {
        let reason = reason.to_owned();
        let close = Close::disconnected(&reason);
        let closed = self.ask_nodes(|request| ControlMessage::Disconnect { request, subject, reason }).await;
        // This node's own sockets, should its own question not have come back to it.
        Ok(closed.values().sum::<u64>() + self.hub.disconnect(subject, &close))
    }

    /// How many sockets of a subject each node holds, of the nodes that replied in time; without the mirror, this node alone.
    pub(super) async fn sockets_by_node(&self, subject: SubjectId) -> BTreeMap<NodeId, u64> {
        let mut sockets = self.ask_nodes(|request| ControlMessage::CountSockets { request, subject }).await;
        sockets.insert(self.settings.node_id.clone(), self.hub.sockets_of(subject));
        sockets
    }

    /// What each node that replied in time answers to a question; nobody, without the mirror.
    async fn ask_nodes(&self, question: impl FnOnce(String) -> ControlMessage) -> BTreeMap<NodeId, u64> {
        let mut answers = BTreeMap::new();
        if !self.mode.mirror_takes_writes() {
            return answers;
        }
        let request = Uuid::new_v4().to_string();
        let expected = self.nodes.lock().len().max(1);
        let (sender, mut replies) = mpsc::channel(expected.max(64));
        self.asked.lock().insert(request.clone(), sender);
        let _asking = Asking { presence: self, request: &request };
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

    /// The live nodes as last reported; at least this one.
    pub async fn nodes(&self) -> Vec<NodeRecord> {
        let own = self.mode.node_record();
        let mut nodes = self.nodes.lock().clone();
        // The others as they last reported; this one as it is.
        match nodes.iter_mut().find(|node| node.node_id == own.node_id) {
            Some(reported) => *reported = own,
            None => nodes.push(own),
        }
        nodes
    }

    /// Tells the others of this node and learns of them. Without a mirror this node knows only itself.
    pub async fn report_node(&self) {
        let reported = if self.mode.mirror_takes_writes() { self.mirror.report_node().await.ok() } else { None };
        *self.nodes.lock() = reported.unwrap_or_else(|| vec![self.mode.node_record()]);
    }
}

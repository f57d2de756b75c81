//! What a fleet dials at a server.

use crate::kit::{server::Server, socket::Dial, tokens::Role};

impl Server {
    /// Watchers of this server.
    pub fn watchers(&self, first: u64, sockets: usize) -> Dial {
        Dial {
            address: self.public,
            path: "/ws/availability".to_owned(),
            role: Some(Role::Customer),
            first_subject: first,
            sockets,
            at_once: 64,
            until: Some("availability".to_owned()),
            online: false,
        }
    }

    /// Mitras of this server; those that go online share the store's connections.
    pub fn mitras(&self, first: u64, sockets: usize, online: bool) -> Dial {
        Dial {
            path: "/ws/mitra".to_owned(),
            role: Some(Role::Mitra),
            until: Some("status".to_owned()),
            at_once: if online { 16 } else { 64 },
            online,
            ..self.watchers(first, sockets)
        }
    }
}

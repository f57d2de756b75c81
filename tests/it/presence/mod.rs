//! The use cases across truth, mirror and sockets: in which order they are written and read, and what happens when one of
//! them is away.

mod deactivation;
mod fallback;
mod feed;
mod heartbeats;
mod interleavings;
mod messages;
mod odd_statements;
mod push;
mod seed;
mod sweeps;
mod write_through;

use hadir::domain::{MitraId, MitraRow};

use crate::support::{Backend, Node, World, valkey::Raw};

/// What another program reads in Valkey about a mitra.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pub online: bool,
    pub deactivated: bool,
    pub capacity: Option<String>,
    pub heartbeat: bool,
    pub liveness: bool,
    pub available: bool,
}

impl Keys {
    pub fn of(world: &World, id: MitraId) -> Self {
        Self::at(&mut world.valkey(), "", id)
    }

    /// In the server of this connection, behind a prefix.
    pub fn at(valkey: &mut Raw, prefix: &str, id: MitraId) -> Self {
        let id = id.to_string();
        let mut ask = |words: [&str; 2], more: &[&str]| {
            let key = format!("{prefix}{}", words[1]);
            valkey.ask(&[&[words[0], &key], more].concat()).text()
        };
        let mut there = |words, more: &[&str]| ask(words, more).is_some_and(|text| text != "0");
        Self {
            online: there(["SISMEMBER", "mitras:online"], &[&id]),
            deactivated: there(["SISMEMBER", "mitras:deactivated"], &[&id]),
            heartbeat: there(["EXISTS", &format!("mitra:heartbeat:{id}")], &[]),
            liveness: there(["ZSCORE", "mitras:liveness"], &[&id]),
            available: there(["ZSCORE", "mitras:available"], &[&id]),
            capacity: ask(["GET", &format!("mitra:capacity:{id}")], &[]),
        }
    }

    /// What the keys of a mitra with such a row must be, a heartbeat being known.
    pub fn for_row(row: &MitraRow) -> Self {
        Self {
            online: row.online,
            deactivated: !row.active,
            capacity: (row.online || row.sessions > 0).then(|| row.sessions.to_string()),
            heartbeat: row.listed(),
            liveness: row.listed(),
            available: row.listed() && row.has_room(),
        }
    }
}

/// The mirror says what the store says.
pub async fn in_agreement(world: &World, node: &Node, id: MitraId) -> MitraRow {
    let row = node.store().mitra(id).await.expect("asked").expect("there");
    let seen = node.presence().reachable(id).await.expect("asked");
    assert_eq!(seen.source, mirror_of(world), "answered by the mirror");
    let change = &seen.value.change;
    assert_eq!(
        (change.online, change.active, change.sessions, change.max_sessions, change.fence),
        (row.online, row.active, row.sessions, row.max_sessions, row.fence)
    );
    if world.backend == Backend::Clustered {
        assert_eq!(Keys::of(world, id), Keys::for_row(&row));
    }
    row
}

pub fn mirror_of(world: &World) -> hadir::domain::Source {
    match world.backend {
        Backend::Embedded => hadir::domain::Source::Memory,
        Backend::Clustered => hadir::domain::Source::Valkey,
    }
}

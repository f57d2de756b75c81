//! Every key and channel, its type and its meaning. The scripts receive these names and make up none.
//!
//! Other programs may read all of them at any moment and write none. Each name stands behind the configured prefix;
//! channels also carry `db<n>:` when the database is not 0, because pub/sub ignores databases.
//!
//! | key | type | meaning |
//! |---|---|---|
//! | `mitras:online` | SET | ids that are online |
//! | `mitras:deactivated` | SET | ids deactivated by staff |
//! | `mitra:capacity:<id>` | STRING | its chat sessions; exists while it is online or has sessions, absent means 0 |
//! | `mitra:heartbeat:<id>` | STRING | time of its last heartbeat, ISO 8601 UTC with ms; exists while online and active, 24 h at most |
//! | `mitras:liveness` | ZSET | id by last heartbeat in ms; the online and active |
//! | `mitras:available` | ZSET | id by last heartbeat in ms; of those the ones with room |
//! | `availability:snapshot` | STRING | the newest availability frame, JSON, with a short life |
//! | `hadir:store` | STRING | identity of the store that this is the mirror of |
//! | `hadir:epoch` | STRING | identity of this seeded mirror; absent: not seeded, not to be believed |
//! | `hadir:published` | HASH | version, count and times of the newest snapshot, the sizes of the structures above, and which server the epoch is of |
//! | `hadir:history` | LIST | points of the last hour, JSON, oldest first |
//! | `hadir:mitras` | HASH | id to its record: state, online epoch, fence, sessions, capacity (see `scripts/prelude.lua`) |
//! | `hadir:claimed` | ZSET | id by time of its claim as silent, until the truth decided |
//! | `hadir:sweep` | HASH | what the present sweep may still take, and since when sweeps have been held back |
//! | `hadir:trial:<random>` | STRING | of `hadir check`, for a moment |
//! | `hadir:nodes` | HASH | node to `<written at, ms>:<record, JSON>` |
//!
//! | channel | message |
//! |---|---|
//! | `availability:events` | each published snapshot, the same JSON as the key's |
//! | `hadir:control` | changes of status, kicks and probes among nodes |

use fred::types::Key;

/// How many keys every script declares first; `scripts/prelude.lua` gives them their names.
pub(super) const FIXED: usize = 11;

/// The names in force: prefix and database applied.
pub(super) struct Keys {
    /// Before every name.
    pub prefix: String,
    fixed: [Key; FIXED],
    /// The score of caution among sweeps.
    pub caution: Key,
    /// The nodes' records.
    pub nodes: Key,
    /// The newest availability frame.
    pub snapshot: Key,
    /// The set of the deactivated.
    pub deactivated: Key,
    /// The identity of the store.
    pub store: Key,
    /// Points of the last hour.
    pub history: Key,
    /// Published snapshots.
    pub events: String,
    /// Nodes among themselves.
    pub control: String,
}

impl Keys {
    pub fn new(prefix: &str, database: u8) -> Self {
        let key = |name: &str| Key::from(format!("{prefix}{name}"));
        let channel = |name: &str| match database {
            0 => format!("{prefix}{name}"),
            n => format!("{prefix}db{n}:{name}"),
        };
        Self {
            prefix: prefix.to_owned(),
            fixed: [
                key("hadir:epoch"),
                key("hadir:published"),
                key("availability:snapshot"),
                key("hadir:history"),
                key("hadir:mitras"),
                key("hadir:claimed"),
                key("mitras:online"),
                key("mitras:deactivated"),
                key("mitras:liveness"),
                key("mitras:available"),
                key("hadir:store"),
            ],
            caution: key("hadir:sweep"),
            nodes: key("hadir:nodes"),
            snapshot: key("availability:snapshot"),
            deactivated: key("mitras:deactivated"),
            store: key("hadir:store"),
            history: key("hadir:history"),
            events: channel("availability:events"),
            control: channel("hadir:control"),
        }
    }

    /// The fixed keys, with room for `more` of the script's own.
    pub fn fixed(&self, more: usize) -> Vec<Key> {
        let mut keys = Vec::with_capacity(FIXED + more);
        keys.extend_from_slice(&self.fixed);
        keys
    }

    /// A key that no other program has, for `hadir check`.
    pub fn trial(&self) -> Key {
        Key::from(format!("{}hadir:trial:{}", self.prefix, uuid::Uuid::new_v4().simple()))
    }

    /// Where the last heartbeat of one mitra stands.
    pub fn heartbeat(&self, id: &str) -> Key {
        Key::from([&self.prefix, "mitra:heartbeat:", id].concat())
    }

    /// Where the sessions of one mitra are counted.
    pub fn capacity(&self, id: &str) -> Key {
        Key::from([&self.prefix, "mitra:capacity:", id].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_carries_the_prefix() {
        let keys = Keys::new("shop:", 0);
        assert!(keys.fixed(0).iter().all(|key| key.as_str_lossy().starts_with("shop:")));
        assert_eq!(keys.events, "shop:availability:events");
        assert_eq!(keys.control, "shop:hadir:control");
    }

    #[test]
    fn only_channels_tell_databases_apart() {
        let keys = Keys::new("shop:", 3);
        assert_eq!(keys.snapshot, Key::from("shop:availability:snapshot"));
        assert_eq!(keys.events, "shop:db3:availability:events");
    }
}

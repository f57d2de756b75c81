//! What a node needs of a Valkey, tried before a server starts on it: rights, room for a write, messages, and that no
//! key will be evicted.

use std::time::Duration;

use fred::{interfaces::ClientLike, types::Value};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    ValkeyMirror,
    address::server_in_words,
    catalog, has_hash_tag,
    reply::{Reply, strings},
};
use crate::{
    domain::MitraId,
    mirror::{Mirror, MirrorError, MirrorEvent},
    protocol::ControlMessage,
};

/// Longest wait for a message to come back; the subscription stands a moment after the connection.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two messages, of which the first may be sent before the subscription stands.
const MESSAGE_PAUSE: Duration = Duration::from_millis(100);
/// Redis is usable from this version on; every Valkey is newer.
const LOWEST_REDIS: (u32, u32) = (6, 2);
/// The commands of a key that scripts and client use; `%` is the key.
const KEY_COMMANDS: &[&str] = &[
    "DEL %",
    "GET %",
    "HDEL % f",
    "HGET % f",
    "HGETALL %",
    "HLEN %",
    "HMGET % f",
    "HSCAN % 0",
    "HSET % f v",
    "LRANGE % 0 1",
    "LTRIM % 0 1",
    "MGET %",
    "MSET % v",
    "PEXPIRE % 1",
    "RPUSH % v",
    "SADD % v",
    "SCARD %",
    "SET % v",
    "SETEX % 1 v",
    "SISMEMBER % v",
    "SMISMEMBER % v",
    "SREM % v",
    "SSCAN % 0",
    "TYPE %",
    "ZADD % 1 v",
    "ZCARD %",
    "ZCOUNT % 0 1",
    "ZMSCORE % v",
    "ZRANGE % 0 1",
    "ZRANGEBYSCORE % 0 1",
    "ZREM % v",
    "ZSCAN % 0",
    "ZSCORE % v",
];
/// The commands without a key that every node uses.
const OTHER_COMMANDS: &[&str] = &["EVAL x 0", "EVALSHA x 0", "SCRIPT LOAD x", "TIME", "INFO server", "PING"];
/// Those that nodes use in a cluster alone.
const CLUSTER_COMMANDS: &[&str] = &["CLUSTER INFO", "CLUSTER SLOTS"];

impl ValkeyMirror {
    /// Tries everything that a node will do. What was found in words, or every misfit.
    pub(super) async fn try_everything(&self, patience: Duration) -> Result<String, Vec<String>> {
        let mut connected = self.connected.clone();
        let _ = timeout(patience, connected.wait_for(|connected| *connected)).await;
        let pulse = self.tick().await;
        let place = self.place_in_use();
        let mut misfits = Vec::new();
        let mut note = |error: MirrorError| misfits.push(bare(&error).to_owned());
        if !self.is_connected() {
            let why = pulse.err().map(|error| bare(&error).to_owned()).unwrap_or_default();
            return Err(vec![format!("{why}; start Valkey, or correct VALKEY_URL")]);
        }
        let rights = self.missing_rights(&place).await;
        let lacks_rights = rights.as_ref().is_ok_and(|missing| !missing.is_empty());
        let mut found = format!("Valkey at {place}");
        match self.trial(&place).await {
            Ok((words, wrong)) => {
                found = words;
                wrong.into_iter().for_each(|why| note(MirrorError::new(why)));
            }
            // Said in full by the list of rights.
            Err(error) if lacks_rights && error.why().contains(RIGHTS) => {}
            Err(error) => note(error),
        }
        match rights {
            Ok(missing) => missing.into_iter().for_each(|why| note(MirrorError::new(why))),
            Err(error) => note(error),
        }
        match &pulse {
            Err(error) if lacks_rights && error.why().contains(RIGHTS) => {}
            Err(error) => note(error.clone()),
            Ok(_) if !lacks_rights && !self.messages_come_back().await => note(MirrorError::new(format!(
                "what is published at {place} on {} is not heard within {MESSAGE_PATIENCE:?}",
                self.keys.control
            ))),
            Ok(_) => {}
        }
        let mut told: Vec<String> = Vec::with_capacity(misfits.len());
        for misfit in misfits {
            if !told.contains(&misfit) {
                told.push(misfit);
            }
        }
        if !told.is_empty() {
            return Err(told);
        }
        let is_seeded = pulse.is_ok_and(|pulse| pulse.epoch.is_some());
        Ok(format!("{found}, {}", if is_seeded { "seeded" } else { "to be seeded at start" }))
    }

    /// The servers that are connected to: behind Sentinels, the primary.
    fn place_in_use(&self) -> String {
        let servers = self.connection.commands.borrow().active_connections();
        match &*servers {
            [server] if server.port > 0 => server_in_words(server),
            _ => self.connection.place.clone(),
        }
    }

    /// The rights that the user lacks, a sentence each. None on a server that cannot tell.
    async fn missing_rights(&self, place: &str) -> Result<Vec<String>, MirrorError> {
        let mut names = self.keys_of(std::iter::once(MitraId::from(Uuid::nil())));
        names.extend([self.keys.caution.clone(), self.keys.nodes.clone()]);
        let names: Vec<String> = names.iter().map(|key| key.as_str_lossy().into_owned()).collect();
        let mut others = OTHER_COMMANDS.to_vec();
        if self.connection.clustered {
            others.extend(CLUSTER_COMMANDS);
        }
        let select = format!("SELECT {}", self.connection.database);
        if self.connection.database != 0 {
            others.push(&select);
        }
        let mut arguments = Vec::new();
        let mut list = |words: Vec<&str>| {
            arguments.push(Value::Integer(words.len() as i64));
            arguments.extend(words.into_iter().map(Value::from));
        };
        list(KEY_COMMANDS.to_vec());
        list(names.iter().map(String::as_str).collect());
        list(others);
        list(vec![&self.keys.events, &self.keys.control]);
        let keys = if self.connection.clustered { vec![self.keys.trial()] } else { Vec::new() };
        let mut reply =
            Reply::new(catalog::RIGHTS.name, self.connection.run(&catalog::RIGHTS, keys, arguments).await?)?;
        if reply.len() == 0 {
            return Ok(Vec::new());
        }
        let mut sentences = Vec::new();
        for what in ["run", "use the keys", "publish to", "subscribe to"] {
            let refused = strings(reply.list()?)?;
            if !refused.is_empty() {
                let refused: Vec<&str> = refused.iter().map(|word| word.trim()).collect();
                sentences.push(format!("the user in VALKEY_URL may not {what} {} at {place}", refused.join(", ")));
            }
        }
        Ok(sentences)
    }

    /// Writes a key of its own and removes it. What the server is, and what of it does not fit.
    async fn trial(&self, place: &str) -> Result<(String, Vec<String>), MirrorError> {
        let answer = self.connection.run(&catalog::TRIAL, vec![self.keys.trial()], Vec::new()).await?;
        let mut reply = Reply::new(catalog::TRIAL.name, answer)?;
        reply.text()?;
        let (server, memory) = (Info(reply.text()?), Info(reply.text()?));
        let mut wrong: Vec<String> = server.too_old(place).into_iter().chain(memory.evicts(place)).collect();
        let is_cluster = server.field("redis_mode") == Some("cluster");
        if is_cluster && !self.connection.clustered && !has_hash_tag(&self.keys.prefix) {
            wrong.push(format!("{place} is part of a cluster; write valkey-cluster:// in VALKEY_URL"));
        }
        Ok((format!("{} at {place}", server.product()), wrong))
    }

    /// Whether what is told is heard.
    async fn messages_come_back(&self) -> bool {
        let mut events = self.events();
        let probe = ControlMessage::Probe { node: self.node.clone(), nonce: rand::random::<u32>().into() };
        let telling = async {
            loop {
                let _refused = self.tell(&probe).await;
                sleep(MESSAGE_PAUSE).await;
            }
        };
        let hearing = async {
            loop {
                if matches!(events.recv().await, Ok(MirrorEvent::Control(heard)) if heard == probe) {
                    return;
                }
            }
        };
        tokio::select! {
            () = hearing => true,
            () = sleep(MESSAGE_PATIENCE) => false,
            () = telling => false,
        }
    }
}

/// The reason without the name of the script that failed.
fn bare(error: &MirrorError) -> &str {
    let named = ["tick: ", "trial: ", "rights: "].iter().find_map(|name| error.why().strip_prefix(name));
    named.unwrap_or(error.why())
}

/// Part of what is said where a right is missing; see `words.rs`.
const RIGHTS: &str = "lacks a right";

/// What a server says about itself: lines of `name:value`. Empty where the user may not ask.
struct Info(String);

impl Info {
    fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// Name and version.
    fn product(&self) -> String {
        match (self.field("valkey_version"), self.field("redis_version")) {
            (Some(version), _) => format!("Valkey {version}"),
            (None, Some(version)) => format!("Redis {version}"),
            (None, None) => "Valkey of a version that this user may not ask for".to_owned(),
        }
    }

    fn too_old(&self, place: &str) -> Option<String> {
        let mut numbers = self.field("redis_version")?.split('.').map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next()?, numbers.next()?);
        let (major, minor) = LOWEST_REDIS;
        (self.field("valkey_version").is_none() && version < LOWEST_REDIS)
            .then(|| format!("{} at {place} is too old: Redis {major}.{minor} or Valkey is needed", self.product()))
    }

    /// Whether it will take keys away when its memory is full.
    fn evicts(&self, place: &str) -> Option<String> {
        let policy = self.field("maxmemory_policy").filter(|policy| *policy != "noeviction")?;
        let is_bounded = self.field("maxmemory").is_some_and(|bytes| bytes != "0");
        is_bounded.then(|| {
            format!("{place} will evict keys when it is full (maxmemory-policy {policy}): set it to noeviction")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Words in capitals that are no commands.
    const OPTIONS: &[&str] = &["CH", "COUNT", "EX", "GT", "LIMIT", "NX", "PX", "PXAT", "WITHSCORES", "XX"];

    #[test]
    fn every_command_of_the_scripts_is_among_those_whose_right_is_tried() {
        let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase());
        let used: BTreeSet<&str> = catalog::every_source()
            .flat_map(|source| source.split('\''))
            .filter(|text| word(text) && text.len() > 1 && !OPTIONS.contains(text))
            .collect();
        let tried: BTreeSet<&str> = KEY_COMMANDS
            .iter()
            .chain(OTHER_COMMANDS)
            .filter_map(|text| text.split(' ').next())
            .chain(["PUBLISH"])
            .collect();
        let forgotten: Vec<_> = used.difference(&tried).collect();
        assert!(forgotten.is_empty(), "{forgotten:?}");
    }

    #[test]
    fn a_version_is_judged_by_the_product() {
        for (said, wrong) in [
            ("redis_version:6.0.16", true),
            ("redis_version:5.0.14\r\nos:Linux", true),
            ("redis_version:6.2.0", false),
            ("redis_version:8.0.2", false),
            ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1", false),
            ("", false),
        ] {
            assert_eq!(Info(said.to_owned()).too_old("cache:1").is_some(), wrong, "{said}");
        }
        let old = Info("redis_version:6.0.16".to_owned()).too_old("cache:1").unwrap();
        assert_eq!(old, "Redis 6.0.16 at cache:1 is too old: Redis 6.2 or Valkey is needed");
    }
}

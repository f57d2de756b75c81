//! A private Valkey with a replica, and three Sentinels that watch them: passwords everywhere, ended with the test.

use std::fs;

use super::{
    authority::Authority,
    eventually,
    valkey::{Answer, Server, free_port},
};

/// What the Sentinels call the primary.
const SERVICE: &str = "hadir";
const PASSWORD: &str = "of-the-servers";
const SENTINEL_PASSWORD: &str = "of-the-sentinels";
const SENTINELS: usize = 3;
/// Of them, so many must agree that the primary is gone.
const QUORUM: usize = 2;
/// For so long the primary may be silent. Longer than a mitra may be in these tests, so that the outage is worth the name.
const DOWN_AFTER_MS: u32 = 4_000;

/// All of them end with the value.
pub struct Sentinels {
    /// Named first.
    pub primary: Server,
    /// Named after the primary is gone.
    pub replica: Server,
    sentinels: Vec<Server>,
    /// Where the replica is named, and the Sentinels are asked: with TLS at other ports.
    ports: Ports,
}

struct Ports {
    replica: u16,
    sentinels: Vec<u16>,
    are_encrypted: bool,
}

impl Sentinels {
    /// A primary, a replica in step with it, and Sentinels that know both and each other.
    pub async fn start() -> Self {
        let primary = Server::with_password(PASSWORD);
        let replica = primary.replica();
        let sentinels: Vec<Server> = (0..SENTINELS).map(|_| sentinel(primary.port(), "")).collect();
        let ports = Ports {
            replica: replica.port(),
            sentinels: sentinels.iter().map(Server::port).collect(),
            are_encrypted: false,
        };
        Self { primary, replica, sentinels, ports }.in_order().await
    }

    /// The same with TLS everywhere, with certificates of this authority.
    pub async fn start_encrypted(authority: &Authority) -> Self {
        let [first, second] = [free_port(), free_port()];
        let primary = Server::start_with(Some(PASSWORD), |_| authority.valkey_arguments(first));
        let of = ["--replicaof", "127.0.0.1", &first.to_string()].map(str::to_owned);
        let replica =
            Server::start_with(Some(PASSWORD), |_| [authority.valkey_arguments(second), of.to_vec()].concat());
        let mut ports = Ports { replica: second, sentinels: Vec::new(), are_encrypted: true };
        let sentinels = (0..SENTINELS).map(|_| {
            let port = free_port();
            ports.sentinels.push(port);
            let lines = authority
                .valkey_arguments(port)
                .chunks(2)
                .fold(String::new(), |lines, pair| lines + pair[0].trim_start_matches('-') + " " + &pair[1] + "\n");
            sentinel(first, &lines)
        });
        let sentinels = sentinels.collect();
        Self { primary, replica, sentinels, ports }.in_order().await
    }

    async fn in_order(self) -> Self {
        let sentinels = self;
        eventually("the Sentinels know everybody", async || {
            let well = sentinels.sentinels.iter().all(|sentinel| {
                let others = (SENTINELS - 1).to_string();
                field(sentinel, "num-slaves") == "1" && field(sentinel, "num-other-sentinels") == others
            });
            well.then_some(())
        })
        .await;
        sentinels
    }

    /// What nodes are told.
    pub fn url(&self) -> String {
        self.url_of(self.sentinels.len())
    }

    /// The same with so many of the Sentinels.
    pub fn url_of(&self, count: usize) -> String {
        let mut addresses = self.ports.sentinels.iter().take(count).map(|port| format!("127.0.0.1:{port}"));
        let scheme = if self.ports.are_encrypted { "valkeys-sentinel" } else { "valkey-sentinel" };
        let first = addresses.next().expect("at least one");
        let others: String = addresses.map(|address| format!("&node={address}")).collect();
        format!(
            "{scheme}://:{PASSWORD}@{first}/0?sentinelServiceName={SERVICE}&sentinelPassword={SENTINEL_PASSWORD}{others}"
        )
    }

    /// `kill -9` for all of them but the first.
    pub fn lose_all_but_one(&mut self) {
        self.sentinels.iter_mut().skip(1).for_each(Server::kill);
    }

    /// Waits until a Sentinel names the replica as primary, and it is one.
    pub async fn promoted(&self) {
        let port = self.ports.replica.to_string();
        eventually("the replica is promoted", async || {
            let named = self.sentinels.iter().any(|sentinel| field(sentinel, "port") == port);
            (named && self.replica.says("replication", "role:master")).then_some(())
        })
        .await;
    }

    /// Waits until the old primary, alive again, follows the new one.
    pub async fn follows(&self) {
        eventually("the old primary follows", async || {
            self.primary.says("replication", "master_link_status:up").then_some(())
        })
        .await;
    }
}

/// `more`: further lines of its configuration.
fn sentinel(primary: u16, more: &str) -> Server {
    Server::launch(Some(SENTINEL_PASSWORD), |port, folder| {
        let file = format!("{folder}/sentinel.conf");
        let configuration = format!(
            "port {port}\nbind 127.0.0.1\ndir {folder}\nrequirepass {SENTINEL_PASSWORD}\n\
             {more}sentinel sentinel-pass {SENTINEL_PASSWORD}\n\
             sentinel monitor {SERVICE} 127.0.0.1 {primary} {QUORUM}\n\
             sentinel auth-pass {SERVICE} {PASSWORD}\n\
             sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {SERVICE} 2000\n"
        );
        fs::write(&file, configuration).expect("written");
        vec![file, "--sentinel".to_owned()]
    })
}

/// What a Sentinel says of the primary.
fn field(sentinel: &Server, name: &str) -> String {
    let Answer::List(words) = sentinel.raw().ask(&["SENTINEL", "MASTER", SERVICE]) else {
        panic!("the Sentinel knows the primary")
    };
    let words: Vec<String> = words.into_iter().filter_map(Answer::text).collect();
    let found = words.chunks(2).find(|pair| pair[0] == name);
    found.map(|pair| pair[1].clone()).unwrap_or_default()
}

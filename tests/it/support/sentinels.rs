//! A private Valkey with a replica, and three Sentinels that watch them: passwords everywhere, ended with the test.

use std::fs;

use super::{
    eventually,
    valkey::{Answer, Server},
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
}

impl Sentinels {
    /// A primary, a replica in step with it, and Sentinels that know both and each other.
    pub async fn start() -> Self {
        let primary = Server::with_password(PASSWORD);
        let replica = primary.replica();
        let sentinels = (0..SENTINELS).map(|_| sentinel(primary.port())).collect();
        let sentinels = Self { primary, replica, sentinels };
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
        let mut addresses = self.sentinels.iter().take(count).map(|sentinel| sentinel.address().to_string());
        let first = addresses.next().expect("at least one");
        let others: String = addresses.map(|address| format!("&node={address}")).collect();
        format!(
            "valkey-sentinel://:{PASSWORD}@{first}/0?sentinelServiceName={SERVICE}&sentinelPassword={SENTINEL_PASSWORD}{others}"
        )
    }

    /// `kill -9` for all of them but the first.
    pub fn lose_all_but_one(&mut self) {
        self.sentinels.iter_mut().skip(1).for_each(Server::kill);
    }

    /// Waits until a Sentinel names the replica as primary, and it is one.
    pub async fn promoted(&self) {
        let port = self.replica.port().to_string();
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

fn sentinel(primary: u16) -> Server {
    Server::launch(Some(SENTINEL_PASSWORD), |port, folder| {
        let file = format!("{folder}/sentinel.conf");
        let configuration = format!(
            "port {port}\nbind 127.0.0.1\ndir {folder}\nrequirepass {SENTINEL_PASSWORD}\n\
             sentinel sentinel-pass {SENTINEL_PASSWORD}\n\
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

//! A private Valkey cluster: three primaries that share the slots, a replica of each, ended with the test.

use super::{
    authority::Authority,
    eventually,
    valkey::{Answer, Server, free_port},
};

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;
/// For so long a primary may be silent. Longer than a mitra may be in these tests, so that the outage is worth the name.
const NODE_TIMEOUT_MS: &str = "3500";

/// All of them end with the value.
pub struct ValkeyCluster {
    /// First the primaries, then a replica of each, in the same order.
    servers: Vec<Server>,
    /// Where each takes TLS, if they do.
    tls_ports: Vec<u16>,
    /// Which one [`Self::lose_another`] ended.
    lost: Option<usize>,
}

impl ValkeyCluster {
    /// A cluster that is well and whose replicas are in step.
    pub async fn start() -> Self {
        Self::launch(None).await
    }

    /// The same with TLS, among its servers too, and with certificates of this authority.
    pub async fn start_encrypted(authority: &Authority) -> Self {
        Self::launch(Some(authority)).await
    }

    async fn launch(authority: Option<&Authority>) -> Self {
        let (mut buses, mut tls_ports) = (Vec::new(), Vec::new());
        let servers: Vec<Server> = (0..PRIMARIES * 2)
            .map(|_| {
                // The usual bus port, ten thousand above, may be none.
                let bus = free_port();
                buses.push(bus);
                let mut arguments = arguments(bus);
                if let Some(authority) = authority {
                    let port = free_port();
                    tls_ports.push(port);
                    arguments.extend(authority.valkey_arguments(port));
                    arguments.extend(["--tls-cluster", "yes"].map(str::to_owned));
                }
                Server::start_with(None, |_| arguments.clone())
            })
            .collect();
        for (index, server) in servers.iter().enumerate() {
            let mut raw = server.raw();
            raw.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if index < PRIMARIES {
                let slots = slots_of(index);
                raw.ask(&["CLUSTER", "ADDSLOTSRANGE", &slots.start.to_string(), &(slots.end - 1).to_string()]);
            }
            let port = tls_ports.first().copied().unwrap_or(servers[0].port()).to_string();
            let bus = buses[0].to_string();
            if index > 0 {
                raw.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        let cluster = Self { servers, tls_ports, lost: None };
        cluster.everywhere("all have met", |server| known(server, "@").len() == PRIMARIES * 2).await;
        for (index, replica) in cluster.servers.iter().enumerate().skip(PRIMARIES) {
            let primary = cluster.servers[index - PRIMARIES].raw().ask(&["CLUSTER", "MYID"]).text().expect("an id");
            replica.raw().ask(&["CLUSTER", "REPLICATE", &primary]);
        }
        cluster
            .everywhere("the cluster is well", |server| {
                let in_step =
                    server.says("replication", "role:master") || server.says("replication", "master_link_status:up");
                in_step && is_well(server) && known(server, "slave").len() == PRIMARIES
            })
            .await;
        cluster
    }

    /// What nodes are told: the primary of these keys alone, which is the one that will be lost.
    pub fn url(&self, prefix: &str) -> String {
        let place = self.place(prefix);
        match self.tls_ports.get(place) {
            Some(port) => format!("valkeys-cluster://127.0.0.1:{port}"),
            None => format!("valkey-cluster://{}", self.servers[place].address()),
        }
    }

    /// The primary of the keys with this prefix.
    pub fn owner(&mut self, prefix: &str) -> &mut Server {
        let place = self.place(prefix);
        &mut self.servers[place]
    }

    /// The replica of that primary.
    pub fn heir(&self, prefix: &str) -> &Server {
        &self.servers[self.place(prefix) + PRIMARIES]
    }

    /// The primaries of other slots.
    pub fn others(&self, prefix: &str) -> impl Iterator<Item = &Server> {
        let place = self.place(prefix);
        self.servers[..PRIMARIES].iter().enumerate().filter(move |(index, _)| *index != place).map(|(_, server)| server)
    }

    /// Waits until the replica is the primary of these keys, and the others agree.
    pub async fn promoted(&self, prefix: &str) {
        eventually("the replica is promoted", async || {
            let heir = self.heir(prefix);
            let well = self.others(prefix).chain([heir]).all(is_well);
            (well && heir.says("replication", "role:master")).then_some(())
        })
        .await;
    }

    /// Waits until the old primary of these keys, alive again, follows the new one.
    pub async fn follows(&mut self, prefix: &str) {
        let old = self.owner(prefix);
        eventually("the old primary follows", async || old.says("replication", "master_link_status:up").then_some(()))
            .await;
    }

    /// `kill -9` for the primary of other slots.
    pub fn lose_another(&mut self, prefix: &str) {
        let other = (self.place(prefix) + 1) % PRIMARIES;
        self.servers[other].kill();
        self.lost = Some(other);
    }

    /// Waits until the replica of the one that was lost is a primary, and all agree.
    pub async fn well_again(&self) {
        let lost = self.lost.expect("one is lost");
        eventually("the cluster is well again", async || {
            let heir = &self.servers[lost + PRIMARIES];
            let living = self.servers.iter().enumerate().filter(|(index, _)| *index != lost);
            (heir.says("replication", "role:master") && living.map(|(_, server)| server).all(is_well)).then_some(())
        })
        .await;
    }

    fn place(&self, prefix: &str) -> usize {
        // Any server may be asked, and the last replica is never ended by a test.
        let slot = self.servers[PRIMARIES * 2 - 1].raw().ask(&["CLUSTER", "KEYSLOT", prefix]).number() as usize;
        (0..PRIMARIES).find(|index| slots_of(*index).contains(&slot)).expect("a slot of somebody's")
    }

    async fn everywhere(&self, what: &str, is_so: impl Fn(&Server) -> bool) {
        eventually(what, async || self.servers.iter().all(&is_so).then_some(())).await;
    }
}

fn arguments(bus: u16) -> Vec<String> {
    [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus.to_string(),
        "--cluster-node-timeout",
        NODE_TIMEOUT_MS,
        "--cluster-config-file",
        "nodes.conf",
    ]
    .map(str::to_owned)
    .into()
}

fn slots_of(index: usize) -> std::ops::Range<usize> {
    index * SLOTS / PRIMARIES..(index + 1) * SLOTS / PRIMARIES
}

fn is_well(server: &Server) -> bool {
    // Asked again by who waits: a primary that is demoted hangs up on its clients.
    let said = server.try_raw().and_then(|mut raw| raw.try_ask(&["CLUSTER", "INFO"])).and_then(Answer::text);
    said.is_some_and(|said| said.lines().any(|line| line == "cluster_state:ok"))
}

/// The lines of those that a server knows well and in which a word stands.
fn known(server: &Server, word: &str) -> Vec<String> {
    let said = server.raw().ask(&["CLUSTER", "NODES"]).text().expect("text");
    said.lines().filter(|line| line.contains(word) && !line.contains("handshake")).map(str::to_owned).collect()
}

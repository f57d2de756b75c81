//! Sentinels and clusters that speak TLS, with a private certificate authority, and clusters under a wrong scheme.

use std::time::Duration;

use hadir::mirror::{Mirror, valkey::ValkeyTls};

use crate::support::{authority::Authority, cluster::ValkeyCluster, eventually, sentinels::Sentinels, valkey::Server};

use super::{answers, fails_with, open, open_with_prefix};

const PREFIX: &str = "{hadir}:";

fn trusting(authority: &Authority) -> ValkeyTls {
    ValkeyTls { ca_file: Some(authority.certificate()), ..ValkeyTls::default() }
}

#[tokio::test]
async fn a_cluster_with_tls_is_used_and_its_failover_followed() {
    let authority = Authority::new();
    let mut valkey = ValkeyCluster::start_encrypted(&authority).await;
    let url = valkey.url(PREFIX);
    assert!(url.starts_with("valkeys-cluster://"), "{url}");
    fails_with("not trusted", open(&url, trusting(&Authority::new())).await.unwrap()).await;
    let mirror = open(&url, trusting(&authority)).await.unwrap();
    answers("the cluster", &mirror).await;
    valkey.owner(PREFIX).kill();
    valkey.promoted(PREFIX).await;
    answers("the replica", &mirror).await;
    mirror.close().await;
}

#[tokio::test]
async fn sentinels_with_tls_are_asked_and_their_failover_followed() {
    let authority = Authority::new();
    let mut valkey = Sentinels::start_encrypted(&authority).await;
    let url = valkey.url();
    assert!(url.starts_with("valkeys-sentinel://"), "{url}");
    let mirror = open(&url, trusting(&authority)).await.unwrap();
    answers("the primary", &mirror).await;
    valkey.primary.kill();
    valkey.promoted().await;
    answers("the replica", &mirror).await;
    mirror.close().await;
}

#[tokio::test]
async fn a_cluster_under_the_scheme_of_one_server_is_told_which_to_write() {
    // One shard, so that nothing is ever said to have moved.
    let server = Server::start_with(None, |_| ["--cluster-enabled", "yes"].map(str::to_owned).into());
    server.raw().ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let url = format!("valkey://{}", server.address());
    let mirror = open(&url, ValkeyTls::default()).await.unwrap();
    eventually("named", async || {
        let why = mirror.preflight(Duration::from_secs(5)).await.expect_err("no usable scheme");
        why.iter().any(|why| why.contains("write valkey-cluster://")).then_some(())
    })
    .await;
    fails_with("write valkey-cluster://", mirror).await;

    // Several, and all keys in the slot of one: another says that they have moved.
    let cluster = ValkeyCluster::start().await;
    let other = cluster.others(PREFIX).next().unwrap().address();
    let mirror = open_with_prefix(&format!("valkey://{other}"), PREFIX).await;
    fails_with("write valkey-cluster://", mirror).await;
}

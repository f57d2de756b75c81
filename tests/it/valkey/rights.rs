//! The rights that docs/deployment.md lists: enough for all that the contract of the mirror asks (which runs as that user,
//! see `contract/mirror.rs`) and none too many.

use std::time::Duration;

use hadir::mirror::{Mirror, valkey::ValkeyTls};

use crate::support::{
    rights::{documented_rights, documented_user},
    valkey::{Answer, Server},
};

use super::{open, works};

/// Those that only a number of the database, Sentinels, a cluster or the client's own notes need.
const ELSEWHERE: &[&str] = &["select", "role", "client|id", "cluster|info", "cluster|slots", "publish", "subscribe"];

#[tokio::test]
async fn a_user_with_exactly_the_documented_rights_is_enough() {
    let server = Server::start();
    works("database 0", open(&documented_user(&server, 0), ValkeyTls::default()).await.unwrap()).await;
    let refused = server.raw().ask(&["ACL", "LOG"]);
    assert_eq!(refused, Answer::List(Vec::new()), "the list lacks a right");
}

#[tokio::test]
async fn every_documented_command_is_missed_when_its_right_is_taken() {
    let server = Server::start();
    let mirror = open(&documented_user(&server, 0), ValkeyTls::default()).await.unwrap();
    mirror.preflight(Duration::from_secs(5)).await.expect("all rights are there");
    let mut raw = server.raw();
    let mut tried = 0;
    for right in documented_rights().iter().flat_map(|line| line.split(' ')).filter_map(|word| word.strip_prefix('+')) {
        if ELSEWHERE.contains(&right) {
            continue;
        }
        raw.ask(&["ACL", "SETUSER", "hadir", &format!("-{right}")]);
        let misfits = mirror.preflight(Duration::from_secs(5)).await.expect_err(right).join("\n");
        let name = right.replace('|', " ");
        assert!(misfits.to_lowercase().contains(&name), "{right} is not named by {misfits}");
        raw.ask(&["ACL", "SETUSER", "hadir", &format!("+{right}")]);
        tried += 1;
    }
    assert!(tried > 30, "the list is found: {tried}");
    mirror.close().await;
}

//! Valkey is there and refuses: no memory, no password, no room for clients, no writes.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use parking_lot::Mutex;

use crate::{
    kit::resp::Raw,
    outcome::Outcome,
    stage::Stage,
    trial::{Detect, Trial},
};

/// So that every node has to connect again.
const KILL_ALL: [&str; 2] = ["CLIENT KILL TYPE normal SKIPME yes", "CLIENT KILL TYPE pubsub"];

pub async fn out_of_memory(stage: &mut Stage) -> Result<Outcome> {
    Trial::mirror_away("valkey-oom", "Valkey out of memory", "`CONFIG SET maxmemory 1`, `noeviction`")
        .run(
            stage,
            async |stage| stage.valkey(&["CONFIG SET maxmemory 1"]).await,
            async |stage| stage.valkey(&["CONFIG SET maxmemory 0"]).await,
        )
        .await
}

/// Some of the keys go, whichever: sizes that do not agree, or a missing epoch, say so; single values are put right by the
/// next reseed.
pub async fn evicting(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        answers: [None, None],
        silent_within: Some(Duration::from_secs(8)),
        truth_within: Duration::from_secs(20),
        ..Trial::of("valkey-evicting", "Valkey evicts keys at random", "`CONFIG SET maxmemory`, `allkeys-random`")
    };
    trial
        .run(
            stage,
            async |stage| {
                // Something to be over the limit with, then three times a little over it.
                let fill = "EVAL for\ti=1,40\tdo\tredis.call('SET','filler:'..i,string.rep('x',500000))\tend 0";
                stage.valkey(&[fill, "CONFIG SET maxmemory-policy allkeys-random"]).await?;
                for limit in ["16mb", "12mb", "8mb"] {
                    stage.valkey(&[&format!("CONFIG SET maxmemory {limit}")]).await?;
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                Ok(())
            },
            async |stage| stage.valkey(&["CONFIG SET maxmemory 0"]).await,
        )
        .await
}

pub async fn no_password(stage: &mut Stage) -> Result<Outcome> {
    let password = "changed-behind-their-backs";
    Trial::mirror_away(
        "valkey-noauth",
        "Valkey wants another password",
        "`CONFIG SET requirepass`, every client killed",
    )
    .run(
        stage,
        async |stage| {
            stage.valkey(&[&[format!("CONFIG SET requirepass {password}").as_str()], &KILL_ALL[..]].concat()).await
        },
        async |stage| stage.valkey(&[&format!("AUTH {password}"), "CONFIG SET requirepass "]).await,
    )
    .await
}

pub async fn no_clients(stage: &mut Stage) -> Result<Outcome> {
    // The one that is let in must be there before.
    let keeper = Arc::new(Mutex::new(Raw::to(stage.valkey.port)?));
    let ask = async |commands: Vec<&'static str>| -> Result<()> {
        let keeper = Arc::clone(&keeper);
        let asking = tokio::task::spawn_blocking(move || {
            let mut keeper = keeper.lock();
            for command in commands {
                let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
                keeper.ask(&words).context(command)?;
            }
            Ok(())
        });
        asking.await?
    };
    Trial::mirror_away(
        "valkey-maxclients",
        "Valkey takes no more clients",
        "`CONFIG SET maxclients 1`, every client killed",
    )
    .run(
        stage,
        async |_| ask(["CONFIG SET maxclients 1"].into_iter().chain(KILL_ALL).collect()).await,
        async |_| ask(vec!["CONFIG SET maxclients 10000"]).await,
    )
    .await
}

pub async fn read_only(stage: &mut Stage) -> Result<Outcome> {
    // Reads are still answered, so that each node notices with its first write.
    let trial = Trial {
        detect: Detect::Mode("fallback", &[0, 1]),
        ..Trial::mirror_away(
            "valkey-readonly",
            "Valkey demoted to a replica",
            "`REPLICAOF` a primary that is not there",
        )
    };
    trial
        .run(
            stage,
            async |stage| stage.valkey(&["REPLICAOF 127.0.0.1 1"]).await,
            async |stage| stage.valkey(&["REPLICAOF NO ONE"]).await,
        )
        .await
}

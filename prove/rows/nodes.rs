//! Faults of the nodes: killed, frozen, restarted in turn, stormed, without descriptors.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use tokio::{sync::Semaphore, time::sleep};

use crate::{
    fleet::{Life, Manner, Mitra},
    journal::Journal,
    outcome::Outcome,
    proxy::Traffic,
    stage::{MIRROR_INTERVAL, SUSPECT, Scenery, Stage},
    trial::{Deactivated, Detect, LIVE, Trial},
};

/// One node goes, and its mitras come back to the other in time.
fn one_gone(row: &'static str, fault: &'static str, injected: &'static str) -> Trial {
    Trial {
        answers: [None, Some(LIVE)],
        deactivated: Deactivated::At(1),
        sockets_stay: false,
        answers_hold: false,
        // Questions to the one that is gone are not answered at all.
        answer_within: Duration::from_secs(6),
        ..Trial::of(row, fault, injected)
    }
}

pub async fn killed(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial { nodes_stay: false, ..one_gone("node-killed", "a node killed", "`kill -9`; started again") };
    trial.run(stage, async |stage| stage.nodes[0].kill().await, async |stage| stage.nodes[0].start().await).await
}

pub async fn frozen(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        // A phone at the frozen node learns it when it has noticed, and dialled the other.
        refused_within: Duration::from_secs(3),
        ..one_gone("node-frozen", "a node frozen past the offline time, thawed", "`SIGSTOP`, `SIGCONT`")
    };
    trial
        .run(
            stage,
            async |stage| stage.nodes[0].signal(Signal::STOP),
            async |stage| stage.nodes[0].signal(Signal::CONT),
        )
        .await
}

/// Node 0 logs to a full disk, node 1 to a pipe whose reader has ended.
pub fn unwritable_scenery() -> Scenery {
    let under = |script: &str| ["bash", "-c", script].map(str::to_owned).into();
    let full = under(r#"exec "$0" "$@" 2>/dev/full"#);
    let closed = under(r#"exec "$0" "$@" 2> >(exit)"#);
    Scenery { node_under: [full, closed], ..Scenery::default() }
}

/// An outage makes every node log, and none of them can.
pub async fn log_unwritable(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial::mirror_away(
        "log-unwritable",
        "logs that cannot be written, and Valkey killed",
        "standard error is `/dev/full` and a closed pipe; `kill -9`; started empty",
    );
    let mut outcome = trial
        .run(stage, async |stage| stage.valkey.kill().await, async |stage| stage.valkey.restart(&[]).await)
        .await?;
    for (number, node) in stage.nodes.iter().enumerate() {
        let lost = node.door.metric("hadir_log_lines_lost_total").await.unwrap_or_default();
        outcome.check(lost > 0.0, || format!("node {number} could write its log"));
    }
    Ok(outcome)
}

/// Each node is drained, stopped and started, one after the other, while everybody beats.
pub async fn rolling(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        detect: Detect::Nothing,
        sockets_stay: false,
        nodes_stay: false,
        answers_hold: false,
        // A node that has just started answers from the store until its mirror is seeded.
        silent_within: Some(SUSPECT + MIRROR_INTERVAL + Duration::from_secs(2)),
        answer_within: Duration::from_secs(2),
        // While the one that is asked is down, nobody can be deactivated at it.
        ..Trial::of("rolling-restart", "both nodes restarted in turn", "`SIGTERM`, drained over 4 s, started again")
    };
    let began = Instant::now();
    let mut outcome = trial
        .run(
            stage,
            async |stage| {
                for node in 0..2 {
                    stage.nodes[node].stop().await?;
                    stage.nodes[node].start().await?;
                    // As an orchestrator does, who waits until it is ready.
                    sleep(Duration::from_secs(1)).await;
                }
                Ok(())
            },
            async |_| Ok(()),
        )
        .await?;
    // The mitra that is to be deactivated has a phone at each node, which dials it until it answers.
    let condemned = format!("mitra {}:", stage.condemned());
    let mut lost = stage.journal.lost_since(began);
    lost.retain(|why| !why.starts_with(&condemned));
    let asked = lost.iter().filter(|why| why.ends_with("restart")).count();
    outcome.check(asked == lost.len(), || {
        let others: Vec<&String> = lost.iter().filter(|why| !why.ends_with("restart")).take(3).collect();
        format!("{} of {} sockets ended without a word: {others:?}", lost.len() - asked, lost.len())
    });
    let moments = stage.journal.moments_of_loss(began);
    let busiest = moments
        .iter()
        .map(|at| moments.iter().filter(|other| **other >= *at && **other - *at < Duration::from_millis(500)).count());
    let busiest = busiest.max().unwrap_or(0);
    outcome.note(format!("{} sockets were told to come back, at most {busiest} within half a second", lost.len()));
    // Each drain takes 4 s: half a second has an eighth of a node's sockets, and some are luckier than others.
    let share = stage.fleet.len() / 2 + stage.fleet.len() / 8;
    outcome.check(busiest <= share / 2 + 5, || format!("{busiest} reconnects came within half a second"));
    Ok(outcome)
}

/// Everybody's connection is cut at the same moment; a few who are not cut measure what it costs them.
pub async fn storm(stage: &mut Stage) -> Result<Outcome> {
    let apart = Arc::new(Journal::default());
    let life = Life {
        nodes: stage.nodes.iter().map(|node| node.door.public).collect(),
        journal: Arc::clone(&apart),
        gate: Arc::new(Semaphore::new(16)),
    };
    // Sockets without a go-online: they count for nobody and ping all the same.
    let steady: Vec<Mitra> =
        (0..20).map(|number| Mitra::live(number, (number % 2) as usize, Manner::Stays, &life)).collect();
    let mut cut_at = Instant::now();
    let trial = Trial {
        sockets_stay: false,
        ..Trial::of("reconnect-storm", "every mitra's connection cut at once", "proxies cut, three times")
    };
    sleep(Duration::from_secs(1)).await;
    let mut outcome = trial
        .run(
            stage,
            async |stage| {
                let calm = apart.take_pings();
                cut_at = Instant::now();
                for _ in 0..3 {
                    stage.nodes.iter().for_each(|node| node.front.set(Traffic::Reset));
                    sleep(Duration::from_millis(50)).await;
                    stage.nodes.iter().for_each(|node| node.front.set(Traffic::Flows));
                    sleep(Duration::from_millis(1_500)).await;
                }
                drop(calm);
                Ok(())
            },
            async |_| Ok(()),
        )
        .await?;
    let pings = apart.take_pings();
    let lost = apart.lost_since(cut_at);
    outcome.check(lost.is_empty(), || format!("{} sockets that were not cut ended: {:?}", lost.len(), lost.first()));
    outcome.within(
        "a pong to one who was not cut",
        Duration::from_secs_f64(pings.ms(0.99) / 1e3),
        stage.limit(Duration::from_millis(150)),
    );
    outcome.note(format!("pings of {} who were not cut: p99 {:.0} ms", steady.len(), pings.ms(0.99)));
    Ok(outcome)
}

/// Nobody new gets in, those who are in notice nothing, and afterwards all get in again.
pub async fn no_descriptors(stage: &mut Stage) -> Result<Outcome> {
    let own = getrlimit(Resource::Nofile);
    let knocking = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let trial = Trial {
        // Who asks with a new connection waits for it.
        answer_within: Duration::from_secs(6),
        answers_hold: false,
        deactivated: Deactivated::At(1),
        refused_within: Duration::from_secs(1),
        ..Trial::of("descriptors", "a node without descriptors", "`prlimit --nofile`, then 50 who knock")
    };
    let knocked = Arc::clone(&knocking);
    let mut outcome = trial
        .run(
            stage,
            async |stage| {
                let usage = stage.nodes[0].usage()?;
                let limit = Rlimit { current: Some(usage.descriptors()? + 2), maximum: own.maximum };
                prlimit(Pid::from_raw(usage.pid() as i32), Resource::Nofile, limit)?;
                for _ in 0..50 {
                    if let Ok(stream) = tokio::net::TcpStream::connect(stage.nodes[0].door.public).await {
                        knocked.lock().push(stream);
                    }
                }
                Ok(())
            },
            async |stage| {
                let usage = stage.nodes[0].usage()?;
                prlimit(Pid::from_raw(usage.pid() as i32), Resource::Nofile, own)?;
                knocking.lock().clear();
                Ok(())
            },
        )
        .await?;
    let reply = stage.nodes[0].door.as_customer("/api/client/availability").await;
    outcome.check(reply.is_good(), || format!("nobody is let in again: {reply:?}"));
    Ok(outcome)
}

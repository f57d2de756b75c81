//! Clients that misbehave: phones that vanish without a word, readers that stop reading, requests that never end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::SinkExt;
use rand::RngExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::{
    kit::{
        socket::{self, Dial},
        tokens::{Mint, Role},
    },
    outcome::Outcome,
    proxy::Traffic,
    stage::{SUSPECT, Scenery, Stage, until},
    trial::{Deactivated, Trial},
};

const MANY: u64 = 50;

/// The connections of one node's mitras lead nowhere from now on; their apps notice and dial anew.
pub async fn half_open(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        sockets_stay: false,
        // Half of its sockets were lost; the one on the other node is told.
        deactivated: Deactivated::At(1),
        ..Trial::of(
            "half-open-clients",
            "half of the phones vanish without a word",
            "a proxy that forgets its connections",
        )
    };
    let mut gone = None;
    let mut outcome = trial
        .run(
            stage,
            async |stage| {
                let before = sockets(stage).await.context("node 0 does not say how many sockets it has")?;
                stage.nodes[0].front.set(Traffic::Forgotten);
                let began = Instant::now();
                // Every mitra of this node dials the other one; a few may come back here when that one is slow.
                let left = before - stage.fleet.len() as u64 / 2 + 10;
                let back = async || sockets(stage).await.is_some_and(|now| now <= left);
                gone = until(Duration::from_secs(20), back).await.map(|_| began.elapsed());
                Ok(())
            },
            async |stage| {
                stage.nodes[0].front.set(Traffic::Flows);
                Ok(())
            },
        )
        .await?;
    match gone {
        Some(took) => {
            // Silent for the suspect time, then given the time to answer a close.
            outcome.within("letting go of dead sockets", took, stage.limit(SUSPECT + Duration::from_secs(3)));
            outcome.note(format!("dead sockets were let go after {:.1} s", took.as_secs_f64()));
        }
        None => outcome.broken.push("dead sockets were never let go".to_owned()),
    }
    Ok(outcome)
}

/// A clock that runs ten times as fast instead of fifteen, so that gaps of up to 29 s leave room for how slow a machine is.
pub fn gaps_scenery() -> Scenery {
    let settings = [("HEARTBEAT_SUSPECT_SECONDS", "4.5"), ("MITRA_OFFLINE_AFTER_SECONDS", "9")];
    Scenery { settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(), ..Scenery::default() }
}

/// Everybody loses the network again and again, for 1 to 29 s of the real clock, and comes back at the other node.
pub async fn gaps(stage: &mut Stage) -> Result<Outcome> {
    const CUTS: u32 = 1_000;
    let trial = Trial {
        sockets_stay: false,
        // Of this row's clock.
        silent_within: Some(Duration::from_millis(6_000)),
        ..Trial::of(
            "short-gaps",
            "1,000 gaps of 1 to 29 s, over both nodes",
            "sockets dropped, dialled at the other node",
        )
    };
    let began = Instant::now();
    let mut cuts = 0;
    let mut outcome = trial
        .run(
            stage,
            async |stage| {
                let rounds = CUTS.div_ceil(stage.fleet.len() as u32);
                for _ in 0..rounds {
                    for mitra in &stage.fleet {
                        mitra.loses_network_for(Duration::from_millis(rand::rng().random_range(100..=2_900)));
                        cuts += 1;
                        // All of a round within a second.
                        sleep(Duration::from_secs(1) / stage.fleet.len() as u32).await;
                    }
                    // The last one is back, and has beaten.
                    sleep(Duration::from_millis(4_500)).await;
                }
                Ok(())
            },
            async |_| Ok(()),
        )
        .await?;
    let lost = stage.journal.lost_since(began);
    let gaps = lost.iter().filter(|why| why.ends_with("a gap")).count();
    outcome.check(gaps as u32 == cuts, || format!("{gaps} of {cuts} gaps took place"));
    outcome.note(format!("{gaps} gaps"));
    Ok(outcome)
}

/// What makes readers stall sooner than a real network would.
pub fn stalled_scenery() -> Scenery {
    let settings = [
        ("HADIR_LIMIT_MESSAGES_PER_SECOND", "100000"),
        ("HADIR_LIMIT_BYTES_PER_SECOND", "1000000000"),
        ("HADIR_LIMIT_WRITE_BUFFER_BYTES", "4096"),
        ("HADIR_LIMIT_SOCKETS_PER_CUSTOMER", "1000"),
    ];
    Scenery { settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(), ..Scenery::default() }
}

/// They ask on and on and never read the answers, until every buffer between is full.
pub async fn stalled(stage: &mut Stage) -> Result<Outcome> {
    let address = stage.nodes[0].door.public;
    let mut stalled = JoinSet::new();
    let trial = Trial {
        pong_within: Duration::from_millis(500),
        ..Trial::of("stalled-readers", "customers that stopped reading", "50 sockets that ask and never read")
    };
    let (mut gone, mut closed, mut left) = (None, 0.0, 0);
    let mut outcome = trial
        .run(
            stage,
            async |stage| {
                let before = sockets(stage).await.context("node 0 does not say how many sockets it has")?;
                closed = stalls(stage).await;
                for number in 0..MANY {
                    stalled.spawn(async move {
                        let dial = Dial {
                            address,
                            path: "/ws/availability".to_owned(),
                            role: Some(Role::Customer),
                            first_subject: 0,
                            sockets: 1,
                            at_once: 1,
                            until: Some("availability".to_owned()),
                            online: false,
                        };
                        let Ok((mut socket, _)) = narrow(&dial, 8_000_000 + number).await else { return };
                        while socket.feed(Message::text(r#"{"type":"ping"}"#)).await.is_ok() {
                            tokio::task::yield_now().await;
                        }
                    });
                }
                let began = Instant::now();
                // One by one, as each stalls: the last ones may come when the first are gone.
                let back = async || stalls(stage).await >= closed + MANY as f64;
                gone = until(Duration::from_secs(40), back).await.map(|_| began.elapsed());
                closed = stalls(stage).await - closed;
                left =
                    sockets(stage).await.context("node 0 does not say how many sockets it has")? as i64 - before as i64;
                stalled.shutdown().await;
                Ok(())
            },
            async |_| Ok(()),
        )
        .await?;
    match gone {
        Some(took) => outcome.note(format!("{MANY} stalled readers were let go after {:.1} s", took.as_secs_f64())),
        None => outcome.broken.push(format!("of {MANY} stalled readers {closed} were let go as such")),
    }
    outcome.check(left <= 0, || format!("{left} of their sockets were left"));
    Ok(outcome)
}

/// A socket that takes in little before it is full.
async fn narrow(dial: &Dial, number: u64) -> Result<(socket::Socket, Utf8Bytes)> {
    let stream = TcpSocket::new_v4()?;
    stream.set_recv_buffer_size(4_096)?;
    socket::open_on(stream.connect(dial.address).await?, dial, &Mint::new(), number).await
}

/// A byte of a request now and then, and never the end of it.
pub async fn slow_loris(stage: &mut Stage) -> Result<Outcome> {
    let address = stage.nodes[0].door.public;
    let trial =
        Trial::of("slow-loris", "requests that never end", "200 connections that send a byte every half second");
    let mut ended = JoinSet::new();
    let mut outcome = trial
        .run(
            stage,
            async |_| {
                for _ in 0..MANY * 4 {
                    ended.spawn(async move {
                        let began = Instant::now();
                        let mut stream = TcpStream::connect(address).await.ok()?;
                        for byte in b"GET /ws/availability HTTP/1.1\r\nHost: a.very.slow.client.example\r\nX-Never: " {
                            let mut answer = [0];
                            let closed = matches!(
                                timeout(Duration::from_millis(500), stream.read(&mut answer)).await,
                                Ok(Ok(0) | Err(_))
                            );
                            if closed || stream.write_all(&[*byte]).await.is_err() {
                                return Some(began.elapsed());
                            }
                        }
                        None
                    });
                }
                Ok(())
            },
            async |_| Ok(()),
        )
        .await?;
    let mut longest = Duration::ZERO;
    let mut forever = 0;
    while let Some(one) = ended.join_next().await {
        match one? {
            Some(took) => longest = longest.max(took),
            None => forever += 1,
        }
    }
    outcome.check(forever == 0, || format!("{forever} connections without a request were kept"));
    outcome.within("ending a request that never ends", longest, stage.limit(Duration::from_secs(7)));
    outcome.note(format!("ended after {:.1} s at most", longest.as_secs_f64()));
    Ok(outcome)
}

/// Sockets that node 0 holds; `None` when it does not say.
async fn sockets(stage: &Stage) -> Option<u64> {
    let nodes = stage.nodes[0].door.get("/internal/nodes").await.body;
    nodes["nodes"].as_array()?.iter().find(|node| node["node_id"] == "node-0")?["sockets"].as_u64()
}

/// Readers that node 0 closed because they stalled.
async fn stalls(stage: &Stage) -> f64 {
    stage.nodes[0].door.metric_of("hadir_socket_closes_total", r#"code="4410""#).await.unwrap_or(0.0)
}

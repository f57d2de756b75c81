//! The mirror of a large fleet, checked where a machine ends: every mitra in one Valkey, and simulated nodes that flush their
//! heartbeats as real ones do, each with the server's own mirror client. Sockets and Postgres take no part.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use hadir::{
    domain::{Fence, MitraFacts, MitraId, MitraRow, NodeId},
    mirror::{
        BATCH, Beat, Mirror, MirrorSettings, Write,
        valkey::{ValkeyMirror, ValkeySettings, ValkeyTls},
    },
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::task::TaskTracker;

use crate::{
    bench::Bench,
    kit::{distribution::Distribution, tokens::subject},
    table::{Line, plain},
};

const ROW: &str = "million";
const NODES: usize = 10;
/// As the server's defaults: a beat each 15 s, a flush each second.
const BEAT_SECONDS: usize = 15;
const FLUSH: Duration = Duration::from_secs(1);
/// Calls of one node's loading at the same time.
const LOADERS: usize = 4;

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mitras = bench.fleets().max().unwrap_or_default();
    let valkey = &bench.stores().await?.valkey;
    valkey.raw()?.ask(&[b"FLUSHALL"])?;
    let used = |section, name: &str| -> Result<f64> {
        let info = valkey.raw()?.info(section)?;
        Ok(info.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(f64::NAN))
    };
    let empty = used("memory", "used_memory")?;
    let tracker = TaskTracker::new();
    let mut nodes = Vec::new();
    for node in 0..NODES {
        nodes.push(Arc::new(ValkeyMirror::connect(settings(&valkey.url(), node), &tracker).await?));
    }

    let began = Instant::now();
    load(&nodes[0], mitras).await?;
    nodes[0].open_epoch(0).await?;
    let loaded = began.elapsed().as_secs_f64();
    let per_mitra = (used("memory", "used_memory")? - empty) / mitras as f64;

    let cpu = valkey.usage()?.cpu()?;
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(bench.sizes.idle_seconds);
    let mut beating = JoinSet::new();
    for (node, mirror) in nodes.iter().enumerate() {
        beating.spawn(beat(Arc::clone(mirror), node, mitras, until));
    }
    let (mut calls, mut beats) = (Distribution::new(), 0);
    while let Some(done) = beating.join_next().await {
        let (of_node, delivered) = done??;
        calls.add(&of_node)?;
        beats += delivered;
    }
    let seconds = began.elapsed().as_secs_f64();
    let busy = (valkey.usage()?.cpu()? - cpu).as_secs_f64() / seconds;
    let (counts, _) = nodes[0].counts().await?;
    ensure!(counts.available == mitras as u64, "not everybody is available: {counts:?}");
    for node in &nodes {
        node.close().await;
    }

    let what = |text: &str| format!("{mitras} mitras, {NODES} simulated nodes: {text}");
    Ok(vec![
        Line::alone(ROW, what("loading the mirror, fenced"), "s", loaded),
        Line::alone(ROW, what("Valkey's memory per mitra"), "bytes", per_mitra),
        Line::alone(ROW, what("heartbeats a second"), "/s", beats as f64 / seconds)
            .note(format!("{} calls a second", plain(calls.len() as f64 / seconds))),
        Line::alone(ROW, what("share of one core that Valkey needs for it"), "", busy),
        Line::alone(ROW, what("a batch's round trip, p99"), "ms", calls.ms(0.99))
            .note(format!("p50 {} ms", plain(calls.ms(0.5)))),
    ])
}

fn settings(url: &str, node: usize) -> ValkeySettings {
    ValkeySettings {
        url: url.to_owned(),
        tls: ValkeyTls::default(),
        key_prefix: None,
        command_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        mirror: MirrorSettings {
            suspect_after: Duration::from_secs(3_600),
            snapshot_ttl: Duration::from_secs(10),
            snapshot_window: Duration::from_millis(250),
        },
        store: None,
        node: NodeId::new(&format!("simulated-{node}")),
    }
}

/// Every mitra online, active and free, as a reseed would write it.
async fn load(mirror: &Arc<ValkeyMirror>, mitras: usize) -> Result<()> {
    let mut loading = JoinSet::new();
    for loader in 0..LOADERS {
        let mirror = Arc::clone(mirror);
        loading.spawn(async move {
            for first in (loader * BATCH..mitras).step_by(BATCH * LOADERS) {
                let writes: Vec<Write> = (first..mitras.min(first + BATCH)).map(write).collect();
                mirror.apply(&writes).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = loading.join_next().await {
        done??;
    }
    Ok(())
}

fn id(number: usize) -> MitraId {
    MitraId(subject(number as u64))
}

fn write(number: usize) -> Write {
    let row = MitraRow {
        id: id(number),
        facts: MitraFacts {
            online: true,
            active: true,
            sessions: 0,
            max_sessions: 1,
            fence: Fence { generation: 1, revision: number as i64 + 1 },
            online_epoch: 1,
        },
        heartbeat_age: Some(Duration::ZERO),
    };
    Write { row, heartbeat_age: Some(Duration::ZERO), announce: None }
}

/// One node's mitras beat, a fifteenth of them each second; how long each batch took, and how many beats were delivered.
async fn beat(mirror: Arc<ValkeyMirror>, node: usize, mitras: usize, until: Instant) -> Result<(Distribution, u64)> {
    let share: Vec<MitraId> = (node..mitras).step_by(NODES).map(id).collect();
    let (mut taken, mut delivered, mut next) = (Distribution::new(), 0, 0);
    let mut pace = interval(FLUSH);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The times of a batch are the mirror's own, as a node learns them from every answer.
    let mut at_ms = mirror.tick().await?.now_ms;
    while Instant::now() < until {
        pace.tick().await;
        let due = share.len().div_ceil(BEAT_SECONDS);
        let ids: Vec<MitraId> = (0..due).map(|step| share[(next + step) % share.len()]).collect();
        next += due;
        for ids in ids.chunks(BATCH) {
            let beats: Vec<Beat> = ids.iter().map(|id| Beat { id: *id, online_epoch: 1, at_ms }).collect();
            let began = Instant::now();
            let report = mirror.beat(&beats).await?;
            taken.record(began.elapsed());
            ensure!(report.refused.is_empty(), "heartbeats are refused: {:?}", report.refused.first());
            delivered += ids.len() as u64;
            at_ms = report.pulse.now_ms;
        }
    }
    Ok((taken, delivered))
}

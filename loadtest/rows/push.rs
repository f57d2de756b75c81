//! An any-flip: one mitra goes online and offline in turn, and every watcher is timed from the command's `ack` to its frame.
//! The floor does the same with one `watch` channel.

use anyhow::Result;

use super::memory::bare_watchers;
use crate::{
    bench::Bench,
    fleet::orders::{Order, Report},
    kit::socket::Dial,
    kit::tokens::Role,
    table::{Goal, Line},
    worker::{Fleet, Floor},
};

const ROW: &str = "push";
/// The commander may talk as fast as it can.
const NO_LIMIT: &[(&str, &str)] =
    &[("HADIR_LIMIT_MESSAGES_PER_SECOND", "1000"), ("HADIR_LIMIT_BYTES_PER_SECOND", "100000000")];
const MOST: f64 = 1.25;
/// The commander is mitra 0; watchers have other numbers.
const FIRST_WATCHER: u64 = 1_000;

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let sockets = bench.sizes.sockets;
    let floor = Floor::start(None).await?;
    let mut at_floor = Fleet::start(sockets)?;
    at_floor.dial(&Dial { sockets, ..bare_watchers(&floor) }).await?;
    let bare_flips = Order::Flip {
        address: floor.address,
        path: "/ws/mitra".to_owned(),
        role: None,
        subject: 0,
        rounds: rounds(bench),
    };

    let mut lines = Vec::new();
    for name in ["Valkey", "embedded"] {
        let server =
            if name == "Valkey" { bench.clustered(1, NO_LIMIT).await? } else { bench.embedded(1, NO_LIMIT).await? };
        let mut at_server = Fleet::start(sockets)?;
        at_server.dial(&server.watchers(FIRST_WATCHER, sockets)).await?;
        let (mut bare, mut ours) = (Report::default(), Report::default());
        for _ in 0..bench.sizes.turns {
            bare.join(at_floor.tell(&bare_flips).await?)?;
            let flips = Order::Flip {
                address: server.public,
                path: "/ws/mitra".to_owned(),
                role: Some(Role::Mitra),
                subject: 0,
                rounds: rounds(bench),
            };
            ours.join(at_server.tell(&flips).await?)?;
        }
        at_server.tell(&Order::HangUp).await?;
        server.stop().await?;
        let line = |what: &str, figure: fn(&Report) -> f64| {
            let what = format!("any-flip: from `ack` {what} of {sockets} watchers, {name}");
            Line::alone(ROW, what, "ms", figure(&ours)).beside("bare broadcast", figure(&bare))
        };
        lines.push(line("to the last, p50 over flips", |report| report.last.ms(0.5)));
        lines.push(line("to the last, p99 over flips", |report| report.last.ms(0.99)).goal(Goal::RatioAtMost(MOST)));
        lines.push(line("to each, p99", |report| report.each.ms(0.99)));
        let what = format!("the same from the command to the last, p50, {name}");
        lines.push(Line::alone(ROW, what, "ms", ours.whole.ms(0.5)).beside("bare broadcast", bare.whole.ms(0.5)));
    }
    at_floor.tell(&Order::HangUp).await?;
    Ok(lines)
}

fn rounds(bench: &Bench) -> usize {
    // An even number: the turn ends as it began, offline.
    (bench.sizes.flips / bench.sizes.turns).next_multiple_of(2) + 1
}

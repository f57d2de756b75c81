//! Connections that come, watch and leave, for a long time: memory after the first minute stays where it is.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    bench::Bench,
    fleet::orders::{Churn, Order},
    table::{Goal, Line},
    worker::Fleet,
};

const ROW: &str = "churn";
const STAY_SECONDS: f64 = 1.0;
const LOOK: Duration = Duration::from_millis(250);
const MOST: f64 = 1.05;

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let sizes = bench.sizes;
    let server = bench.embedded(0, &[]).await?;
    let mut fleet = Fleet::start(0)?;
    let mut dial = server.watchers(0, 0);
    dial.at_once = (sizes.churn_rate * STAY_SECONDS * 4.0) as usize;
    let churn = Churn {
        dial,
        per_second: sizes.churn_rate,
        seconds: sizes.churn_seconds,
        stay_seconds: STAY_SECONDS.min(sizes.churn_seconds / 4.0),
    };
    let usage = server.usage;
    let (warm, ends) = (
        Instant::now() + Duration::from_secs_f64(sizes.churn_warm_up_seconds),
        Instant::now() + Duration::from_secs_f64(sizes.churn_seconds),
    );
    // The mean of a while, because a single look depends on how many are on their way in.
    let looking = async {
        sleep_until(warm).await;
        let mut looks = Vec::new();
        while Instant::now() < ends {
            looks.push(usage.rss()? as f64);
            sleep(LOOK).await;
        }
        Ok::<_, anyhow::Error>(looks)
    };
    let order = Order::Churn(churn);
    let (report, looks) = tokio::try_join!(fleet.tell(&order), looking)?;
    server.stop().await?;
    let slice = (looks.len() / 9).max(1);
    let mean = |looks: &[f64]| looks.iter().sum::<f64>() / looks.len() as f64 / 1e6;
    let first = looks.chunks(slice).next().map_or(f64::NAN, mean);
    let most = looks.chunks(slice).map(mean).fold(f64::NAN, f64::max);
    let note = format!(
        "{} connections, {:.0} a second, p99 of a connect {:.1} ms",
        report.done,
        report.rate(),
        report.each.ms(0.99)
    );
    let what = format!("memory over {} s of churn: the highest minute", sizes.churn_seconds);
    Ok(vec![
        Line::alone(ROW, what, "MB", most)
            .beside("the first after the warm-up", first)
            .goal(Goal::RatioAtMost(MOST))
            .note(note),
    ])
}

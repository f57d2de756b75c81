//! A fleet: thousands of client sockets in one process, told what to do by lines of JSON on standard input and answering with
//! one each. More sockets than a process may have descriptors are several fleets; `worker` starts them.

mod dials;
mod life;
pub mod orders;
mod rest;

use std::{
    io::Write,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use self::{
    life::{Phase, Shared, live},
    orders::{Churn, Order, Report},
};
use crate::kit::{
    socket::{self, Dial},
    tokens::{Mint, Role, subject},
};

/// For everything that is awaited of a server; not a figure, only a bound.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before hard pinging is counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// Between flips, so that one is over when the next begins.
const BETWEEN_FLIPS: Duration = Duration::from_millis(20);

struct Fleet {
    shared: Arc<Shared>,
    mint: Arc<Mint>,
    sockets: JoinSet<()>,
    slots: usize,
}

/// Does what it is told until standard input ends.
///
/// # Errors
/// An order cannot be understood.
pub async fn run(sockets: usize) -> Result<()> {
    let mut fleet =
        Fleet { shared: Shared::new(sockets), mint: Arc::new(Mint::new()), sockets: JoinSet::new(), slots: 0 };
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = orders.next_line().await? {
        let order: Order = serde_json::from_str(&line).context("an order")?;
        let report = fleet.follow(order).await.unwrap_or_else(|error| Report {
            failed: 1,
            first_failure: Some(format!("{error:#}")),
            ..Report::default()
        });
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        out.flush()?;
    }
    Ok(())
}

impl Fleet {
    async fn follow(&mut self, order: Order) -> Result<Report> {
        match order {
            Order::Dial(dial) => self.dial(dial).await,
            Order::PingOnce => self.ping_once().await,
            Order::PingHard { seconds } => Ok(self.ping_hard(Duration::from_secs_f64(seconds)).await),
            Order::Beat { every_seconds } => {
                self.shared.phase.send_replace(Phase::Beat(Duration::from_secs_f64(every_seconds)));
                Ok(self.shared.report(Instant::now()))
            }
            Order::Flip { address, path, role, subject, rounds } => {
                let dial = Dial {
                    address,
                    path,
                    role,
                    first_subject: subject,
                    sockets: 1,
                    at_once: 1,
                    until: None,
                    online: false,
                };
                self.flip(dial, rounds).await
            }
            Order::Watch { seconds } => {
                let began = Instant::now();
                self.shared.take_frames();
                sleep(Duration::from_secs_f64(seconds)).await;
                let (done, most) = self.shared.take_frames();
                Ok(Report { done, most, ..self.shared.report(began) })
            }
            Order::Churn(churn) => self.churn(churn).await,
            Order::Ask(ask) => {
                let token = ask.role.map(|role: Role| self.mint.token(subject(0), role)).transpose()?;
                rest::ask(ask, token).await
            }
            Order::HangUp => {
                let began = Instant::now();
                self.shared.phase.send_replace(Phase::HangUp);
                while self.sockets.join_next().await.is_some() {}
                self.shared.phase.send_replace(Phase::Idle);
                Ok(self.shared.report(began))
            }
        }
    }

    async fn dial(&mut self, dial: Dial) -> Result<Report> {
        let began = Instant::now();
        let gate = Arc::new(Semaphore::new(dial.at_once));
        let dial = Arc::new(dial);
        let (opened, mut all_opened) = tokio::sync::mpsc::channel::<()>(1);
        for number in 0..dial.sockets {
            let (dial, gate, shared, mint) =
                (Arc::clone(&dial), Arc::clone(&gate), Arc::clone(&self.shared), Arc::clone(&self.mint));
            let (slot, opened) = (self.slots + number, opened.clone());
            self.sockets.spawn(async move {
                // Boxed: what dialling needs is freed when the socket stands.
                let dialled = Box::pin(async {
                    let _permit = gate.acquire().await;
                    let began = Instant::now();
                    let subject = dial.first_subject + number as u64;
                    match socket::open(&dial, &mint, subject).await {
                        Ok(socket) => {
                            shared.record(slot, began.elapsed().as_nanos() as u64);
                            Some(socket)
                        }
                        Err(error) => {
                            shared.fail(|| format!("{error:#}"));
                            None
                        }
                    }
                })
                .await;
                drop((dial, gate, mint));
                let Some((socket, first)) = dialled else { return };
                shared.open.fetch_add(1, Relaxed);
                drop(opened);
                live(socket, slot, shared, first).await;
            });
        }
        drop(opened);
        // Ends when every task has let go of its end.
        let _nothing = all_opened.recv().await;
        self.slots += dial.sockets;
        Ok(self.shared.report(began))
    }

    async fn ping_once(&mut self) -> Result<Report> {
        let began = Instant::now();
        self.shared.await_all();
        self.shared.phase.send_replace(Phase::PingOnce);
        let reached = self.shared.all_reached(PATIENCE).await;
        self.shared.phase.send_replace(Phase::Idle);
        reached?;
        Ok(self.shared.report(began))
    }

    async fn ping_hard(&mut self, duration: Duration) -> Report {
        self.shared.phase.send_replace(Phase::PingHard);
        sleep(WARM_UP).await;
        drop(self.shared.report(Instant::now()));
        let began = Instant::now();
        sleep(duration).await;
        let report = self.shared.report(began);
        self.shared.phase.send_replace(Phase::Idle);
        // The last pongs are on their way.
        sleep(WARM_UP).await;
        drop(self.shared.report(Instant::now()));
        report
    }

    /// The commander has a thread of its own, so that it hears its `ack` when it comes, and not behind ten thousand
    /// watchers.
    async fn flip(&mut self, dial: Dial, rounds: usize) -> Result<Report> {
        let (shared, mint) = (Arc::clone(&self.shared), Arc::clone(&self.mint));
        let flips = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(flips(&dial, &mint, &shared, rounds))
        });
        tokio::task::spawn_blocking(|| flips.join()).await?.map_err(|_| anyhow::anyhow!("the commander panicked"))?
    }

    async fn churn(&mut self, churn: Churn) -> Result<Report> {
        let began = Instant::now();
        let gate = Arc::new(Semaphore::new(churn.dial.at_once));
        let stay = Duration::from_secs_f64(churn.stay_seconds);
        let dial = Arc::new(churn.dial);
        let mut pace = interval(Duration::from_secs_f64(1.0 / churn.per_second));
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut visits, mut number) = (JoinSet::new(), dial.first_subject);
        while began.elapsed().as_secs_f64() < churn.seconds {
            pace.tick().await;
            while visits.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&gate).try_acquire_owned() else {
                self.shared.fail(|| "more connections at once than allowed: the server is behind".to_owned());
                continue;
            };
            number += 1;
            let (dial, shared, mint) = (Arc::clone(&dial), Arc::clone(&self.shared), Arc::clone(&self.mint));
            visits.spawn(async move {
                let began = Instant::now();
                match socket::open(&dial, &mint, number).await {
                    Ok((mut socket, _)) => {
                        shared.record(number as usize, began.elapsed().as_nanos() as u64);
                        sleep(stay).await;
                        socket::leave(&mut socket).await;
                    }
                    Err(error) => shared.fail(|| format!("{error:#}")),
                }
                drop(permit);
            });
        }
        while visits.join_next().await.is_some() {}
        Ok(self.shared.report(began))
    }
}

async fn flips(dial: &Dial, mint: &Mint, shared: &Shared, rounds: usize) -> Result<Report> {
    let began = Instant::now();
    let (mut commander, _) = socket::open(dial, mint, dial.first_subject).await?;
    let mut report = Report::default();
    for round in 0..=rounds {
        shared.await_all();
        let name = if round % 2 == 0 { "online" } else { "offline" };
        let sent = shared.now();
        socket::command(&mut commander, name).await?;
        let acknowledged = shared.now();
        shared.all_reached(PATIENCE).await?;
        // The first one warms up.
        if round > 0 {
            let mut last = 0;
            for at in shared.arrivals() {
                report.each.record_ns(at.saturating_sub(acknowledged));
                last = last.max(at);
            }
            report.last.record_ns(last.saturating_sub(acknowledged));
            report.whole.record_ns(last.saturating_sub(sent));
        }
        sleep(BETWEEN_FLIPS).await;
    }
    socket::leave(&mut commander).await;
    let lost = shared.report(began);
    report.seconds = began.elapsed().as_secs_f64();
    (report.failed, report.first_failure, report.open) = (lost.failed, lost.first_failure, lost.open);
    report.done = rounds as u64;
    Ok(report)
}

//! What happens in most rows: a fault comes, is noticed, somebody is deactivated and somebody falls silent while it lasts, it
//! goes, and then everything must be right again. Everything that is promised is held against what was seen.

use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    kit::{distribution::Distribution, tokens::subject},
    outcome::{Outcome, seconds},
    stage::{MIRROR_INTERVAL, OFFLINE_AFTER, PATIENCE, SUSPECT, Stage, until},
    suspects::Suspect,
};

/// The first sign of a fault.
#[derive(Clone, Copy, Debug)]
pub enum Detect {
    /// These nodes enter a mode.
    Mode(&'static str, &'static [usize]),
    /// Customers see a new epoch.
    Epoch,
    /// Commands are refused as `unavailable`.
    Refusal,
    /// There is none, and need not be.
    Nothing,
}

/// By whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deactivated {
    /// By REST at this node.
    At(usize),
    /// By plain SQL of another program.
    BySql,
    /// It cannot be: the store is away.
    Not,
}

/// How a node answers while the fault lasts.
#[derive(Clone, Copy, Debug)]
pub struct Answers {
    pub mode: &'static str,
    pub source: &'static str,
    pub stale: bool,
}

/// From the live mirror, as always.
pub const LIVE: Answers = Answers { mode: "live", source: "valkey", stale: false };
/// From PostgreSQL.
pub const FALLBACK: Answers = Answers { mode: "fallback", source: "postgres", stale: false };
/// Whatever was known last.
pub const STALE: Answers = Answers { mode: "stale", source: "local", stale: true };

/// What a row expects.
#[derive(Clone, Debug)]
pub struct Trial {
    pub row: &'static str,
    pub fault: &'static str,
    pub injected: &'static str,
    pub detect: Detect,
    pub detect_within: Duration,
    /// How each node answers at the end of the fault; `None`: not judged.
    pub answers: [Option<Answers>; 2],
    /// How somebody is deactivated while it lasts.
    pub deactivated: Deactivated,
    /// For how long a deactivated mitra's sockets may live and it may be shown.
    pub refused_within: Duration,
    /// For how long a mitra that fell silent may be shown.
    pub silent_within: Option<Duration>,
    /// No socket of a mitra ends.
    pub sockets_stay: bool,
    /// From the end of the fault until everything is right.
    pub truth_within: Duration,
    /// The nodes' processes are the same before and after.
    pub nodes_stay: bool,
    /// The slowest answer while it lasts.
    pub answer_within: Duration,
    /// The mode may not change while it lasts.
    pub steady: bool,
    /// Everybody who beats is counted in every frame.
    pub count_holds: bool,
    /// The slowest pong of a hundred.
    pub pong_within: Duration,
    /// Every question is answered; of the nodes that are judged.
    pub answers_hold: bool,
}

impl Trial {
    /// A fault that nobody feels but Valkey: its rows change what differs.
    pub fn of(row: &'static str, fault: &'static str, injected: &'static str) -> Self {
        Self {
            row,
            fault,
            injected,
            detect: Detect::Nothing,
            detect_within: Duration::from_secs(2),
            answers: [Some(LIVE), Some(LIVE)],
            deactivated: Deactivated::At(0),
            refused_within: Duration::from_secs(1),
            silent_within: Some(SUSPECT + Duration::from_millis(1_500)),
            sockets_stay: true,
            truth_within: Duration::from_secs(5),
            nodes_stay: true,
            answer_within: Duration::from_millis(800),
            steady: false,
            count_holds: true,
            pong_within: Duration::from_millis(150),
            answers_hold: true,
        }
    }

    /// Both nodes lose the mirror.
    pub fn mirror_away(row: &'static str, fault: &'static str, injected: &'static str) -> Self {
        Self {
            detect: Detect::Mode("fallback", &[0, 1]),
            answers: [Some(FALLBACK), Some(FALLBACK)],
            // Freshness in the store is judged with the cadence added, and counted every second.
            silent_within: Some(SUSPECT + MIRROR_INTERVAL + Duration::from_secs(2)),
            ..Self::of(row, fault, injected)
        }
    }

    /// The store is away, the mirror is not.
    pub fn store_away(row: &'static str, fault: &'static str, injected: &'static str) -> Self {
        Self {
            detect: Detect::Refusal,
            // An answer of PostgreSQL is waited for as long as its deadlines say.
            detect_within: Duration::from_secs(5),
            deactivated: Deactivated::Not,
            ..Self::of(row, fault, injected)
        }
    }

    /// Goes through with it.
    ///
    /// # Errors
    /// The row could not be carried out. A broken promise is no error: the outcome says so.
    pub async fn run(
        self,
        stage: &mut Stage,
        inject: impl AsyncFnOnce(&mut Stage) -> Result<()>,
        heal: impl AsyncFnOnce(&mut Stage) -> Result<()>,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::of(self.row, self.fault, self.injected);
        let doors = stage.doors();
        let before = Used::by(stage).await?;
        let banned = Suspect::watch(stage.banned(), &doors, true);
        let calm = stage.journal.take_pings();
        let queries = queries(stage).await;

        let began = Instant::now();
        stage.mortal.fall_silent();
        let silent = Suspect::watch(stage.mortal.number, &doors, false);
        inject(stage).await?;
        let injected = Instant::now();
        self.detect(stage, injected, &mut outcome).await;

        let mut condemned = None;
        let acknowledged = match self.deactivated {
            Deactivated::At(node) => Some(stage.deactivate(stage.condemned(), node).await?),
            Deactivated::BySql => Some(stage.deactivate_by_sql(stage.condemned()).await?),
            Deactivated::Not => None,
        };
        if let Some(acknowledged) = acknowledged {
            condemned = Some((Suspect::watch(stage.condemned(), &doors, true), acknowledged));
            self.closed(stage, acknowledged, &mut outcome).await;
        }

        // Beyond the offline time and some sweeps, so that whatever wrongly counts as silence has its effect.
        let hold = OFFLINE_AFTER + SUSPECT + Duration::from_secs(if stage.short { 0 } else { 3 });
        sleep(hold.saturating_sub(injected.elapsed())).await;
        self.answered(stage, injected, &mut outcome).await;
        let meanwhile = stage.journal.take_pings();
        let questions = queries_since(stage, queries).await / began.elapsed().as_secs_f64();
        outcome.note(format!("{questions:.0} questions a second to PostgreSQL, both nodes together"));
        let lost = stage.journal.lost_since(began);
        outcome.check(!self.sockets_stay || lost.is_empty(), || {
            format!("{} sockets ended: {:?}", lost.len(), lost.first())
        });
        if self.steady {
            let changes: usize = (0..2).map(|node| stage.journal.mode_changes(node, injected)).sum();
            outcome.check(changes == 0, || format!("the mode changed {changes} times"));
        }

        heal(stage).await?;
        let healed = Instant::now();
        outcome.truth = self.truth(stage, healed, &mut outcome).await.map(seconds);
        self.settled(stage, &mut outcome).await?;
        let late = Duration::from_secs_f64(meanwhile.ms(0.99) / 1e3);
        outcome.within("the slowest of a hundred pongs", late, stage.limit(self.pong_within));
        pings(&calm, &meanwhile, &mut outcome);
        self.shown(stage, &banned, condemned, &silent, began, &mut outcome);
        self.judged(stage, began, &mut outcome).await?;
        if self.nodes_stay {
            before.compare(stage, &mut outcome).await?;
        }
        Ok(outcome)
    }

    async fn detect(&self, stage: &Stage, injected: Instant, outcome: &mut Outcome) {
        let detected = match self.detect {
            Detect::Nothing => return,
            Detect::Mode(mode, nodes) => {
                let entered = async || nodes.iter().all(|node| stage.journal.entered(*node, mode, injected).is_some());
                until(PATIENCE / 2, entered).await.and_then(|_| {
                    let each = nodes.iter().filter_map(|node| stage.journal.entered(*node, mode, injected));
                    each.max().map(|at| at.saturating_duration_since(injected))
                })
            }
            Detect::Epoch => {
                let old = stage.journal.newest(0).map(|frame| frame.epoch);
                let new = async || stage.journal.newest(0).map(|frame| frame.epoch) != old;
                until(PATIENCE / 2, new).await
            }
            Detect::Refusal => {
                let path = format!("/internal/mitras/{}", subject(stage.spare()));
                let refused = async || {
                    let body = json!({ "display_name": "Spare" });
                    let reply = stage.nodes[0].door.ask(Method::PUT, &path, Some(body)).await;
                    reply.status == 503 && reply.body["code"] == "unavailable"
                };
                until(PATIENCE / 2, refused).await
            }
        };
        outcome.detect = detected.map(seconds);
        match detected {
            Some(took) => outcome.within("to notice", took, stage.limit(self.detect_within)),
            None => outcome.broken.push("the fault was not noticed".to_owned()),
        }
    }

    /// The sockets of a deactivated mitra are closed on both nodes.
    async fn closed(&self, stage: &Stage, acknowledged: Instant, outcome: &mut Outcome) {
        let closed = |mitra: &crate::fleet::Mitra| {
            let seen = mitra.seen();
            seen.closed.iter().find(|(_, code, _)| *code == 4_503).map(|(at, _, _)| *at)
        };
        let all = async || stage.doomed.iter().all(|mitra| closed(mitra).is_some());
        let _waited = until(stage.limit(self.refused_within) + Duration::from_secs(10), all).await;
        match stage.doomed.iter().map(closed).collect::<Option<Vec<_>>>() {
            Some(at) => {
                let last = at.into_iter().max().unwrap_or(acknowledged).saturating_duration_since(acknowledged);
                outcome.within("closing a deactivated mitra's sockets", last, stage.limit(self.refused_within));
                outcome
                    .note(format!("its sockets closed on both nodes {:.2} s after a deactivation", last.as_secs_f64()));
            }
            None => outcome.broken.push("a deactivated mitra's sockets were not closed on both nodes".to_owned()),
        }
    }

    /// Mode and source of each node, and how long answers took.
    async fn answered(&self, stage: &Stage, injected: Instant, outcome: &mut Outcome) {
        for (node, expected) in self.answers.iter().enumerate() {
            let Some(expected) = expected else { continue };
            let right = async || {
                let (mode, frame) = (stage.nodes[node].door.mode().await, stage.journal.newest(node));
                mode.as_deref() == Some(expected.mode)
                    && frame.is_some_and(|frame| frame.source == expected.source && frame.stale == expected.stale)
            };
            // Where a fault flickers, the mode may be looked at in between.
            if until(Duration::from_secs(2), right).await.is_none() {
                let (mode, frame) = (stage.nodes[node].door.mode().await, stage.journal.newest(node));
                let seen = frame.map(|frame| (frame.source, frame.stale));
                outcome.broken.push(format!("node {node} is {mode:?} and answers {seen:?}; expected {expected:?}"));
            }
        }
        let looked = Instant::now();
        let judged = self.answers.iter().enumerate().filter(|(_, expected)| expected.is_some());
        let deaf = judged.map(|(node, _)| stage.journal.dashboard_silence(node, injected, looked)).max();
        if let Some(deaf) = deaf {
            outcome.within("the longest silence of a dashboard", deaf, stage.limit(Duration::from_secs(6)));
        }
        let asked = stage.journal.asked_between(injected, looked);
        let slowest = asked.iter().map(|asked| asked.took).max().unwrap_or_default();
        outcome.within("the slowest answer", slowest, stage.limit(self.answer_within));
        let mut late = Distribution::new();
        asked.iter().for_each(|asked| late.record(asked.took));
        let failed = asked.iter().filter(|asked| asked.status != 200).count();
        outcome.note(format!(
            "{} questions of a backend and a customer: p50 {:.1} ms, p99 {:.0} ms, slowest {:.0} ms, {failed} failed",
            asked.len(),
            late.ms(0.5),
            late.ms(0.99),
            slowest.as_secs_f64() * 1e3,
        ));
        if let (Detect::Mode(..), Some(detected)) = (self.detect, outcome.detect) {
            let mut after = Distribution::new();
            let noticed = injected + Duration::from_secs_f64(detected);
            asked.iter().filter(|asked| asked.at >= noticed).for_each(|asked| after.record(asked.took));
            outcome.note(format!("once it was noticed: p50 {:.1} ms, p99 {:.0} ms", after.ms(0.5), after.ms(0.99)));
        }
        outcome.check(!self.answers_hold || failed == 0, || format!("{failed} of {} questions failed", asked.len()));
        let empty = asked.iter().filter(|asked| asked.status == 200 && asked.total == Some(0) && !asked.stale).count();
        outcome.check(empty == 0, || format!("{empty} answers said that nobody is there"));
        let lying = asked.iter().filter(|asked| asked.status == 200 && asked.source.is_empty()).count();
        outcome.check(lying == 0, || format!("{lying} answers did not say where they came from"));
    }

    /// Both nodes are live, the mirror equals the store, and everybody is shown what is true.
    async fn truth(&self, stage: &Stage, healed: Instant, outcome: &mut Outcome) -> Option<Duration> {
        let mut last = Vec::new();
        let right = until(PATIENCE, async || {
            last = stage.is_true().await;
            let live = (0..2).all(|node| stage.journal.mode_of(node).as_deref() == Some("live"));
            last.is_empty()
                && live
                && (0..2).all(|node| stage.journal.newest(node).is_some_and(|frame| frame.source == "valkey"))
        })
        .await;
        match right {
            Some(_) => {
                let took = healed.elapsed();
                outcome.within("until everything was right again", took, stage.limit(self.truth_within));
                Some(took)
            }
            None => {
                let modes = [stage.journal.mode_of(0), stage.journal.mode_of(1)];
                outcome.broken.push(format!("it did not come right: {modes:?}, {last:?}"));
                None
            }
        }
    }

    /// Sweeping goes on: the one that fell silent is taken offline, and nobody else.
    async fn settled(&self, stage: &Stage, outcome: &mut Outcome) -> Result<()> {
        let mortal = stage.mortal.number;
        let swept = async || stage.taken_offline().await.is_ok_and(|taken| taken.contains(&mortal));
        if until(PATIENCE, swept).await.is_none() {
            outcome.broken.push("a silent mitra was never taken offline".to_owned());
        }
        // As long again as it takes to be taken for silent, and the sweep after it.
        sleep(OFFLINE_AFTER + Duration::from_secs(1)).await;
        let fleet = stage.fleet.len() as u64 + u64::from(self.deactivated == Deactivated::Not);
        let shown = async || {
            let right = |node: usize| stage.journal.newest(node).is_some_and(|frame| frame.available == fleet);
            right(0) && right(1) && stage.online().await.is_ok_and(|online| online == fleet)
        };
        if until(Duration::from_secs(10), shown).await.is_none() {
            let shown = [0, 1].map(|node| stage.journal.newest(node).map(|frame| frame.available));
            outcome.broken.push(format!("{shown:?} are shown, {} are online, {fleet} beat", stage.online().await?));
        }
        let differences = stage.is_true().await;
        outcome.check(differences.is_empty(), || format!("at rest the mirror differs: {differences:?}"));
        Ok(())
    }

    fn shown(
        &self,
        stage: &Stage,
        banned: &Suspect,
        condemned: Option<(Suspect, Instant)>,
        silent: &Suspect,
        began: Instant,
        outcome: &mut Outcome,
    ) {
        let of_banned = banned.shown_after(began).max(banned.accepted_after(began));
        outcome.check(of_banned.is_zero(), || {
            "a mitra deactivated long before was shown, or its heartbeat taken".to_owned()
        });
        let refused: u64 = banned.said().refused.iter().sum();
        outcome.check(refused > 0, || "a deactivated mitra's heartbeat was never refused as such".to_owned());
        if let Some((suspect, acknowledged)) = condemned {
            let ghost = suspect.shown_after(acknowledged).max(suspect.accepted_after(acknowledged));
            outcome.ghost_deactivated = Some(seconds(ghost));
            outcome.within("hiding and refusing a deactivated mitra", ghost, self.refused_within);
            let said = suspect.said();
            outcome.check(said.refused.iter().all(|refused| *refused > 0), || {
                format!("its heartbeats were not refused on both nodes: {said:?}")
            });
        }
        let ghost = silent.shown_after(began);
        outcome.ghost_silent = Some(seconds(ghost));
        if let Some(limit) = self.silent_within {
            outcome.within("hiding a silent mitra", ghost, limit);
        }
        // Nor too soon. It had last beaten before it was made silent, and is looked at a few times a second.
        let heard = stage.mortal.seen().heard.map_or(Duration::ZERO, |at| began.saturating_duration_since(at));
        let least = SUSPECT.saturating_sub(heard + Duration::from_millis(500));
        // Where neither store answers, nothing is claimed of anybody.
        let claimed = self.answers.iter().flatten().all(|answers| !answers.stale);
        outcome.check(!claimed || ghost >= least, || {
            format!("a silent mitra was hidden after {ghost:.1?}, {heard:.1?} after its last beat")
        });
    }

    async fn judged(&self, stage: &Stage, began: Instant, outcome: &mut Outcome) -> Result<()> {
        let least = stage.journal.frames_since(began).iter().map(|frame| frame.available).min().unwrap_or(0);
        let fleet = stage.fleet.len() as u64;
        outcome.note(format!("never fewer than {least} shown, {fleet} beat"));
        outcome.check(!self.count_holds || least >= fleet, || format!("only {least} of {fleet} that beat were shown"));
        verdict(stage, began, outcome).await
    }
}

/// Nobody who beat was taken offline, no customer was told that nobody is there, nothing went back, no log holds a secret.
///
/// # Errors
/// The store does not answer.
pub async fn verdict(stage: &Stage, began: Instant, outcome: &mut Outcome) -> Result<()> {
    let gaps = |number: u64| stage.fleet.iter().find(|mitra| mitra.number == number).map(|mitra| mitra.longest_gap());
    let taken = stage.taken_offline().await?;
    // Whoever went unheard for the offline time, whatever the reason, is not one that beat all the time.
    let wrong: Vec<u64> =
        taken.iter().copied().filter(|number| gaps(*number).is_some_and(|gap| gap < OFFLINE_AFTER)).collect();
    outcome.wrong_offline = wrong.len() as u64;
    outcome.check(wrong.is_empty(), || format!("{} mitras that beat were taken offline", wrong.len()));
    let silent = stage.fleet.iter().filter(|mitra| mitra.longest_gap() >= OFFLINE_AFTER).count();
    outcome.check(silent == 0, || format!("{silent} mitras could not be heard for the offline time"));
    let longest = stage.fleet.iter().map(crate::fleet::Mitra::longest_gap).max().unwrap_or_default();
    outcome.note(format!("longest time between two heartbeats of anybody: {:.1} s", longest.as_secs_f64()));
    let frames = stage.journal.frames_since(began);
    let empty = frames.iter().filter(|frame| !frame.any).count();
    outcome.false_empty = empty as u64;
    outcome.check(empty == 0, || format!("{empty} frames said that nobody is there"));
    let back = stage.journal.went_back();
    outcome.check(back.is_empty(), || format!("versions went back: {:?}", back.first()));
    let log = stage.logs();
    outcome.check(!log.contains("panicked"), || "a node panicked".to_owned());
    let secrets = [crate::kit::tokens::SECRET, crate::rows::PASSWORD];
    outcome.check(!secrets.iter().any(|secret| log.contains(secret)), || "a secret is in a log".to_owned());
    Ok(())
}

/// Questions to the store so far, per node; 0 for one that does not answer.
async fn queries(stage: &Stage) -> [f64; 2] {
    let of = async |node: usize| stage.nodes[node].door.metric("hadir_store_queries_total").await.unwrap_or(0.0);
    [of(0).await, of(1).await]
}

async fn queries_since(stage: &Stage, before: [f64; 2]) -> f64 {
    let now = queries(stage).await;
    // One that was started anew counts from nothing.
    now.iter().zip(before).map(|(now, before)| if *now < before { *now } else { now - before }).sum()
}

fn pings(calm: &Distribution, meanwhile: &Distribution, outcome: &mut Outcome) {
    outcome.note(format!(
        "pings: p99 {:.0} ms before, {:.0} ms while it lasted ({} of them)",
        calm.ms(0.99),
        meanwhile.ms(0.99),
        meanwhile.len(),
    ));
}

/// What the nodes held before the fault.
struct Used(Vec<(u64, u64)>);

/// Descriptors that pools may hold more or less of.
const POOLED: u64 = 16;
/// Memory that a heap may keep.
const KEPT_BYTES: u64 = 32 << 20;

impl Used {
    async fn by(stage: &Stage) -> Result<Self> {
        let of = |node: &crate::node::Node| {
            let usage = node.usage()?;
            Ok((usage.descriptors()?, usage.rss()?))
        };
        Ok(Self(stage.nodes.iter().map(of).collect::<Result<_>>()?))
    }

    async fn compare(&self, stage: &Stage, outcome: &mut Outcome) -> Result<()> {
        // Of both together: sockets may have moved from one to the other.
        let before: u64 = self.0.iter().map(|(descriptors, _)| descriptors).sum();
        let open = || stage.nodes.iter().map(|node| node.usage()?.descriptors()).sum::<Result<u64>>();
        let back = async || open().is_ok_and(|now| now <= before + POOLED);
        if until(Duration::from_secs(10), back).await.is_none() {
            outcome.broken.push(format!("{} descriptors, {before} before", open()?));
        }
        for (node, (_, memory)) in stage.nodes.iter().zip(&self.0) {
            let now = node.usage()?.rss()?;
            outcome.check(now <= memory + KEPT_BYTES, || format!("{now} bytes of memory, {memory} before"));
        }
        Ok(())
    }
}

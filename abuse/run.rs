//! The run: one server, its residents, and one attack after the other.

use std::{process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};

use crate::{
    arguments::Run,
    attacks::{self, Attack},
    kit::{
        server::{self, Backend, Server},
        tokens::Mint,
    },
    newcomers::{Newcomers, is_ready},
    outcome::{Outcome, Resources},
    residents::{Residents, mitra_dial},
    table::Table,
    tally::Tally,
};

/// How much of everything.
struct Sizes {
    /// Connections, as a share of each attack's full size.
    share: f64,
    attack_seconds: f64,
    /// How long figures are taken before and after it.
    calm_seconds: f64,
}

const FULL: Sizes = Sizes { share: 1.0, attack_seconds: 8.0, calm_seconds: 4.0 };
const SHORT: Sizes = Sizes { share: 0.25, attack_seconds: 1.5, calm_seconds: 0.5 };

const RESIDENTS: u64 = 200;
/// Mitras beyond the residents, for attackers and newcomers.
const OTHERS: u64 = 2_000;
const SAMPLE: Duration = Duration::from_millis(100);
/// For everything that is awaited; no figure, only a bound.
const PATIENCE: Duration = Duration::from_secs(120);
/// Descriptors that the suite's own newcomer and readiness check may hold at a moment.
const OWN_DESCRIPTORS: u64 = 8;
/// No attack may make the server hold more than this above what it held before.
const MEMORY_BOUND_MIB: f64 = 128.0;
const MIB: f64 = (1 << 20) as f64;

/// Runs the attacks, prints each line as it comes and writes the table. `false` when one did harm.
///
/// # Errors
/// Something does not work.
pub async fn run(run: Run) -> Result<bool> {
    if run.list {
        attacks::ALL.iter().for_each(|attack| println!("{:22} {}", attack.name, attack.what));
        return Ok(true);
    }
    if let Some(unknown) = run.attacks.iter().find(|name| attacks::named(name).is_none()) {
        bail!("there is no attack {unknown}; --list names them");
    }
    let binary = match run.server {
        Some(path) => path.canonicalize().with_context(|| format!("{} is not there", path.display()))?,
        None => tokio::task::spawn_blocking(|| server::release_binary("abuse")).await??,
    };
    let server = Server::start(&binary, Backend::Embedded, RESIDENTS + OTHERS, &[]).await?;
    let suite = Suite::open(server, if run.short { &SHORT } else { &FULL }).await?;
    let mut table = Table::new(run.short);
    let wanted = |attack: &&Attack| run.attacks.is_empty() || run.attacks.iter().any(|name| name == attack.name);
    for attack in attacks::ALL.iter().filter(wanted) {
        let outcome = suite.endure(attack).await.with_context(|| format!("attack {}", attack.name))?;
        let harm = if outcome.broken.is_empty() { "no harm".to_owned() } else { outcome.broken.join("; ") };
        eprintln!("{}: {harm}", attack.name);
        table.attacks.push(outcome);
        // After each attack, so that what is measured survives what comes.
        table.write(&run.out)?;
    }
    println!("{}", table.markdown());
    let harmless = table.attacks.iter().all(|outcome| outcome.broken.is_empty());
    if !harmless {
        eprintln!("{}", suite.server.log());
    }
    suite.close().await?;
    eprintln!("written to {}", run.out.display());
    Ok(harmless)
}

struct Suite {
    server: Server,
    residents: Residents,
    newcomers: Newcomers,
    sizes: &'static Sizes,
}

/// Figures of a stretch of time.
struct Stretch {
    most: Resources,
    cpu_percent: f64,
}

impl Suite {
    async fn open(server: Server, sizes: &'static Sizes) -> Result<Self> {
        let mint = Arc::new(Mint::new());
        let residents = Residents::open(&server, &mint, RESIDENTS).await?;
        let newcomers = Newcomers::start(mitra_dial(&server, false), mint, RESIDENTS + OTHERS - 1);
        Ok(Self { server, residents, newcomers, sizes })
    }

    async fn close(self) -> Result<()> {
        drop((self.residents, self.newcomers));
        self.server.stop().await
    }

    async fn endure(&self, attack: &Attack) -> Result<Outcome> {
        let mut outcome =
            Outcome { attack: attack.name.to_owned(), what: attack.what.to_owned(), ..Outcome::default() };
        let calm = Duration::from_secs_f64(self.sizes.calm_seconds);
        self.forget();
        let before = self.watch(sleep(calm)).await?.1;
        outcome.ping_p99_ms.before = self.residents.report().pongs.ms(0.99);
        self.forget();

        let (tally, during) = self.watch(self.attack(attack)).await?;
        outcome.tally = tally?;
        let (residents, newcomers) = (self.residents.report(), self.newcomers.report());
        outcome.ping_p99_ms.during = residents.pongs.ms(0.99);
        outcome.newcomer_ms = newcomers.opened.ms(1.0);
        let ready = is_ready(self.server.public).await;
        outcome.check(matches!(ready, Ok(true)), || format!("/readyz: {ready:?}"));

        let held = self.released(before.most.descriptors).await?;
        self.forget();
        let after = self.watch(sleep(calm)).await?.1;
        outcome.ping_p99_ms.after = self.residents.report().pongs.ms(0.99);
        outcome.resources.before = before.most;
        outcome.resources.during = during.most;
        outcome.resources.after = Resources { descriptors: held, ..after.most };
        outcome.cpu_percent.before = before.cpu_percent;
        outcome.cpu_percent.during = during.cpu_percent;
        outcome.cpu_percent.after = after.cpu_percent;

        let (lost, why) = (residents.lost, residents.why);
        outcome.check(lost == 0, || format!("{lost} of {RESIDENTS} residents were closed: {why:?}"));
        let (kept_out, why) = (newcomers.kept_out, newcomers.why);
        outcome.check(kept_out == 0, || format!("{kept_out} newcomers were kept out: {why:?}"));
        let most = before.most.descriptors + OWN_DESCRIPTORS;
        outcome.check(held <= most, || format!("{held} descriptors are still open; {most} may be"));
        let grown = during.most.rss_mib - before.most.rss_mib;
        outcome.check(grown <= MEMORY_BOUND_MIB, || format!("memory grew by {grown:.0} MiB"));
        Ok(outcome)
    }

    /// What residents and newcomers saw until now does not count.
    fn forget(&self) {
        let _forgotten = (self.residents.report(), self.newcomers.report());
    }

    /// Runs the attack in a process of its own.
    async fn attack(&self, attack: &Attack) -> Result<Tally> {
        let arguments = [
            "attacker".to_owned(),
            format!("--attack={}", attack.name),
            format!("--address={}", self.server.public),
            format!("--seconds={}", self.sizes.attack_seconds),
            format!("--share={}", self.sizes.share),
            format!("--first-subject={RESIDENTS}"),
        ];
        let attacker = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the attacker cannot be started")?;
        let ended = timeout(PATIENCE, attacker.wait_with_output()).await.context("the attacker does not end")??;
        if !ended.status.success() {
            bail!("the attacker ended: {}", ended.status);
        }
        serde_json::from_slice(&ended.stdout).context("what the attacker tells")
    }

    /// The resources that the server uses while something lasts.
    async fn watch<T>(&self, lasting: impl Future<Output = T>) -> Result<(T, Stretch)> {
        let (began, cpu) = (Instant::now(), self.server.usage.cpu()?);
        let mut most = self.resources()?;
        tokio::pin!(lasting);
        let done = loop {
            tokio::select! {
                done = &mut lasting => break done,
                () = sleep(SAMPLE) => {
                    let now = self.resources()?;
                    most.rss_mib = most.rss_mib.max(now.rss_mib);
                    most.descriptors = most.descriptors.max(now.descriptors);
                }
            }
        };
        let used = self.server.usage.cpu()? - cpu;
        let cpu_percent = used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
        Ok((done, Stretch { most, cpu_percent }))
    }

    fn resources(&self) -> Result<Resources> {
        let usage = self.server.usage;
        Ok(Resources { rss_mib: usage.rss()? as f64 / MIB, descriptors: usage.descriptors()? })
    }

    /// Waits until the attacker's descriptors are closed. Returns how many are open then, or at the end of patience.
    async fn released(&self, before: u64) -> Result<u64> {
        let began = Instant::now();
        loop {
            let open = self.resources()?.descriptors;
            if open <= before || began.elapsed() > PATIENCE {
                return Ok(open);
            }
            sleep(SAMPLE).await;
        }
    }
}

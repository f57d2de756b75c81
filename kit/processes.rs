//! A process that the benchmark started: what it uses, how it ends.

use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, timeout},
};

/// For anything that a process is to do before it is given up.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// Memory counts as settled when it moved by less than this share in one look.
const SETTLED: f64 = 0.002;
const LOOK: Duration = Duration::from_millis(500);

/// What the kernel says of a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage(u32);

impl Usage {
    /// Of this process id.
    pub fn of(pid: u32) -> Self {
        Self(pid)
    }

    /// Its process id.
    pub fn pid(self) -> u32 {
        self.0
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// The process has ended.
    pub fn rss(self) -> Result<u64> {
        let text = self.read("statm")?;
        let pages: u64 = text.split_whitespace().nth(1).context("statm has a second field")?.parse()?;
        Ok(pages * rustix::param::page_size() as u64)
    }

    /// The most resident memory that there ever was, in bytes.
    ///
    /// # Errors
    /// The process has ended.
    pub fn peak_rss(self) -> Result<u64> {
        let text = self.read("status")?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("status names the peak")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1_024)
    }

    /// CPU used so far, user and system, all threads. The kernel counts in hundredths of a second.
    ///
    /// # Errors
    /// The process has ended.
    pub fn cpu(self) -> Result<Duration> {
        let text = self.read("stat")?;
        // The name may hold blanks and parentheses; what follows the last one is regular.
        let (_, fields) = text.rsplit_once(')').context("stat names the process")?;
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// Resident memory once it stands still, or after `at_most`.
    ///
    /// # Errors
    /// The process has ended.
    pub async fn settled_rss(self, at_most: Duration) -> Result<u64> {
        let mut last = self.rss()?;
        let mut waited = Duration::ZERO;
        while waited < at_most {
            sleep(LOOK).await;
            waited += LOOK;
            let now = self.rss()?;
            if (now as f64 - last as f64).abs() < last as f64 * SETTLED {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    /// Open file descriptors.
    ///
    /// # Errors
    /// The process has ended.
    pub fn descriptors(self) -> Result<u64> {
        let path = format!("/proc/{}/fd", self.0);
        Ok(fs::read_dir(&path).with_context(|| format!("{path}: a process of this run has ended"))?.count() as u64)
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).with_context(|| format!("{path}: a process of this run has ended"))
    }
}

/// A program under a keeper: it ends when this is dropped, or when the benchmark is killed.
pub struct Kept {
    pub usage: Usage,
    pid: Pid,
    keeper: Child,
    _hold: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Kept {
    /// Starts a program; its standard error goes to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(
        program: &Path,
        arguments: &[String],
        settings: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("keeper").arg(program).args(arguments);
        // Only what it is told: a setting of this shell must not change a figure.
        command.env_clear().envs(std::env::vars().filter(|(name, _)| name == "PATH"));
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(fs::File::create(log)?);
        let mut keeper = command.spawn()?;
        let hold = keeper.stdin.take();
        let mut lines = BufReader::new(keeper.stdout.take().context("it is piped")?).lines();
        let first = timeout(PATIENCE, lines.next_line()).await??;
        let Some(pid) = first.and_then(|line| line.parse().ok()).and_then(Pid::from_raw) else {
            bail!("{} does not start: {}", program.display(), fs::read_to_string(log).unwrap_or_default());
        };
        let usage = Usage::of(pid.as_raw_nonzero().get().unsigned_abs());
        Ok(Self { usage, pid, keeper, _hold: hold, lines })
    }

    /// The next line of its output; `None` when it has ended.
    ///
    /// # Errors
    /// It says nothing for too long.
    pub async fn line(&mut self) -> Result<Option<String>> {
        Ok(timeout(PATIENCE, self.lines.next_line()).await.context("no word from a process of this run")??)
    }

    /// Signals the program, and nobody else.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal).context("a process of this run has ended")
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// It does not go.
    pub async fn kill(mut self) -> Result<()> {
        let _gone = kill_process(self.pid, Signal::KILL);
        let _killed = timeout(PATIENCE, self.keeper.wait()).await.context("a process does not end")??;
        Ok(())
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// It does not end, or not well.
    pub async fn stop(mut self) -> Result<()> {
        let _gone = kill_process(self.pid, Signal::TERM);
        let status = timeout(PATIENCE, self.keeper.wait()).await.context("a process does not end")??;
        if status.success() { Ok(()) } else { bail!("a process of this run ended: {status}") }
    }
}

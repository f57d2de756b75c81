//! Runs a program, and ends it when the benchmark ends, however that ends: the benchmark holds the other end of the standard
//! input. The first line of the output is the program's process id; the rest is the program's own.

use std::{
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// For an orderly end; then it is killed.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Runs `program` until it ends, or standard input does.
pub fn run(program: &[String]) -> Result<()> {
    let (name, arguments) = program.split_first().context("no program is named")?;
    let mut child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        // Handed on by us: a program that is quick to speak must not come before its number.
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name} cannot be started: is it installed?"))?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", child.id())?;
    out.flush()?;
    let mut said = child.stdout.take().context("it is piped")?;
    let speaking = thread::spawn(move || {
        let _ended = std::io::copy(&mut said, &mut std::io::stdout());
    });
    let child = Arc::new(Mutex::new(child));
    let watched = Arc::clone(&child);
    thread::spawn(move || {
        let mut ignored = Vec::new();
        let _closed = std::io::stdin().read_to_end(&mut ignored);
        end(&watched);
    });
    loop {
        let ended = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
        match ended {
            Some(status) if status.success() || status.signal().is_some() => {
                let _said = speaking.join();
                return Ok(());
            }
            Some(status) => bail!("{name} ended: {status}"),
            None => thread::park_timeout(LOOK),
        }
    }
}

fn end(child: &Mutex<Child>) {
    let signal = |signal| {
        let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
        // Once it was waited for, its number may be somebody else's.
        if let Ok(None) = child.try_wait() {
            let _gone = kill_process(Pid::from_child(&child), signal);
        }
    };
    signal(Signal::TERM);
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        thread::park_timeout(LOOK);
    }
    signal(Signal::KILL);
}

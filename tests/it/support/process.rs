//! The program as a process of its own: started, heard, signalled, ended.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;

/// The program, with nothing but free ports in its environment.
pub fn hadir(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hadir"));
    command.env_clear().current_dir(folder.path());
    command.env("HADIR_PUBLIC_ADDR", "127.0.0.1:0").env("HADIR_INTERNAL_ADDR", "127.0.0.1:0");
    command
}

/// What it wrote to standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ended with the value, by its id.
pub struct Running(pub Child);

impl Running {
    /// One whose log nobody reads.
    pub fn start(mut command: Command) -> (Self, Value) {
        command.stderr(Stdio::null());
        Self::start_heard(command)
    }

    /// One whose log is read by [`Self::ended`].
    pub fn start_heard(mut command: Command) -> (Self, Value) {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        (Self(child), serde_json::from_str(&line).expect("one line of JSON"))
    }

    /// Waits for the end; how it ended and what it logged.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let ended = tokio::task::spawn_blocking(move || {
            let mut log = String::new();
            if let Some(mut stderr) = self.0.stderr.take() {
                stderr.read_to_string(&mut log).expect("text");
            }
            (self.0.wait().expect("reaped"), log)
        });
        tokio::time::timeout(PATIENCE, ended).await.expect("ended in time").expect("waited")
    }

    pub fn id(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("signalled");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

//! A replica of the stage's Valkey, and a Sentinel that watches both.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    kit::{
        processes::Kept,
        resp::{Answer, Raw},
        stores::{Valkey, free_port},
    },
    stage::{PATIENCE, until},
};

const SERVICE: &str = "hadir";

/// They end with this.
pub struct Watched {
    pub replica: Valkey,
    port: u16,
    _sentinel: Kept,
    _folder: tempfile::TempDir,
}

impl Watched {
    /// A replica that is in step, and a Sentinel that knows it.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn start(primary: u16) -> Result<Self> {
        let primary_port = primary.to_string();
        let follow = ["--replicaof", "127.0.0.1", &primary_port];
        let replica = Valkey::start_with(&follow).await?;
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let configuration = folder.path().join("sentinel.conf");
        fs::write(
            &configuration,
            format!(
                "port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel.log\n\
                 sentinel monitor {SERVICE} 127.0.0.1 {primary} 1\n\
                 sentinel down-after-milliseconds {SERVICE} 1500\n\
                 sentinel failover-timeout {SERVICE} 6000\n",
                folder = folder.path().display(),
            ),
        )?;
        let arguments = [configuration.display().to_string(), "--sentinel".to_owned()];
        let sentinel = Kept::start(Path::new("valkey-server"), &arguments, &[], &folder.path().join("stderr")).await?;
        let in_step = async || {
            let known = ask(port, &["SENTINEL", "REPLICAS", SERVICE]).await;
            let is_known = matches!(known, Ok(Answer::List(list)) if !list.is_empty());
            let info = ask(replica.port, &["INFO", "replication"]).await;
            is_known && info.is_ok_and(|info| info.text().contains("master_link_status:up"))
        };
        ensure!(until(PATIENCE, in_step).await.is_some(), "the replica does not come into step");
        Ok(Self { replica, port, _sentinel: sentinel, _folder: folder })
    }

    /// What nodes are told.
    pub fn url(&self) -> String {
        format!("valkey-sentinel://127.0.0.1:{}/0?sentinelServiceName={SERVICE}", self.port)
    }

    /// Waits until the Sentinel names the replica as primary; how long that took.
    ///
    /// # Errors
    /// It does not.
    pub async fn promoted(&self) -> Result<Duration> {
        let replica = self.replica.port.to_string();
        let named = async || match ask(self.port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).await {
            Ok(Answer::List(list)) => list.get(1).is_some_and(|port| port.text() == replica),
            _ => false,
        };
        until(PATIENCE, named).await.context("nobody is promoted")
    }
}

async fn ask(port: u16, words: &[&str]) -> Result<Answer> {
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let asking = tokio::task::spawn_blocking(move || {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        Raw::to(port)?.ask(&words)
    });
    asking.await?
}

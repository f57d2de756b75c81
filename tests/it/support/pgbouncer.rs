//! A private PgBouncer in front of a private PostgreSQL.

use std::{
    fs,
    net::TcpStream,
    os::unix::{fs::chown, process::CommandExt},
    process::{Child, Command, Stdio},
    time::Instant,
};

use tempfile::TempDir;
use url::Url;

use super::{PATIENCE, postgres, valkey::free_port};

/// Ends with the value.
pub struct PgBouncer {
    child: Child,
    port: u16,
    target: Url,
    folder: TempDir,
}

impl PgBouncer {
    /// As Debian ships it, in front of this server, with these lines in addition. It asks for no password.
    pub fn before(url: &str, more: &str) -> Self {
        let target = Url::parse(url).expect("an address");
        let folder = tempfile::Builder::new().prefix("hadir-pgbouncer-").tempdir().expect("a folder");
        let began = Instant::now();
        // Another process may take the port between the look and the start.
        loop {
            let port = free_port();
            let mut child = launch(&folder, &target, port, more);
            while child.try_wait().expect("asked").is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { child, port, target, folder };
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "PgBouncer does not start: {log}");
        }
    }

    /// The same database, through the pooler.
    pub fn url(&self) -> String {
        let mut url = self.target.clone();
        url.set_port(Some(self.port)).expect("a port");
        url.into()
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn launch(folder: &TempDir, target: &Url, port: u16, more: &str) -> Child {
    let at = folder.path().display();
    let (host, server_port) = (target.host_str().expect("a host"), target.port().unwrap_or(5432));
    let settings = format!(
        "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir = {at}\nlogfile = {at}/log\nauth_type = trust\nauth_file = {at}/users\n{more}\n"
    );
    fs::write(folder.path().join("pgbouncer.ini"), settings).expect("written");
    fs::write(folder.path().join("users"), "\"postgres\" \"\"\n").expect("written");
    let mut command = Command::new("pgbouncer");
    command.arg("-q").arg(folder.path().join("pgbouncer.ini"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It refuses to run as root.
    if let Some((user, group)) = postgres::unprivileged() {
        chown(folder.path(), Some(user), Some(group)).expect("given away");
        command.uid(user).gid(group);
    }
    command.spawn().expect("PgBouncer is installed; `scripts/test` installs it")
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

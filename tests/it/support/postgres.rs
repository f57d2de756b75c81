//! A private PostgreSQL. One for the whole run, with a fresh schema per test, and dedicated ones for tests that stop or
//! freeze theirs. A watchdog process holds the other end of a pipe: when the test process ends, however it ends, the
//! server is stopped and its folder removed.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{OnceLock, mpsc},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Longest wait for the server to do what it was told. Only a bound, so that a test that fails ends.
const PATIENCE: Duration = Duration::from_secs(60);

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 400
shared_buffers = '32MB'
dynamic_shared_memory_type = mmap
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
log_min_messages = warning
log_line_prefix = '%m [%p] '
timezone = 'UTC'
";

/// Waits for the end of the test process, then ends the server, frozen or not, and removes its folder.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
read -r _ignored
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
  memory=$(sed -n 7p "$1/data/postmaster.pid" | tr -s ' ' | cut -d ' ' -f 2)
  children=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null)
  kill -CONT "$pid" $children 2>/dev/null
  kill -QUIT "$pid" 2>/dev/null
  tries=0
  while kill -0 "$pid" 2>/dev/null && [ "$(cut -d ' ' -f 3 "/proc/$pid/stat" 2>/dev/null)" != Z ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ]; then kill -KILL "$pid" $children 2>/dev/null; break; fi
    sleep 0.05
  done
  [ -n "$memory" ] && ipcrm -m "$memory" 2>/dev/null
fi
rm -rf "$1"
"#;

/// A schema of one test, dropped after it.
pub struct Schema {
    pub url: String,
    pub name: String,
}

/// A new, empty schema on the server of this run.
pub async fn schema() -> Schema {
    shared().schema().await
}

impl Drop for Schema {
    fn drop(&mut self) {
        // In the background: connections of the test may still be on their way out.
        static JANITOR: OnceLock<mpsc::Sender<(String, String)>> = OnceLock::new();
        let janitor = JANITOR.get_or_init(|| {
            let (to_janitor, schemas) = mpsc::channel();
            std::thread::spawn(move || drop_schemas(&schemas));
            to_janitor
        });
        let _gone = janitor.send((self.url.clone(), self.name.clone()));
    }
}

fn drop_schemas(schemas: &mpsc::Receiver<(String, String)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    while let Ok((url, name)) = schemas.recv() {
        runtime.block_on(async {
            if let Ok(mut connection) = PgConnection::connect(&url).await {
                // Failing only leaves a schema in a server that ends with the run.
                let _ = sqlx::raw_sql(AssertSqlSafe(format!("SET lock_timeout = '5s'; DROP SCHEMA {name} CASCADE")))
                    .execute(&mut connection)
                    .await;
                let _ = connection.close().await;
            }
        });
    }
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.expect("done");
}

fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(dedicated)
}

/// A server of one test, which may stop, freeze and configure it.
pub fn dedicated() -> Server {
    Server::new(Server::initialise)
}

/// A primary, and a replica that follows it.
pub fn replicated() -> (Server, Server) {
    let mut primary = dedicated();
    primary.set("wal_level", "replica");
    primary.set("max_wal_senders", "5");
    primary.stop();
    primary.start();
    let replica = Server::new(|replica| {
        let made = replica
            .program("pg_basebackup")
            .args(["-d", &primary.url("postgres"), "-R", "-X", "stream", "-c", "fast", "-D"])
            .arg(replica.data())
            .output()
            .expect("pg_basebackup runs");
        assert!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
        replica.append(&format!("unix_socket_directories = '{}'\n", replica.folder.display()));
    });
    (primary, replica)
}

/// Variables of an environment in which the clock is ahead by so many seconds; monotonic clocks stay as they are.
pub fn clock_ahead(seconds: i64) -> [(String, String); 3] {
    let places = fs::read_dir("/usr/lib").expect("a folder").flatten();
    let mut libraries = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|library| library.exists()).expect("libfaketime; `scripts/test` installs it");
    [
        ("LD_PRELOAD".to_owned(), library.display().to_string()),
        ("FAKETIME".to_owned(), format!("{seconds:+}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
    ]
}

/// A running (or stopped) server in a folder of its own.
pub struct Server {
    folder: PathBuf,
    port: u16,
    postmaster: Option<Child>,
    /// Variables of its environment, beside ours.
    environment: Vec<(String, String)>,
    watchdog: Child,
    /// Its end tells the watchdog.
    pipe: Option<ChildStdin>,
}

impl Server {
    /// In a folder that `make` fills.
    fn new(make: impl FnOnce(&Self)) -> Self {
        let folder = tempfile::Builder::new().prefix("hadir-pg-").tempdir().expect("a folder").keep();
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh is installed");
        let pipe = watchdog.stdin.take();
        let mut server = Self { folder, port: 0, postmaster: None, environment: Vec::new(), watchdog, pipe };
        if let Some((user, group)) = unprivileged() {
            chown(&server.folder, Some(user), Some(group)).expect("given away");
        }
        make(&server);
        // Another process may take the port between the look and the start.
        for _attempt in 0..5 {
            server.port = TcpListener::bind(("127.0.0.1", 0)).expect("bound").local_addr().expect("bound").port();
            if server.launch() {
                return server;
            }
        }
        panic!("the private server does not start: {}", server.log());
    }

    fn initialise(&self) {
        let made = self
            .program("initdb")
            .args(["--no-sync", "--no-instructions", "-A", "trust", "-U", "postgres"])
            .args(["-E", "UTF8", "--locale=C.UTF-8", "-D"])
            .arg(self.data())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        self.append(&format!("{SETTINGS}unix_socket_directories = '{}'\n", self.folder.display()));
    }

    /// From now on it speaks TLS with these files, a certificate and its key.
    pub fn speak_tls(&mut self, certificate: &Path, key: &Path) {
        for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = self.data().join(name);
            fs::copy(from, &to).expect("copied");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("restricted");
            if let Some((user, group)) = unprivileged() {
                chown(&to, Some(user), Some(group)).expect("given away");
            }
        }
        self.set("ssl", "on");
        self.stop();
        self.start();
    }

    /// Where one of its databases is.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A new, empty schema on this server.
    pub async fn schema(&self) -> Schema {
        let url = self.url("postgres");
        let name = format!("t_{}", uuid::Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&url).await.expect("the private server answers");
        execute(&mut connection, format!("CREATE SCHEMA {name}")).await;
        connection.close().await.expect("closed");
        Schema { url, name }
    }

    /// As `pg_ctl stop -m fast`: connections are ended, everything is written.
    pub fn stop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            signal(Pid::from_child(&postmaster), Signal::INT);
            postmaster.wait().expect("ended");
        }
    }

    /// Starts again on the same port, with the same data.
    pub fn start(&mut self) {
        assert!(self.postmaster.is_none(), "it runs");
        // What was killed takes a moment to be gone, and a new postmaster refuses to start before.
        let began = Instant::now();
        while !self.launch() {
            assert!(began.elapsed() < PATIENCE, "the private server does not start again: {}", self.log());
        }
    }

    /// Stops and starts it with these variables in its environment.
    pub fn restart_with(&mut self, environment: &[(String, String)]) {
        self.stop();
        self.environment = environment.to_vec();
        self.start();
    }

    /// As by `kill -9` of the postmaster; its children notice and end.
    pub fn kill(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            let children = self.children(&postmaster);
            postmaster.kill().expect("killed");
            postmaster.wait().expect("ended");
            // They would notice by themselves, in their own time; a new postmaster refuses to start before.
            children.into_iter().for_each(|child| signal(Some(child), Signal::KILL));
        }
    }

    /// Connects are accepted by the kernel, and nothing is answered.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Goes on.
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Sets a server parameter for all, running sessions included.
    pub fn set(&self, name: &str, value: &str) {
        self.append(&format!("{name} = '{value}'\n"));
        if let Some(postmaster) = &self.postmaster {
            signal(Pid::from_child(postmaster), Signal::HUP);
        }
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(self.folder.join("server.log")) {
            file.read_to_string(&mut text).expect("text");
        }
        text
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn append(&self, settings: &str) {
        let path = self.data().join("postgresql.conf");
        let mut file = OpenOptions::new().append(true).open(path).expect("it was initialised");
        file.write_all(settings.as_bytes()).expect("written");
    }

    /// One of PostgreSQL's programs, not as root, which it refuses.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((user, group)) = unprivileged() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Whether it came up.
    fn launch(&mut self) -> bool {
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("server.log")).expect("a log");
        let port = self.port.to_string();
        let mut command = self.program("postgres");
        command.envs(self.environment.iter().cloned());
        command.arg("-D").arg(self.data()).args(["-p", &port]).process_group(0).stderr(log);
        let mut postmaster = command.spawn().expect("postgres runs");
        let began = Instant::now();
        loop {
            if postmaster.try_wait().expect("asked").is_some() {
                return false;
            }
            // "ready" is the eighth line of this file, once connections are accepted.
            let state = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let ours = state.starts_with(&format!("{}\n", postmaster.id()));
            if ours && state.contains("ready") && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                self.postmaster = Some(postmaster);
                return true;
            }
            assert!(began.elapsed() < PATIENCE, "the private server is not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn children(&self, postmaster: &Child) -> Vec<Pid> {
        let pid = postmaster.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
    }

    fn signal_all(&self, what: Signal) {
        let postmaster = self.postmaster.as_ref().expect("it runs");
        // The postmaster first, so that it forks no more.
        signal(Some(Pid::from_child(postmaster)), what);
        self.children(postmaster).into_iter().for_each(|child| signal(Some(child), what));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.pipe.take());
        if let Some(mut postmaster) = self.postmaster.take() {
            let _ = postmaster.wait();
        }
        let _ = self.watchdog.wait();
    }
}

fn signal(process: impl Into<Option<Pid>>, signal: Signal) {
    // A child may have ended between the look and the signal.
    let _ = process.into().map(|process| kill_process(process, signal));
}

/// The newest installed ones.
pub fn programs() -> PathBuf {
    let major = |folder: &Path| folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| folder.join("bin/initdb").exists())
        .max_by_key(|folder| major(folder))
        .expect("PostgreSQL is installed; `scripts/test` installs it")
        .join("bin")
}

/// PostgreSQL refuses to run as root: then as `postgres`. User and group.
pub fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("readable");
    let postgres = users.lines().find(|line| line.starts_with("postgres:")).expect("the package made a user postgres");
    let mut numbers = postgres.split(':').skip(2).map(|number| number.parse().expect("a number"));
    numbers.next().zip(numbers.next())
}

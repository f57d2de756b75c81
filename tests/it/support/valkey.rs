//! A private Valkey: its own port, nothing saved, ended with the test. And a raw connection to look at its keys.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for an answer; a bound only, so that a test that fails ends.
const ANSWER: Duration = super::PATIENCE;
/// Tries to find a port that nobody takes between our look and the server's start.
const TRIES: usize = 5;

pub struct Server {
    child: Child,
    port: u16,
    password: Option<&'static str>,
    /// What it is started with; the same again by [`Self::restart`].
    arguments: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(None, |_| Vec::new())
    }

    pub fn with_password(password: &'static str) -> Self {
        Self::start_with(Some(password), |_| Vec::new())
    }

    /// A replica of this one, with the same password, in step with it.
    pub fn replica(&self) -> Self {
        let of = ["--replicaof", "127.0.0.1", &self.port.to_string()].map(str::to_owned);
        let mut replica = Self::start_with(self.password, |_| of.to_vec());
        replica.wait_until_in_step();
        replica
    }

    /// One with further arguments, which may depend on its port.
    pub fn start_with(password: Option<&'static str>, more: impl Fn(u16) -> Vec<String>) -> Self {
        Self::launch(password, |port, folder| {
            let port_text = port.to_string();
            let plain =
                ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder];
            let mut arguments: Vec<String> = plain.map(str::to_owned).into();
            if let Some(password) = password {
                // The same for those who replicate.
                arguments.extend(["--requirepass", password, "--masterauth", password].map(str::to_owned));
            }
            arguments.extend(["--repl-diskless-sync-delay", "0"].map(str::to_owned));
            arguments.extend(more(port));
            arguments
        })
    }

    /// One whose arguments depend on its port and its folder.
    pub fn launch(password: Option<&'static str>, arguments: impl Fn(u16, &str) -> Vec<String>) -> Self {
        for _ in 0..TRIES {
            let folder = tempfile::tempdir().expect("a folder");
            let port = free_port();
            let arguments = arguments(port, &folder.path().display().to_string());
            let mut server = Self { child: spawn(&arguments), port, password, arguments, _folder: folder };
            if server.is_ready() {
                return server;
            }
        }
        panic!("valkey-server did not start");
    }

    pub fn url(&self, database: u8) -> String {
        format!("valkey://{}{}/{database}", self.sign_in(), self.address())
    }

    /// What stands before the host in an address.
    pub fn sign_in(&self) -> String {
        self.password.map(|password| format!(":{password}@")).unwrap_or_default()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Whether it came up; one that found its port taken has ended.
    fn is_ready(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < super::PATIENCE {
            if self.child.try_wait().expect("asked").is_some() {
                return false;
            }
            if TcpStream::connect(self.address()).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn wait_until_in_step(&mut self) {
        let began = Instant::now();
        while !self.says("replication", "master_link_status:up") {
            assert!(began.elapsed() < super::PATIENCE, "still not: the replica is in step with its primary");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether a section of what the server says about itself has this line.
    pub fn says(&self, section: &str, line: &str) -> bool {
        // Asked again by who waits: a primary that is demoted hangs up on its clients.
        let info = self.try_raw().and_then(|mut raw| raw.try_ask(&["INFO", section])).and_then(Answer::text);
        info.is_some_and(|info| info.lines().any(|said| said == line))
    }

    /// A connection, unless the server hangs up before it is signed in.
    pub fn try_raw(&self) -> Option<Raw> {
        Raw::try_to(&format!("valkey://{}{}", self.sign_in(), self.address()))
    }

    pub fn raw(&self) -> Raw {
        Raw::to(&format!("valkey://{}{}", self.sign_in(), self.address()))
    }

    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// As by `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Starts again on the same port, empty.
    pub fn restart(&mut self) {
        self.child = spawn(&self.arguments);
        assert!(self.is_ready(), "valkey-server did not start again");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signalled");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).expect("bound").local_addr().expect("bound").port()
}

fn spawn(arguments: &[String]) -> Child {
    let mut command = Command::new("valkey-server");
    command.args(arguments).stdout(Stdio::null()).spawn().expect("valkey-server is installed")
}

/// An answer of the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Nil,
    Number(i64),
    Text(String),
    List(Vec<Answer>),
}

impl Answer {
    pub fn text(self) -> Option<String> {
        match self {
            Self::Nil => None,
            Self::Number(number) => Some(number.to_string()),
            Self::Text(text) => Some(text),
            Self::List(list) => panic!("a list, not text: {list:?}"),
        }
    }

    pub fn list(self) -> Vec<String> {
        match self {
            Self::List(list) => list.into_iter().map(|one| one.text().expect("no gaps")).collect(),
            other => panic!("no list: {other:?}"),
        }
    }

    pub fn number(self) -> i64 {
        match self {
            Self::Number(number) => number,
            other => panic!("no number: {other:?}"),
        }
    }
}

/// A connection that speaks the protocol as it is.
pub struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    /// A connection to the server and database of an address, with its password.
    pub fn to(url: &str) -> Self {
        Self::try_to(url).unwrap_or_else(|| panic!("Valkey refused a connection, or hung up"))
    }

    /// The same, unless the server refuses or hangs up.
    pub fn try_to(url: &str) -> Option<Self> {
        let url = url::Url::parse(url).expect("an address");
        let address = (url.host_str().expect("a host"), url.port().unwrap_or(6379));
        let mut raw = Self { stream: BufReader::new(TcpStream::connect(address).ok()?) };
        raw.stream.get_ref().set_read_timeout(Some(ANSWER)).expect("set");
        match (url.username(), url.password()) {
            ("", Some(password)) => drop(raw.try_ask(&["AUTH", password])?),
            (user, Some(password)) => drop(raw.try_ask(&["AUTH", user, password])?),
            _ => {}
        }
        let database = url.path().trim_matches('/');
        if !database.is_empty() {
            raw.try_ask(&["SELECT", database])?;
        }
        Some(raw)
    }

    pub fn ask(&mut self, words: &[&str]) -> Answer {
        self.send(words).expect("sent");
        self.next()
    }

    /// The same question, for who may ask again: `None` when the server hung up, as one does that is demoted.
    pub fn try_ask(&mut self, words: &[&str]) -> Option<Answer> {
        self.send(words).ok()?;
        // A server that hangs up in the middle of an answer is broken, and `next` says so.
        let is_there = !self.stream.fill_buf().ok()?.is_empty();
        is_there.then(|| self.next())
    }

    fn send(&mut self, words: &[&str]) -> std::io::Result<()> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes())
    }

    /// The next answer, or a message after SUBSCRIBE.
    pub fn next(&mut self) -> Answer {
        let mut line = String::new();
        self.stream
            .read_line(&mut line)
            .unwrap_or_else(|error| panic!("Valkey did not answer within {ANSWER:?}: {error}"));
        assert!(line.ends_with("\r\n"), "Valkey hung up after `{line}` instead of answering");
        let line = line.trim_end();
        assert!(!line.is_empty(), "Valkey sent an empty line where an answer begins");
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().expect("a number");
        match kind {
            "+" => Answer::Text(rest.to_owned()),
            ":" => Answer::Number(number()),
            "$" | "*" if number() < 0 => Answer::Nil,
            "$" => {
                let mut text = vec![0; number() as usize + 2];
                self.stream.read_exact(&mut text).expect("answered");
                text.truncate(text.len() - 2);
                Answer::Text(String::from_utf8(text).expect("text"))
            }
            "*" => Answer::List((0..number()).map(|_| self.next()).collect()),
            _ => panic!("the server says {line}"),
        }
    }
}

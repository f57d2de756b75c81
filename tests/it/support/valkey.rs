//! A private Valkey: its own port, nothing saved, ended with the test. And a raw connection to look at its keys.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

pub struct Server {
    child: Child,
    port: u16,
    password: Option<&'static str>,
    folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::launch(None)
    }

    pub fn with_password(password: &'static str) -> Self {
        Self::launch(Some(password))
    }

    fn launch(password: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let child = spawn(port, password, &folder);
        let server = Self { child, port, password, folder };
        server.ready();
        server
    }

    pub fn url(&self, database: u8) -> String {
        let password = self.password.map(|password| format!(":{password}@")).unwrap_or_default();
        format!("valkey://{password}127.0.0.1:{}/{database}", self.port)
    }

    fn ready(&self) {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "valkey-server did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn raw(&self) -> Raw {
        Raw::to(&self.url(0))
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
        self.child = spawn(self.port, self.password, &self.folder);
        self.ready();
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

fn spawn(port: u16, password: Option<&str>, folder: &tempfile::TempDir) -> Child {
    let mut command = Command::new("valkey-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(folder.path());
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    command.stdout(Stdio::null()).spawn().expect("valkey-server is installed")
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
        let url = url::Url::parse(url).expect("an address");
        let address = (url.host_str().expect("a host"), url.port().unwrap_or(6379));
        let mut raw = Self { stream: BufReader::new(TcpStream::connect(address).expect("connected")) };
        raw.stream.get_ref().set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        match (url.username(), url.password()) {
            ("", Some(password)) => drop(raw.ask(&["AUTH", password])),
            (user, Some(password)) => drop(raw.ask(&["AUTH", user, password])),
            _ => {}
        }
        let database = url.path().trim_matches('/');
        if !database.is_empty() {
            raw.ask(&["SELECT", database]);
        }
        raw
    }

    pub fn ask(&mut self, words: &[&str]) -> Answer {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
        self.next()
    }

    /// The next answer, or a message after SUBSCRIBE.
    pub fn next(&mut self) -> Answer {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("answered");
        let line = line.trim_end();
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

//! What an attack is aimed at, and what every attack does: many connections at once until the time is over.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    arguments::Order,
    kit::{
        socket::{self, Dial, Socket},
        tokens::{Mint, Role, subject},
    },
    tally::Counter,
};

/// The attacker's address. Residents and newcomers have others.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));
/// Before a refused connection is tried again: a bound on the attacker, not a courtesy.
const PAUSE: Duration = Duration::from_millis(20);

/// The server, and what is counted.
pub struct Target {
    pub address: SocketAddr,
    pub counter: Counter,
    ends: Instant,
    first_subject: u64,
    mint: Mint,
}

impl Target {
    pub fn new(order: &Order) -> Self {
        Self {
            address: order.address,
            counter: Counter::default(),
            ends: Instant::now() + Duration::from_secs_f64(order.seconds),
            first_subject: order.first_subject,
            mint: Mint::new(),
        }
    }

    /// Runs so many of `one` at once, each again and again until the time is over.
    pub async fn swarm<Doing>(
        self: &Arc<Self>,
        size: usize,
        one: impl Fn(Arc<Self>, u64) -> Doing + Copy + Send + 'static,
    ) where
        Doing: Future<Output = Result<()>> + Send,
    {
        let mut tasks = JoinSet::new();
        for number in 0..size as u64 {
            let target = Arc::clone(self);
            tasks.spawn(async move {
                loop {
                    match timeout_at(target.ends, one(Arc::clone(&target), number)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => target.counter.answered(short(&error)),
                        Err(_) => return target.counter.answered("open at the end"),
                    }
                    if timeout_at(target.ends, sleep(PAUSE)).await.is_err() {
                        return;
                    }
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    /// A connection from the attacker's address.
    pub async fn connect(&self) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(SOURCE, 0))?;
        let stream = socket.connect(self.address).await.context("connect")?;
        self.counter.connected();
        Ok(stream)
    }

    /// The open socket of a mitra that no resident is.
    pub async fn mitra(&self, number: u64) -> Result<Socket> {
        let dial = Dial {
            address: self.address,
            path: "/ws/mitra".to_owned(),
            role: Some(Role::Mitra),
            first_subject: 0,
            sockets: 1,
            at_once: 1,
            until: Some("status".to_owned()),
            online: false,
        };
        self.open(&dial, self.first_subject + number).await
    }

    /// The open socket of a customer.
    pub async fn customer(&self, number: u64) -> Result<Socket> {
        let dial = Dial {
            address: self.address,
            path: "/ws/availability".to_owned(),
            role: Some(Role::Customer),
            first_subject: 0,
            sockets: 1,
            at_once: 1,
            until: Some("availability".to_owned()),
            online: false,
        };
        self.open(&dial, self.first_subject + number).await
    }

    async fn open(&self, dial: &Dial, number: u64) -> Result<Socket> {
        let stream = self.connect().await?;
        Ok(socket::open_on(stream, dial, &self.mint, number).await?.0)
    }

    /// A token of a subject that no resident is.
    pub fn token(&self, number: u64, role: Role) -> Result<String> {
        self.mint.token(subject(self.first_subject + number), role)
    }

    /// Reads until the server hangs up; counts the status that it answered, or how it ended.
    pub async fn hear_the_end(&self, stream: &mut TcpStream) -> Result<()> {
        let mut head = [0; 512];
        let read = stream.read(&mut head).await.context("read")?;
        self.counter.answered(status(&head[..read]).unwrap_or("closed"));
        while stream.read(&mut head).await.context("read")? > 0 {}
        Ok(())
    }
}

/// The status of an HTTP answer.
pub fn status(head: &[u8]) -> Option<&str> {
    std::str::from_utf8(head.get(9..12).filter(|_| head.starts_with(b"HTTP/1.1 "))?).ok()
}

/// The last cause in a few words: it is counted, so numbers of ports must not be in it.
fn short(error: &anyhow::Error) -> String {
    let cause = error.root_cause().to_string();
    cause.split(" (os error").next().unwrap_or(&cause).to_lowercase()
}

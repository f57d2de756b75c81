//! The floor and the fleets as the benchmark holds them: processes that end with it.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    fleet::orders::{Order, Report},
    kit::processes::Usage,
    kit::socket::Dial,
};

/// Sockets in one process: a process here may hold 20,000 descriptors.
const SOCKETS_PER_PROCESS: usize = 18_500;
/// Longest wait for an order to be done, beyond the time that it asks for.
const PATIENCE: Duration = Duration::from_secs(300);

/// A part of this program in a process of its own.
struct Worker {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(arguments: &[String]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("it is piped")?;
        let lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
        Ok(Self { child, input, lines })
    }

    async fn line(&mut self, patience: Duration) -> Result<String> {
        let line = timeout(patience, self.lines.next_line()).await.context("a process of this run is stuck")??;
        line.context("a process of this run has ended; its words are above")
    }

    fn usage(&self) -> Result<Usage> {
        Ok(Usage::of(self.child.id().context("a process of this run has ended")?))
    }
}

/// The running floor.
pub struct Floor {
    pub address: SocketAddr,
    pub usage: Usage,
    _worker: Worker,
}

impl Floor {
    /// Starts it; with a cadence it pings its sockets itself.
    pub async fn start(ping_seconds: Option<f64>) -> Result<Self> {
        let mut arguments = vec!["floor".to_owned()];
        arguments.extend(ping_seconds.map(|seconds| format!("--ping-seconds={seconds}")));
        let mut worker = Worker::start(&arguments)?;
        let address = worker.line(PATIENCE).await?.parse()?;
        Ok(Self { address, usage: worker.usage()?, _worker: worker })
    }
}

/// Client processes that are told the same things at the same time.
pub struct Fleet(Vec<Worker>);

impl Fleet {
    /// A fleet that may hold so many sockets.
    pub fn start(sockets: usize) -> Result<Self> {
        let processes = sockets.div_ceil(SOCKETS_PER_PROCESS).max(1);
        let each = sockets.div_ceil(processes).max(1);
        let arguments = ["fleet".to_owned(), format!("--sockets={each}")];
        Ok(Self((0..processes).map(|_| Worker::start(&arguments)).collect::<Result<_>>()?))
    }

    /// Opens sockets, spread over the processes.
    pub async fn dial(&mut self, dial: &Dial) -> Result<Report> {
        let processes = self.0.len();
        let mut orders = Vec::new();
        let mut next = 0;
        for process in 0..processes {
            let sockets = dial.sockets * (process + 1) / processes - next;
            let part = Dial { sockets, first_subject: dial.first_subject + next as u64, ..dial.clone() };
            next += sockets;
            orders.push(Order::Dial(part));
        }
        self.all(&orders).await
    }

    /// Tells every process the same.
    pub async fn tell(&mut self, order: &Order) -> Result<Report> {
        let orders = vec![order.clone(); self.0.len()];
        self.all(&orders).await
    }

    async fn all(&mut self, orders: &[Order]) -> Result<Report> {
        for (worker, order) in self.0.iter_mut().zip(orders) {
            worker.input.write_all(format!("{}\n", serde_json::to_string(order)?).as_bytes()).await?;
        }
        let mut joined = Report::default();
        for (worker, order) in self.0.iter_mut().zip(orders) {
            let line = worker.line(PATIENCE + asked(order)).await?;
            joined.join(serde_json::from_str(&line).context("a report")?)?;
        }
        if joined.failed > 0 {
            let why = joined.first_failure.as_deref().unwrap_or("no reason is given");
            bail!("{} of a fleet's doings failed, the first because: {why}", joined.failed);
        }
        Ok(joined)
    }
}

fn asked(order: &Order) -> Duration {
    let seconds = match order {
        Order::PingHard { seconds } => *seconds,
        Order::Churn(churn) => churn.seconds,
        Order::Ask(ask) => ask.seconds,
        _ => 0.0,
    };
    Duration::from_secs_f64(seconds)
}

//! A TCP proxy in front of a store or a node, one per client of it: lets everything through, late, or holds it back, or cuts it,
//! or leads elsewhere.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep_until},
};

/// What the proxy does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "tests and proof kit each need some")]
pub enum Traffic {
    /// Passes everything.
    Flows,
    /// Passes everything, this much later in each direction.
    Late(Duration),
    /// Connections are cut, new ones are cut at once: the server is gone.
    Cut,
    /// The same by a reset, as from a host that knows nothing of the connection.
    Reset,
    /// Connections are accepted and nothing passes: the server is frozen, the network half open.
    Hangs,
    /// Nothing passes on the connections there are; new ones are good: their other end was lost.
    Forgotten,
}

/// Ends with the value.
pub struct Proxy {
    address: SocketAddr,
    traffic: Arc<watch::Sender<Traffic>>,
    target: watch::Sender<SocketAddr>,
    task: AbortHandle,
}

impl Proxy {
    /// A proxy to `target`, letting everything through.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let traffic = Arc::new(watch::Sender::new(Traffic::Flows));
        let state = Arc::clone(&traffic);
        let (aim, at) = watch::channel(target);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = *at.borrow();
                tokio::spawn(pass(client, target, state.subscribe()));
            }
        });
        Self { address, traffic, target: aim, task: task.abort_handle() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections lead there; those there are stay as they are.
    pub fn aim(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.traffic.send_replace(Traffic::Cut);
    }
}

/// Chunks on their way; beyond it the sender waits, as on a network.
const UNDER_WAY: usize = 256;

fn is_cut(traffic: &Traffic) -> bool {
    matches!(traffic, Traffic::Cut | Traffic::Reset)
}

async fn pass(mut client: TcpStream, target: SocketAddr, mut traffic: watch::Receiver<Traffic>) {
    let began_forgotten = *traffic.borrow() == Traffic::Forgotten;
    // Small frames are to arrive when they were sent.
    let _untuned = client.set_nodelay(true);
    if is_cut(&traffic.borrow()) {
        return end(&client, &traffic);
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let _untuned = server.set_nodelay(true);
    let passes = move |traffic: &Traffic| match traffic {
        Traffic::Hangs => false,
        Traffic::Forgotten => began_forgotten,
        _ => true,
    };
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = copy(from_client, to_server, traffic.clone(), passes) => {}
            () = copy(from_server, to_client, traffic.clone(), passes) => {}
            _ = traffic.wait_for(is_cut) => {}
        }
    }
    end(&client, &traffic);
    end(&server, &traffic);
}

/// A reset is asked for by closing without waiting for what is unsent.
fn end(stream: &TcpStream, traffic: &watch::Receiver<Traffic>) {
    if *traffic.borrow() == Traffic::Reset {
        let _closed = stream.set_zero_linger();
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut traffic: watch::Receiver<Traffic>,
    passes: impl Fn(&Traffic) -> bool,
) {
    let (late, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let state = traffic.clone();
    let reading = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let by = match *state.borrow() {
                Traffic::Late(late) => late,
                _ => Duration::ZERO,
            };
            if late.send((Instant::now() + by, buffer[..read].to_vec())).await.is_err() {
                return;
            }
        }
        drop(late);
    };
    let writing = async {
        while let Some((due, chunk)) = chunks.recv().await {
            sleep_until(due).await;
            // What is under way while the traffic hangs arrives when it flows again, as after a thaw.
            if traffic.wait_for(&passes).await.is_err() || to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // Nor is the end of a connection heard of before.
        let _ended = traffic.wait_for(&passes).await;
    };
    // Ends when everything that came before the end was passed on, or cannot be.
    tokio::select! {
        () = writing => {}
        () = async { reading.await; std::future::pending().await } => {}
    }
}

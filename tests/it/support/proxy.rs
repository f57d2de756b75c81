//! A TCP proxy in front of a store, one per node: lets everything through, refuses, or holds it back.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::AbortHandle,
};

/// What the proxy does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Passes everything.
    Flows,
    /// Connections are cut, new ones are cut at once: the server is gone.
    Cut,
    /// Connections are accepted and nothing passes: the server is frozen, the network half open.
    Hangs,
}

/// Ends with the value.
pub struct Proxy {
    address: SocketAddr,
    traffic: Arc<watch::Sender<Traffic>>,
    task: AbortHandle,
}

impl Proxy {
    /// A proxy to `target`, letting everything through.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let traffic = Arc::new(watch::Sender::new(Traffic::Flows));
        let state = Arc::clone(&traffic);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, target, state.subscribe()));
            }
        });
        Self { address, traffic, task: task.abort_handle() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
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

async fn pass(client: TcpStream, target: SocketAddr, mut traffic: watch::Receiver<Traffic>) {
    if *traffic.borrow() == Traffic::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (outward, inward) = (traffic.clone(), traffic.clone());
    tokio::select! {
        () = copy(from_client, to_server, outward) => {}
        () = copy(from_server, to_client, inward) => {}
        _ = traffic.wait_for(|traffic| *traffic == Traffic::Cut) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut traffic: watch::Receiver<Traffic>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        // What is under way while the traffic hangs arrives when it flows again, as after a thaw.
        if traffic.wait_for(|traffic| *traffic != Traffic::Hangs).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

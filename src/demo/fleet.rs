//! Mitras that come, go, drop and return; customers who watch, leave and come back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};
use uuid::Uuid;

use super::{DemoSize, between, chance};
use crate::{
    auth::TokenIssuer,
    domain::{Actor, Cause, MitraId, Role, SubjectId},
    lifecycle::Lifecycle,
    store::Store,
};

/// Names, so that the operator's list reads like one.
const GIVEN: [&str; 16] = [
    "Adi", "Bayu", "Citra", "Dewi", "Eka", "Farah", "Gita", "Hadi", "Intan", "Joko", "Kirana", "Lestari", "Made",
    "Nadia", "Putri", "Wayan",
];
const FAMILY: [&str; 12] = [
    "Pratama",
    "Santoso",
    "Wijaya",
    "Saputra",
    "Hidayat",
    "Nugroho",
    "Kusuma",
    "Siregar",
    "Wulandari",
    "Halim",
    "Purnama",
    "Setiawan",
];
/// How long the fleet takes to arrive: whoever opens the page at once sees them come.
const ARRIVAL: Duration = Duration::from_secs(15);

/// Ids of the fleet follow each other from here.
const FIRST_ID: u128 = 0x4ad1_de00_0000_4000_8000_0000_0000_0000;

/// Whether this mitra is one of the fleet.
pub(super) fn is_simulated(id: MitraId) -> bool {
    (FIRST_ID..FIRST_ID + 1_000_000).contains(&id.0.as_u128())
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The simulated fleet and the server it dials.
pub struct Fleet {
    pub public_addr: SocketAddr,
    pub issuer: TokenIssuer,
    pub lifecycle: Lifecycle,
    /// Only to create the mitras, as a backend would.
    pub store: Arc<dyn Store>,
}

#[derive(Clone)]
struct Member {
    url: String,
    issuer: TokenIssuer,
    subject: SubjectId,
    role: Role,
}

impl Fleet {
    /// Creates the mitras and lets everybody come. They live until the server stops.
    ///
    /// # Errors
    /// The mitras cannot be created.
    pub async fn start(&self, size: DemoSize) -> Result<()> {
        let cause = Cause::new(Actor::Service, "demo");
        for n in 0..size.mitras {
            // The same mitras at every start of the same data.
            let id = MitraId(Uuid::from_u128(FIRST_ID + n as u128));
            self.store.put_mitra(id, &name(n), None, &cause).await?;
            let member = self.member("/ws/mitra", id.into(), Role::Mitra);
            self.lifecycle.spawn_until_stop(mitra(member));
        }
        for _ in 0..size.customers {
            let member = self.member("/ws/availability", SubjectId(Uuid::new_v4()), Role::Customer);
            self.lifecycle.spawn_until_stop(customer(member));
        }
        Ok(())
    }

    fn member(&self, path: &str, subject: SubjectId, role: Role) -> Member {
        Member { url: format!("ws://{}{path}", self.public_addr), issuer: self.issuer.clone(), subject, role }
    }
}

/// A name for the nth mitra, of its own.
fn name(n: usize) -> String {
    let round = n / GIVEN.len();
    let name = format!("{} {}", GIVEN[n % GIVEN.len()], FAMILY[(n % GIVEN.len() + round) % FAMILY.len()]);
    match round / FAMILY.len() {
        0 => name,
        again => format!("{name} {}", again + 1),
    }
}

impl Member {
    async fn connect(&self) -> Result<Socket, Error> {
        let mut request = self.url.as_str().into_client_request()?;
        let token = self.issuer.token(self.subject, self.role);
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        Ok(connect_async(request).await?.0)
    }
}

async fn mitra(member: Member) {
    sleep(between(0.0..ARRIVAL.as_secs_f64())).await;
    loop {
        // A dropped socket is the network's doing and takes nobody offline; the phone comes back.
        if let Err(error) = work(&member).await {
            tracing::debug!(%error, "a simulated mitra lost its socket");
        }
        // Mostly a lift or a street corner; now and then a tunnel, long enough to be missed.
        sleep(if chance(0.25) { between(50.0..140.0) } else { between(0.5..6.0) }).await;
    }
}

/// One socket's life: working hours and breaks, with pings at the interval the server asks for.
async fn work(member: &Member) -> Result<(), Error> {
    let mut socket = member.connect().await?;
    let mut interval = Duration::from_secs(15);
    let mut online = true;
    loop {
        let command = if online { r#"{"type":"online"}"# } else { r#"{"type":"offline"}"# };
        socket.send(Message::text(command)).await?;
        let ends = Instant::now() + if online { between(20.0..180.0) } else { between(5.0..45.0) };
        while Instant::now() < ends {
            if let Some(asked) = listen(&mut socket, interval.min(between(2.0..8.0))).await? {
                interval = asked;
            }
            socket.send(Message::text(r#"{"type":"ping"}"#)).await?;
            if chance(0.02) {
                // Gone without a goodbye, as in a tunnel.
                return Ok(());
            }
        }
        online = !online;
    }
}

/// Reads for a while; answers with the heartbeat interval when a welcome was among what came.
async fn listen(socket: &mut Socket, during: Duration) -> Result<Option<Duration>, Error> {
    let mut interval = None;
    let reading = async {
        while let Some(message) = socket.next().await {
            if let Message::Text(text) = message?
                && let Ok(frame) = serde_json::from_str::<Value>(&text)
                && let Some(ms) = frame["heartbeat_interval_ms"].as_u64()
            {
                interval = Some(Duration::from_millis(ms));
            }
        }
        Err(Error::ConnectionClosed)
    };
    match timeout(during, reading).await {
        Ok(ended) => ended.map(|()| None),
        Err(_) => Ok(interval),
    }
}

async fn customer(member: Member) {
    loop {
        sleep(between(0.0..ARRIVAL.as_secs_f64())).await;
        let stay = between(20.0..120.0);
        let watching = async {
            let mut socket = member.connect().await?;
            while let Some(message) = socket.next().await {
                message?;
            }
            Ok::<(), Error>(())
        };
        if let Ok(Err(error)) = timeout(stay, watching).await {
            tracing::debug!(%error, "a simulated customer lost its socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_mitra_has_a_name_of_its_own() {
        let names: HashSet<_> = (0..1_000).map(name).collect();
        assert_eq!(names.len(), 1_000);
    }
}

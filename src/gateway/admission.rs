//! From a request to an admitted session: three ways to bring a token, and two ways to be refused.
//!
//! A bad token in the header is answered by HTTP status. In the subprotocol or a first message the upgrade succeeds and a
//! close code follows, because a browser cannot read the status of a refused upgrade.

use std::{net::IpAddr, sync::Arc, time::Instant};

use axum::{extract::Request, response::Response};
use http::StatusCode;
use hyper::upgrade::OnUpgrade;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tracing::Instrument;
use uuid::Uuid;

use super::{
    Gateway, Path, Peer,
    accept::Began,
    client_address::{client_address, one_holder},
    handshake::{Handshake, refuse},
    mitra,
    session::{Session, socket_span},
    socket::{End, Socket},
    watcher,
};
use crate::{
    auth::{Presented, Principal, origin_allowed, presented},
    domain::{Role, StatusChange},
    hub::{Holder, Place, RegisterError, Registration},
    presence::PresenceError,
    protocol::{ClientMessage, Close, Command, ErrorCode, Problem},
};

/// An authenticated, registered and admitted client.
struct Admitted {
    principal: Principal,
    registration: Registration,
    /// For a mitra: what is true of it.
    status: Option<StatusChange>,
}

/// A connection that becomes a socket.
struct Arrival {
    /// What the client and the log call it.
    connection: Uuid,
    began: Instant,
}

/// Why a client with a readable token was not admitted.
enum Refusal {
    Token,
    Role,
    Register(RegisterError),
    Presence(PresenceError),
}

impl Refusal {
    fn problem(self) -> Problem {
        match self {
            Self::Token => Problem::unauthorized(),
            Self::Role => Problem::new(ErrorCode::Forbidden, "this token's role may not use this path"),
            Self::Register(error) => Problem::new(error.code(), error.to_string()),
            Self::Presence(error) => {
                let problem = Problem::new(error.code(), error.to_string());
                // The path exists; it is the caller that does not.
                if error == PresenceError::UnknownMitra { problem.with_status(StatusCode::FORBIDDEN) } else { problem }
            }
        }
    }

    fn close(self) -> Close {
        match self {
            Self::Token => Close::UNAUTHORIZED,
            Self::Role => Close::FORBIDDEN,
            Self::Register(_) => Close::OVERLOADED,
            Self::Presence(PresenceError::UnknownMitra) => Close::UNKNOWN_MITRA,
            Self::Presence(PresenceError::Deactivated) => Close::DEACTIVATED,
            Self::Presence(PresenceError::Revoked) => Close::REVOKED,
            Self::Presence(PresenceError::Unavailable(_)) => Close::OVERLOADED,
            // No reason to refuse a socket.
            Self::Presence(_) => Close::INTERNAL,
        }
    }
}

/// What is known of a client when its upgrade is answered.
enum Credentials {
    Admitted(Box<Admitted>),
    /// Upgraded only to be told why not.
    Refused(Option<Role>, Close, Stranger),
    /// The token will be the first message.
    Awaited(Stranger),
}

impl Gateway {
    pub(super) async fn open(self: &Arc<Self>, path: Path, mut request: Request) -> Response {
        let began = request.extensions().get::<Began>().map_or_else(Instant::now, |began| began.0);
        match self.prepare(path, &mut request).await {
            Ok((handshake, credentials)) => {
                let connection = Uuid::new_v4();
                // Inside the request's own span, so that one line has both ids.
                let span = socket_span(connection);
                let (response, upgrade) = handshake.accept();
                let gateway = Arc::clone(self);
                // Boxed in three: what is needed to come in is freed when the session begins, what is needed to leave is not
                // there before it ends. The session is lent, because each future that owns it holds it twice.
                self.lifecycle.spawn(async move {
                    let entering = gateway.enter(path, upgrade, credentials, Arrival { connection, began });
                    let Some((mut session, status)) = Box::pin(entering.instrument(span)).await else { return };
                    let end = match path {
                        Path::Mitra => mitra::run(&mut session, status).await,
                        Path::Availability => watcher::run_availability(&mut session).await,
                        Path::Dashboard => watcher::run_dashboard(&mut session).await,
                    };
                    Box::pin(session.end(end)).await;
                });
                response
            }
            Err(response) => *response,
        }
    }

    async fn prepare(
        self: &Arc<Self>,
        path: Path,
        request: &mut Request,
    ) -> Result<(Handshake, Credentials), Box<Response>> {
        if !origin_allowed(request.headers(), &self.settings.allowed_origins) {
            let detail = "this origin is not allowed; add it to HADIR_ALLOWED_ORIGINS";
            return Err(self.refused(None, Problem::new(ErrorCode::Forbidden, detail)));
        }
        let handshake = Handshake::check(request).inspect_err(|_| {
            self.metrics.connect_refused(None, ErrorCode::BadRequest.as_str());
        })?;
        if self.hub.draining_ms().is_some() {
            return Err(self.refused(None, Problem::new(ErrorCode::Unavailable, "this node is stopping; dial again")));
        }
        let credentials = match presented(request.headers()) {
            Presented::Header(token) => match self.admit(path, token).await {
                Ok(admitted) => Credentials::Admitted(Box::new(admitted)),
                Err((role, refusal)) => return Err(self.refused(role, refusal.problem())),
            },
            Presented::Subprotocol(token) => match self.admit(path, token).await {
                Ok(admitted) => Credentials::Admitted(Box::new(admitted)),
                // Limits are answered before the upgrade whatever brought the token.
                Err((role, refusal @ Refusal::Register(_))) => return Err(self.refused(role, refusal.problem())),
                Err((role, refusal)) => Credentials::Refused(role, refusal.close(), self.stranger_of(request)?),
            },
            Presented::Nothing => Credentials::Awaited(self.stranger_of(request)?),
        };
        Ok((handshake, credentials))
    }

    fn refused(&self, role: Option<Role>, problem: Problem) -> Box<Response> {
        self.metrics.connect_refused(role, problem.code.as_str());
        refuse(problem)
    }

    /// Registers before the sign-in is checked in the store, so that no order to close slips between.
    async fn admit(&self, path: Path, token: &str) -> Result<Admitted, (Option<Role>, Refusal)> {
        let principal = self.verifier.verify(token).await.map_err(|_| (None, Refusal::Token))?;
        let role = principal.role;
        if !path.admits(role) {
            return Err((Some(role), Refusal::Role));
        }
        let holder = Holder { subject: principal.subject, role, session: principal.session_id };
        let registration = self.hub.register(holder).map_err(|error| (Some(role), Refusal::Register(error)))?;
        let status = if role == Role::Mitra {
            self.presence.admit_mitra(holder).await.map(Some)
        } else {
            self.presence.admit(holder).await.map(|()| None)
        };
        let status = status.map_err(|error| (Some(role), Refusal::Presence(error)))?;
        self.hub.settle(&registration);
        Ok(Admitted { principal, registration, status })
    }

    /// Everything between the `101` and the session loop.
    async fn enter(
        self: &Arc<Self>,
        path: Path,
        upgrade: OnUpgrade,
        credentials: Credentials,
        arrival: Arrival,
    ) -> Option<(Session, Option<StatusChange>)> {
        let mut socket = Socket::open(upgrade, &self.settings, self.hub.started()).await?;
        let mut held = None;
        let admitted = match credentials {
            Credentials::Admitted(admitted) => Ok(*admitted),
            Credentials::Refused(role, close, stranger) => {
                // Counted until it has been told.
                held = Some(stranger);
                Err((role, End::Close(close)))
            }
            Credentials::Awaited(stranger) => {
                let admitted = self.first_message(path, &mut socket).await;
                // One that is refused is counted until its close is over: it holds a descriptor until then.
                held = admitted.is_err().then_some(stranger);
                admitted
            }
        };
        match admitted {
            Ok(Admitted { principal, registration, status }) => {
                self.metrics.socket_opened(principal.role);
                let mut session = Session::new(Arc::clone(self), socket, registration, &principal, arrival.connection);
                if let Err(end) = session.welcome().await {
                    session.end(end).await;
                    return None;
                }
                self.metrics.socket_welcomed(principal.role, arrival.began.elapsed());
                tracing::debug!(role = principal.role.as_str(), "a socket is open");
                Some((session, status))
            }
            Err((role, end)) => {
                self.metrics.connect_refused(role, end.word());
                tracing::debug!(why = end.word(), "a socket was refused");
                let code = socket.close(end).await;
                self.metrics.unauthenticated_socket_closed(code);
                drop(held);
                None
            }
        }
    }

    async fn first_message(&self, path: Path, socket: &mut Socket) -> Result<Admitted, (Option<Role>, End)> {
        let patience = self.settings.first_message_timeout;
        let first = async {
            loop {
                match socket.next().await {
                    Ok(Message::Text(text)) => return Ok(text),
                    // Pings of a client that has not introduced itself buy it no time.
                    Ok(_) => {}
                    Err(end) => return Err(end),
                }
            }
        };
        let text = match timeout(patience, first).await {
            Ok(text) => text.map_err(|end| (None, end))?,
            Err(_) => return Err((None, Close::AUTH_TIMEOUT.into())),
        };
        let Ok(ClientMessage { command: Command::Auth { token }, .. }) =
            ClientMessage::parse(&text, self.settings.messages)
        else {
            return Err((None, Close::BAD_MESSAGE.into()));
        };
        self.admit(path, &token).await.map_err(|(role, refusal)| (role, refusal.close().into()))
    }

    /// A place for a socket that has not authenticated.
    fn stranger_of(self: &Arc<Self>, request: &Request) -> Result<Stranger, Box<Response>> {
        let trusted = &self.settings.trusted_proxies;
        let peer = request.extensions().get::<Peer>();
        // They hold descriptors like all others.
        let Some(place) = self.hub.take_place() else {
            return Err(self.refused(None, Refusal::Register(RegisterError::NodeFull).problem()));
        };
        let stranger =
            peer.and_then(|Peer(peer)| self.stranger(client_address(*peer, request.headers(), trusted), place));
        let Some(stranger) = stranger else {
            let detail = "too many sockets from this address have not authenticated";
            return Err(self.refused(None, Problem::new(ErrorCode::TooManySockets, detail)));
        };
        Ok(stranger)
    }

    fn stranger(self: &Arc<Self>, address: IpAddr, place: Place) -> Option<Stranger> {
        let address = one_holder(address);
        let mut waiting = self.strangers.entry(address).or_insert(0);
        if *waiting >= self.settings.unauthenticated_sockets_per_ip {
            return None;
        }
        *waiting += 1;
        Some(Stranger { gateway: Arc::clone(self), address, _place: place })
    }
}

/// A socket that has not authenticated, counted while it lives.
struct Stranger {
    gateway: Arc<Gateway>,
    address: IpAddr,
    _place: Place,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.gateway.strangers.remove_if_mut(&self.address, |_, waiting| {
            *waiting -= 1;
            *waiting == 0
        });
    }
}

//! What mitra and watcher sessions share: welcome, pace, refresh, the token's life, the moments at which they are woken.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use rand::RngExt;
use tokio_tungstenite::tungstenite::Message;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::{
    Gateway,
    rate_limit::{ErrorBudget, TokenBucket, Verdict},
    refresh::Refreshing,
    socket::{End, Socket},
};
use crate::{
    auth::Principal,
    hub::Registration,
    protocol::{
        BadMessage, ClientMessage, Close, Command, Encoded, ErrorCode, ErrorFrame, ReconnectFrame, Welcome, encode,
        pong,
    },
};

/// What log lines about one socket carry. Of the level error, so that a filter such as `warn` leaves it. Made when it is
/// needed: one that lives as long as its socket would weigh on every idle one.
pub(super) fn socket_span(connection: Uuid) -> Span {
    tracing::error_span!("socket", %connection)
}

/// One authenticated socket. All times are the hub's milliseconds.
pub(super) struct Session {
    pub(super) gateway: Arc<Gateway>,
    /// What the client and the log call this socket.
    pub(super) id: Uuid,
    pub(super) socket: Socket,
    pub(super) registration: Registration,
    pub(super) principal: Principal,
    pub(super) expires_ms: u64,
    pub(super) warned_of_expiry: bool,
    pinged_ms: u64,
    /// When a frame was last sent; for watchers, that of the newest snapshot or later.
    sent_ms: u64,
    /// When to close because the node is stopping.
    restart_ms: Option<u64>,
    /// At least one frame in this time, on a watcher's socket.
    pub(super) silence: Option<Duration>,
    /// The time of this waking: a look at the clock costs, and a waking is over before it matters.
    now_ms: u64,
    messages: TokenBucket,
    errors: ErrorBudget,
    pub(super) refreshing: Option<Box<Refreshing>>,
}

impl Session {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        socket: Socket,
        registration: Registration,
        principal: &Principal,
        id: Uuid,
    ) -> Self {
        let now = gateway.hub.now_ms();
        let per_second = gateway.settings.messages_per_second;
        let messages = TokenBucket::new(per_second, per_second.saturating_mul(2), now);
        let errors = ErrorBudget::new(gateway.settings.bad_messages_per_minute);
        Self {
            id,
            socket,
            registration,
            principal: principal.clone(),
            expires_ms: expiry(principal, now),
            warned_of_expiry: false,
            pinged_ms: now,
            sent_ms: now,
            restart_ms: None,
            silence: None,
            now_ms: now,
            messages,
            errors,
            refreshing: None,
            gateway,
        }
    }

    pub(super) async fn welcome(&mut self) -> Result<(), End> {
        let settings = &self.gateway.settings;
        let ms = |period: Duration| period.as_millis() as u64;
        let frame = encode(
            "welcome",
            &Welcome {
                connection_id: self.id,
                node_id: settings.node_id.as_str(),
                server_time: Utc::now(),
                heartbeat_interval_ms: ms(settings.heartbeat_interval),
                offline_after_ms: ms(settings.offline_after),
                reconnect_window_ms: ms(settings.reconnect_window),
                max_silence_ms: ms(settings.max_silence),
            },
        );
        self.send(frame).await
    }

    /// Looks at the clock, after each waking.
    pub(super) fn look(&mut self) {
        self.now_ms = self.gateway.hub.now_ms();
    }

    /// The socket was heard. A mitra's heartbeat.
    pub(super) fn heard(&mut self) {
        self.look();
        self.gateway.hub.beat(&self.registration, self.now_ms);
    }

    pub(super) fn send(&mut self, frame: Encoded) -> impl Future<Output = Result<(), End>> + Send {
        self.sent_ms = self.now_ms;
        self.socket.send(&self.registration, frame)
    }

    pub(super) async fn send_error(&mut self, id: Option<&str>, code: ErrorCode, text: &str) -> Result<(), End> {
        self.send(encode("error", &ErrorFrame::new(id, code, text))).await
    }

    /// What must be looked at whenever the session wakes: an order to close, a node that is leaving.
    pub(super) async fn orders(&mut self) -> Result<(), End> {
        if let Some(close) = self.registration.ordered() {
            return Err(End::Close(close.clone()));
        }
        if self.restart_ms.is_none()
            && let Some(spread) = self.gateway.hub.draining_ms()
        {
            let after_ms = rand::rng().random_range(0..spread);
            self.restart_ms = Some(self.now_ms + after_ms);
            self.send(encode("reconnect", &ReconnectFrame { after_ms, reason: "drain" })).await?;
        }
        Ok(())
    }

    fn interval_ms(&self) -> u64 {
        self.gateway.settings.heartbeat_interval.as_millis() as u64
    }

    /// By how much a ping of ours may be late, so that a client which beats at the stated interval is not asked just before
    /// it speaks.
    fn late_ms(&self) -> u64 {
        self.interval_ms() / 16
    }

    /// By how much a ping of ours may be early, so that it shares a wake-up with something else.
    fn early_ms(&self) -> u64 {
        self.interval_ms() / 8
    }

    /// The next moment at which [`Session::on_moment`] has something to do.
    fn due_ms(&self) -> u64 {
        let settings = &self.gateway.settings;
        let heard = self.registration.heard_ms();
        let ping = heard.max(self.pinged_ms) + self.interval_ms() + self.late_ms();
        let silent = heard.max(self.gateway.hub.thawed_ms()) + settings.suspect_after.as_millis() as u64;
        let warning = if self.warned_of_expiry { self.expires_ms } else { self.warning_ms() };
        let resend = self.silence.map_or(u64::MAX, |silence| self.sent_ms + silence.as_millis() as u64);
        let restart = self.restart_ms.unwrap_or(u64::MAX);
        ping.min(silent).min(warning).min(resend).min(restart).min(self.socket.message_due_ms())
    }

    /// Before every wait: says when to be woken.
    pub(super) fn set_alarm(&self) {
        self.registration.wake_at(self.due_ms());
    }

    /// Whether the moment has come that was expected.
    pub(super) fn is_due(&self) -> bool {
        self.now_ms >= self.registration.due_ms()
    }

    fn warning_ms(&self) -> u64 {
        self.expires_ms.saturating_sub(self.gateway.settings.token_warning.as_millis() as u64)
    }

    /// What a session is woken for: a ping to a silent client, its end, the token's last seconds, the restart. `frame` is what the
    /// client is to hear besides.
    pub(super) async fn on_moment(&mut self, frame: Option<Encoded>) -> Result<(), End> {
        let now = self.now_ms;
        let settings = &self.gateway.settings;
        let suspect = settings.suspect_after.as_millis() as u64;
        let heard = self.registration.heard_ms();
        if self.restart_ms.is_some_and(|at| now >= at) {
            return Err(Close::RESTART.into());
        }
        if now >= self.expires_ms {
            return Err(Close::TOKEN_EXPIRED.into());
        }
        if now >= heard.max(self.gateway.hub.thawed_ms()) + suspect {
            return Err(Close::SILENT.into());
        }
        if now >= self.socket.message_due_ms() {
            return Err(Close::UNFINISHED.into());
        }
        if !self.warned_of_expiry && now >= self.warning_ms() {
            self.warned_of_expiry = true;
            let text = "the token expires soon: send `refresh` with a new one";
            Box::pin(self.send_error(None, ErrorCode::TokenExpiring, text)).await?;
        }
        let ping = self.should_ping();
        if ping {
            self.pinged_ms = now;
        }
        match (ping, frame) {
            (true, Some(frame)) => self.socket.ping_and_send(&self.registration, frame).await,
            (true, None) => self.socket.ping(&self.registration).await,
            (false, Some(frame)) => self.send(frame).await,
            (false, None) => Ok(()),
        }
    }

    fn should_ping(&self) -> bool {
        let last = self.registration.heard_ms().max(self.pinged_ms);
        self.now_ms + self.early_ms() >= last + self.interval_ms()
    }

    /// Whether nothing was sent for so long that a watcher should hear that we live, or will be before the ping after one
    /// that goes out now: one waking and one packet for both, also of the phone's radio. Asking begins the time anew.
    pub(super) fn falls_silent(&mut self) -> bool {
        let Some(silence) = self.silence else { return false };
        let next = if self.should_ping() { self.interval_ms() + self.late_ms() } else { 0 };
        let silent = self.now_ms + next >= self.sent_ms + silence.as_millis() as u64;
        if silent {
            self.sent_ms = self.now_ms;
        }
        silent
    }

    /// One message of the client: paced, understood and, where every session answers alike, answered. What is left is for
    /// the session. All but the plain ping is boxed: it is rare, and would weigh on every idle socket.
    pub(super) async fn take(&mut self, message: Message) -> Result<Option<ClientMessage>, End> {
        let now = self.now_ms;
        match self.messages.take(1, now) {
            Verdict::Allow => {}
            Verdict::Warn => return Box::pin(self.warn_of_rate()).await.map(|()| None),
            Verdict::Close => return Err(Close::RATE_LIMITED.into()),
        }
        if self.socket.take_byte_warning() {
            Box::pin(self.warn_of_bytes()).await?;
        }
        match message {
            Message::Text(text) if ClientMessage::is_plain_ping(&text) => self.send(pong()).await.map(|()| None),
            Message::Text(text) => Box::pin(self.understand(text, now)).await,
            _ => Ok(None),
        }
    }

    async fn warn_of_rate(&mut self) -> Result<(), End> {
        let rate = self.gateway.settings.messages_per_second;
        let text = format!("more than {rate} messages a second; slow down");
        self.send_error(None, ErrorCode::RateLimited, &text).await
    }

    /// The message at hand is still taken: only its client is told to slow down.
    async fn warn_of_bytes(&mut self) -> Result<(), End> {
        let rate = self.gateway.settings.bytes_per_second;
        let text = format!("more than {rate} bytes a second; slow down");
        self.send_error(None, ErrorCode::RateLimited, &text).await
    }

    async fn understand(&mut self, text: Encoded, now: u64) -> Result<Option<ClientMessage>, End> {
        match ClientMessage::parse(&text, self.gateway.settings.messages) {
            Ok(ClientMessage { command: Command::Ping, .. }) => self.send(pong()).await.map(|()| None),
            Ok(ClientMessage { id, command: Command::Auth { token } | Command::Refresh { token } }) => {
                self.begin_refresh(id, token).await.map(|()| None)
            }
            Ok(message) => Ok(Some(message)),
            Err(BadMessage { id, message }) => {
                self.send_error(id.as_deref(), ErrorCode::BadMessage, &message).await?;
                if self.errors.bad_message(now) { Err(Close::BAD_MESSAGE.into()) } else { Ok(None) }
            }
        }
    }

    /// Ends the session and counts how.
    pub(super) async fn end(self, end: End) {
        let Self { gateway, id, socket, registration, .. } = self;
        let role = registration.holder().role;
        // Out of the hub first: whoever asks now is told the truth, however long the goodbye takes.
        drop(registration);
        let why = end.word();
        let code = socket.close(end).instrument(socket_span(id)).await;
        socket_span(id).in_scope(|| tracing::debug!(code, why, "a socket ended"));
        gateway.metrics.socket_closed(role, code);
    }
}

pub(super) fn expiry(principal: &Principal, now_ms: u64) -> u64 {
    let left = principal.expires_at.signed_duration_since(Utc::now()).num_milliseconds();
    now_ms.saturating_add_signed(left)
}

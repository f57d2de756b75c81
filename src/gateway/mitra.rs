//! A mitra's session: every frame is a heartbeat, commands are answered in order, every change of status is told.

use std::{collections::VecDeque, future::pending, sync::Arc};

use tokio::sync::oneshot;
use tracing::Instrument;
use uuid::Uuid;

use super::{
    Gateway,
    refresh::refreshed,
    session::{Session, socket_span},
    socket::End,
};
use crate::{
    domain::{Actor, MitraId, StatusChange},
    presence::PresenceError,
    protocol::{ClientMessage, Close, Command, ErrorCode, StatusBody, ack, encode},
};

/// Commands that may wait behind the one at work; more are refused.
const WAITING_COMMANDS: usize = 8;

/// A command that is being carried out, by a task of its own: while the session waits for its client, what a command holds (a
/// connection, its turn) would be kept from everybody else.
struct AtWork {
    id: Option<String>,
    answer: oneshot::Receiver<Result<(), PresenceError>>,
}

impl AtWork {
    async fn answered(&mut self) -> Result<(), PresenceError> {
        // The task panicked.
        let lost = |_| Err(PresenceError::Unavailable("the command came to no end; look at your status".to_owned()));
        (&mut self.answer).await.unwrap_or_else(lost)
    }
}

/// Commands of one socket: one at work, a few behind it. Boxed away from idle sockets.
#[derive(Default)]
struct Commands {
    at_work: Option<AtWork>,
    waiting: VecDeque<ClientMessage>,
}

/// Runs the session; returns why it ended.
pub(super) async fn run(session: &mut Session, status: Option<StatusChange>) -> End {
    let mut commands = None;
    let end = match converse(session, status, &mut commands).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    if let Some(commands) = commands {
        finish(session, commands, &end);
    }
    end
}

/// What was read counts, though the socket went before it was answered: an app that says `offline` and hangs up is offline.
/// (One that hangs up with frames of ours unread resets the connection, and what we had not read is lost with it: RFC 1122,
/// 4.2.2.13.) Whoever is shut out may only end what is at work.
fn finish(session: &Session, commands: Box<Commands>, end: &End) {
    let Some(mitra) = session.registration.seat().map(|seat| seat.id()) else { return };
    let (gateway, id) = (Arc::clone(&session.gateway), session.id);
    let is_shut_out = matches!(end, End::Close(close) if close.is_final());
    let finishing = async move {
        let mut commands = Some(commands);
        while let Some(mut work) = commands.as_mut().and_then(|held| held.at_work.take()) {
            if let Err(error) = work.answered().await {
                tracing::debug!(%error, "a command of a socket that is gone was refused");
            }
            if is_shut_out {
                return;
            }
            next_command(&gateway, id, mitra, &mut commands);
        }
    };
    session.gateway.lifecycle.spawn(finishing.instrument(socket_span(id)));
}

async fn converse(
    session: &mut Session,
    status: Option<StatusChange>,
    commands: &mut Option<Box<Commands>>,
) -> Result<std::convert::Infallible, End> {
    let Some(seat) = session.registration.seat().map(Arc::clone) else { return Err(Close::INTERNAL.into()) };
    // What was found on coming in, unless something newer was learnt since.
    let mut told = seat.version();
    if let Some(change) = status {
        seat.learn(&change);
        told = seat.version();
        let newest = seat.belief().map_or_else(|| change.clone(), |belief| (*belief).clone());
        let initial = StatusChange { reason: change.reason, ..newest };
        session.send(encode("status", &StatusBody::new(&initial, true))).await?;
    }
    // Coming in is heard, and is the first heartbeat.
    session.heard();
    loop {
        // Before an order to close: whoever is deactivated is told so first.
        let version = seat.version();
        if version != told {
            told = version;
            if let Some(belief) = seat.belief() {
                session.send(encode("status", &StatusBody::new(&belief, true))).await?;
            }
            // If that had to wait, something else may have happened meanwhile.
            continue;
        }
        session.orders().await?;
        if session.is_due() {
            session.on_moment(None).await?;
        }
        session.set_alarm();
        tokio::select! {
            biased;
            () = session.registration.woken() => session.look(),
            (id, answer) = answered(commands) => {
                session.look();
                next_command(&session.gateway, session.id, seat.id(), commands);
                Box::pin(tell(session, id.as_deref(), answer)).await?;
            }
            refreshed = refreshed(&mut session.refreshing) => {
                session.look();
                Box::pin(session.end_refresh(refreshed)).await?;
            }
            message = session.socket.next() => {
                let message = message?;
                session.heard();
                session.gateway.metrics.heartbeat();
                if let Some(message) = session.take(message).await? {
                    let held = commands.get_or_insert_default();
                    if held.waiting.len() >= WAITING_COMMANDS {
                        let text = "earlier commands are not answered yet";
                        session.send_error(message.id.as_deref(), ErrorCode::RateLimited, text).await?;
                    } else {
                        held.waiting.push_back(message);
                        if held.at_work.is_none() {
                            next_command(&session.gateway, session.id, seat.id(), commands);
                        }
                    }
                }
            }
        }
    }
}

async fn answered(commands: &mut Option<Box<Commands>>) -> (Option<String>, Result<(), PresenceError>) {
    match commands.as_mut().and_then(|held| held.at_work.as_mut()) {
        Some(work) => {
            let answer = work.answered().await;
            (work.id.take(), answer)
        }
        None => pending().await,
    }
}

/// Puts the next waiting command to work; pings are heard and answered meanwhile.
fn next_command(gateway: &Arc<Gateway>, socket: Uuid, mitra: MitraId, commands: &mut Option<Box<Commands>>) {
    let Some(held) = commands else { return };
    held.at_work = held.waiting.pop_front().map(|message| {
        let presence = Arc::clone(&gateway.presence);
        let (tell, answer) = oneshot::channel();
        let working = async move {
            let result = match message.command {
                Command::Online => presence.go_online(mitra, Actor::Mitra).await.map(|_| ()),
                Command::Offline => presence.go_offline(mitra, Actor::Mitra).await.map(|_| ()),
                // The session has answered all others itself.
                Command::Ping | Command::Auth { .. } | Command::Refresh { .. } => Ok(()),
            };
            // Whoever is shut out hears nothing any more.
            let _gone = tell.send(result);
        };
        gateway.lifecycle.spawn(working.instrument(socket_span(socket)));
        AtWork { id: message.id, answer }
    });
    if held.at_work.is_none() {
        *commands = None;
    }
}

async fn tell(session: &mut Session, id: Option<&str>, answer: Result<(), PresenceError>) -> Result<(), End> {
    match answer {
        Ok(()) => session.send(ack(id)).await,
        Err(error) => session.send_error(id, error.code(), &error.to_string()).await,
    }
}

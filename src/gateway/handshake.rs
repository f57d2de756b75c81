//! The opening handshake (RFC 6455 section 4.2), from the request's headers alone.

use axum::{body::Body, extract::Request, response::Response};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{
    auth,
    protocol::{ErrorCode, Problem, SUBPROTOCOL},
};

/// A request that may become a socket.
pub(super) struct Handshake {
    accept: String,
    subprotocol: bool,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// Checks the request. The response is the refusal.
    pub(super) fn check(request: &mut Request) -> Result<Self, Box<Response>> {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        // RFC 6455 section 4.1; the router lets HEAD through wherever GET is.
        if request.method() != Method::GET {
            let problem = Problem::new(ErrorCode::MethodNotAllowed, "a WebSocket begins with GET");
            let mut response = refuse(problem);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
            return Err(response);
        }
        let headers = request.headers();
        if !has_word(headers, header::CONNECTION, "upgrade") || !has_word(headers, header::UPGRADE, "websocket") {
            let detail = "this path is a WebSocket: send `Connection: Upgrade` and `Upgrade: websocket`";
            return Err(refuse(Problem::new(ErrorCode::BadRequest, detail)));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            let problem = Problem::new(ErrorCode::BadRequest, "only WebSocket version 13 is spoken here");
            let mut response = refuse(problem.with_status(StatusCode::UPGRADE_REQUIRED));
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return Err(response);
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
        if BASE64_STANDARD.decode(key).map_or(0, |decoded| decoded.len()) != 16 {
            let detail = "`Sec-WebSocket-Key` must be 16 bytes in base64";
            return Err(refuse(Problem::new(ErrorCode::BadRequest, detail)));
        }
        if auth::query_carries_token(request.uri().query()) {
            let detail = "a token in the query ends in logs: send it in the Authorization header, as the subprotocol \
                          `hadir.bearer.<token>`, or in a first message";
            return Err(refuse(Problem::new(ErrorCode::Unauthorized, detail)));
        }
        let Some(upgrade) = upgrade else {
            return Err(refuse(Problem::new(ErrorCode::BadRequest, "this connection cannot be upgraded")));
        };
        Ok(Self { accept: derive_accept_key(key), subprotocol: auth::speaks_subprotocol(headers), upgrade })
    }

    /// The answer `101`, and what completes when the client has it.
    pub(super) fn accept(self) -> (Response, OnUpgrade) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        (response, self.upgrade)
    }
}

/// A refusal before the upgrade.
pub(super) fn refuse(problem: Problem) -> Box<Response> {
    Box::new(problem.into_http().map(Body::from))
}

fn has_word(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(word))
}

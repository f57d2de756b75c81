//! One running node: the real product on port 0, a proxy in front of each of its stores.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chrono::Utc;
use hadir::{
    app::Server,
    auth::{Grant, Operator},
    config::Config,
    domain::{Actor, Cause, MitraId, Mode, Role, SubjectId},
    presence::Presence,
    replication::HeartbeatWriter,
    store::Store,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Client, eventually,
    proxy::{Proxy, Traffic},
};

/// A node and its proxies.
pub struct Node {
    server: Server,
    proxies: Option<Proxies>,
    http: reqwest::Client,
}

/// What stands between a node and its stores.
pub(super) struct Proxies {
    pub store: Proxy,
    /// `None` where Valkey is found through Sentinels or a cluster's map: those name addresses that no proxy has.
    pub mirror: Option<Proxy>,
}

/// A mitra of a fixture, with a token of its own.
#[derive(Clone, Debug)]
pub struct Mitra {
    pub id: MitraId,
    pub token: String,
}

/// A REST answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Reply {
    async fn read(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.expect("a body") }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// Status and code of a refusal, which must be a whole problem document.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text);
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16(), "{body}");
        assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
        (self.status.as_u16(), body["code"].as_str().expect("a code").to_owned())
    }
}

impl Node {
    pub(super) async fn start(settings: &[(String, String)], proxies: Option<Proxies>) -> anyhow::Result<Self> {
        let pairs: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        let server = Server::start(Config::from_pairs(&pairs)?).await?;
        Ok(Self { server, proxies, http: reqwest::Client::new() })
    }

    pub fn public(&self) -> SocketAddr {
        self.server.public_addr()
    }

    pub fn internal(&self) -> SocketAddr {
        self.server.internal_addr()
    }

    pub fn presence(&self) -> &Arc<Presence> {
        self.server.presence()
    }

    /// The way of this node's heartbeats, for driving it by hand.
    pub fn heartbeats(&self) -> &Arc<HeartbeatWriter> {
        self.server.heartbeats()
    }

    /// The truth, asked through this node's proxy.
    pub fn store(&self) -> &Arc<dyn Store> {
        self.server.store()
    }

    /// What passes between this node and Postgres.
    pub fn store_traffic(&self, traffic: Traffic) {
        self.proxies.as_ref().expect("a clustered node").store.set(traffic);
    }

    /// What passes between this node and Valkey.
    pub fn mirror_traffic(&self, traffic: Traffic) {
        self.mirror_proxy().set(traffic);
    }

    /// From now on the address of Valkey leads this node there; connections that stand stay where they are.
    pub fn mirror_moves(&self, to: SocketAddr) {
        self.mirror_proxy().aim(to);
    }

    fn mirror_proxy(&self) -> &Proxy {
        let proxies = self.proxies.as_ref().expect("a clustered node");
        proxies.mirror.as_ref().expect("one server of Valkey at one address")
    }

    /// Waits until this node answers in this way.
    pub async fn reaches(&self, mode: Mode) {
        eventually(&format!("mode {mode:?}"), async || (self.presence().mode() == mode).then_some(())).await;
    }

    /// A token of a new subject.
    pub fn token(&self, role: Role) -> String {
        self.token_of(SubjectId(Uuid::new_v4()), role)
    }

    pub fn token_of(&self, subject: impl Into<SubjectId>, role: Role) -> String {
        self.server.issuer().expect("a secret").token(subject, role)
    }

    /// A token that lives so long, on a sign-in if one is named.
    pub fn token_for(
        &self,
        subject: impl Into<SubjectId>,
        role: Role,
        session_id: Option<Uuid>,
        ttl: Duration,
    ) -> String {
        let grant = Grant { subject: subject.into(), role, session_id, ttl };
        self.server.issuer().expect("a secret").issue(&grant, Utc::now())
    }

    /// A dashboard token of this person.
    pub fn operator_token(&self, name: Option<&str>, read_only: bool) -> String {
        let (subject, ttl) = (SubjectId(Uuid::new_v4()), Duration::from_secs(600));
        let grant = Grant { subject, role: Role::Dashboard, session_id: None, ttl };
        let operator = Operator { name: name.map(str::to_owned), read_only };
        self.server.issuer().expect("a secret").issue_to(&operator, &grant, Utc::now())
    }

    /// A token that expired an hour ago.
    pub fn expired_token(&self, role: Role) -> String {
        let grant = Grant { subject: SubjectId(Uuid::new_v4()), role, session_id: None, ttl: Duration::from_secs(60) };
        self.server.issuer().expect("a secret").issue(&grant, Utc::now() - chrono::TimeDelta::hours(1))
    }

    /// A mitra that exists and is offline.
    pub async fn mitra(&self) -> Mitra {
        self.mitra_with_capacity(None).await
    }

    pub async fn mitra_with_capacity(&self, max_sessions: Option<u32>) -> Mitra {
        let id = MitraId(Uuid::new_v4());
        self.presence().put_mitra(id, "Sari", max_sessions, Actor::Service).await.expect("created");
        Mitra { id, token: self.token_of(id, Role::Mitra) }
    }

    /// A mitra that is online in both stores.
    pub async fn online_mitra(&self) -> Mitra {
        let mitra = self.mitra().await;
        self.presence().go_online(mitra.id, Actor::Mitra).await.expect("online");
        mitra
    }

    pub async fn deactivate(&self, mitra: &Mitra) {
        let cause = Cause::new(Actor::Dashboard, "a test");
        self.presence().set_active(mitra.id, false, cause).await.expect("deactivated");
    }

    /// A request to the listener that serves the path.
    pub fn request(&self, method: Method, path: &str, token: &str) -> reqwest::RequestBuilder {
        let listener = if path.starts_with("/api/") { self.public() } else { self.internal() };
        let request = self.http.request(method, format!("http://{listener}{path}"));
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }

    pub async fn ask(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Reply {
        let request = self.request(method, path, token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        Reply::read(request.send().await.expect("an answer")).await
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        Reply::read(request.send().await.expect("an answer")).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Reply {
        self.ask(Method::GET, path, token, None).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Reply {
        self.ask(Method::POST, path, token, Some(body)).await
    }

    /// The answer of a call that must succeed.
    pub async fn good(&self, path: &str, token: &str) -> Value {
        let reply = self.get(path, token).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
        reply.json()
    }

    /// A mitra's socket, its welcome and first status read.
    pub async fn dial_mitra(&self, mitra: &Mitra) -> Client {
        let mut client = Client::dial(self.public(), "/ws/mitra", &mitra.token).await;
        client.first_status = client.frame("status").await;
        client
    }

    /// A customer's socket, its welcome read.
    pub async fn dial_customer(&self) -> Client {
        Client::dial(self.public(), "/ws/availability", &self.token(Role::Customer)).await
    }

    /// A dashboard's socket, its welcome read.
    pub async fn dial_dashboard(&self) -> Client {
        Client::dial(self.internal(), "/ws/dashboard", &self.token(Role::Dashboard)).await
    }

    /// The mirror believes what the store says, everything known was delivered.
    pub async fn flushed(&self) {
        let _undelivered = self.heartbeats().flush().await;
        let _unwritten = self.heartbeats().flush_to_store().await;
    }

    pub async fn stop(self) {
        self.server.stop().await;
    }
}

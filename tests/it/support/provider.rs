//! An identity provider: keys that sign tokens, published by a real HTTP server that can misbehave.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::IntoResponse,
    routing::get,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::Utc;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use uuid::Uuid;

use super::{Node, World};

/// A key of the identity provider.
pub struct Key {
    pub id: String,
    pub algorithm: Algorithm,
    pub signs: EncodingKey,
    /// As the provider publishes it.
    pub public: Value,
}

fn published(signs: &EncodingKey, algorithm: Algorithm) -> Value {
    let jwk = Jwk::from_encoding_key(signs, algorithm).expect("a public key");
    serde_json::to_value(jwk).expect("JSON")
}

impl Key {
    pub fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("generated");
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key pair");
        let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
        let public = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "x": x });
        Self::new(Algorithm::EdDSA, EncodingKey::from_ed_der(pkcs8.as_ref()), public)
    }

    pub fn p256() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let signs = EncodingKey::from_ec_der(pkcs8.expect("generated").as_ref());
        let public = published(&signs, Algorithm::ES256);
        Self::new(Algorithm::ES256, signs, public)
    }

    pub fn rsa() -> Self {
        // The library wants PKCS #1, which stands behind the 26 bytes of PKCS #8's frame.
        let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("generated");
        let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).expect("encoded");
        let signs = EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]);
        let public = published(&signs, Algorithm::RS256);
        Self::new(Algorithm::RS256, signs, public)
    }

    pub fn new(algorithm: Algorithm, signs: EncodingKey, mut public: Value) -> Self {
        let id = Uuid::new_v4().to_string();
        public["kid"] = json!(id);
        Self { id, algorithm, signs, public }
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.signs).expect("signed")
    }

    pub fn customer(&self) -> String {
        self.sign(&claims("customer"))
    }
}

/// A key that no key set has.
pub fn any_key() -> EncodingKey {
    Key::ed25519().signs
}

pub fn claims(role: &str) -> Value {
    json!({ "sub": Uuid::new_v4(), "role": role, "exp": Utc::now().timestamp() + 600 })
}

fn key_set(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.public.clone()).collect::<Vec<_>>() }).to_string()
}

/// What the provider's server does with a request.
#[derive(Clone)]
pub enum Behaviour {
    Answers(String),
    Fails,
    Hangs,
    /// Sends a byte now and then, and comes to no end.
    Dribbles,
    /// Sends as fast as it is read, and comes to no end.
    Floods,
    RedirectsTo(String),
}

#[derive(Clone)]
struct Shared {
    behaviour: Arc<Mutex<Behaviour>>,
    asked: Arc<AtomicUsize>,
}

/// The provider's HTTP server.
pub struct Provider {
    address: SocketAddr,
    shared: Shared,
    serving: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Provider {
    pub async fn publishing(keys: &[&Key]) -> Self {
        Self::publishing_at("127.0.0.1:0".parse().expect("an address"), keys).await
    }

    /// At an address that was chosen before.
    pub async fn publishing_at(address: SocketAddr, keys: &[&Key]) -> Self {
        let behaviour = Arc::new(Mutex::new(Behaviour::Answers(key_set(keys))));
        let shared = Shared { behaviour, asked: Arc::default() };
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/jwks.json", get(answer)).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { address, shared, serving }
    }

    pub fn set(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    pub fn publish(&self, keys: &[&Key]) {
        self.set(Behaviour::Answers(key_set(keys)));
    }

    pub fn asked(&self) -> usize {
        self.shared.asked.load(Relaxed)
    }

    pub fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    pub async fn node(&self, world: &World, more: &[(&str, &str)]) -> Node {
        let url = self.url();
        world.node_with(&[&[("AUTH_JWKS_URL", url.as_str())], more].concat()).await
    }
}

async fn answer(State(shared): State<Shared>) -> axum::response::Response {
    shared.asked.fetch_add(1, Relaxed);
    let behaviour = shared.behaviour.lock().clone();
    match behaviour {
        Behaviour::Answers(body) => body.into_response(),
        Behaviour::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Behaviour::Hangs => std::future::pending().await,
        Behaviour::Dribbles => endless(Bytes::from_static(b" "), Duration::from_millis(20)),
        Behaviour::Floods => endless(Bytes::from(vec![b' '; 64 * 1024]), Duration::ZERO),
        Behaviour::RedirectsTo(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
    }
}

fn endless(piece: Bytes, pause: Duration) -> axum::response::Response {
    let pieces = futures_util::stream::unfold(piece, move |piece| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, Infallible>(piece.clone()), piece))
    });
    Body::from_stream(pieces).into_response()
}

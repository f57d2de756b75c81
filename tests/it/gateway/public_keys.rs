//! Tokens signed by an identity provider, whose keys are published by a real HTTP server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::Utc;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, task::JoinSet};
use uuid::Uuid;

use crate::support::{
    Client, Node, World,
    client::{opening, with_header},
    eventually, on_both,
};

on_both!(
    tokens_of_every_supported_key_are_accepted_beside_the_secrets,
    a_rotation_under_load_refuses_no_good_token,
    unknown_keys_cause_one_refresh_and_no_flood,
    a_source_that_misbehaves_keeps_the_known_keys_and_lets_no_others_in,
    foreign_claims_and_role_names_are_mapped,
    a_key_signs_with_its_own_algorithm_only,
);

/// A key of the identity provider.
struct Key {
    id: String,
    algorithm: Algorithm,
    signs: EncodingKey,
    /// As the provider publishes it.
    public: Value,
}

fn published(signs: &EncodingKey, algorithm: Algorithm) -> Value {
    let jwk = Jwk::from_encoding_key(signs, algorithm).expect("a public key");
    serde_json::to_value(jwk).expect("JSON")
}

impl Key {
    fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("generated");
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key pair");
        let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
        let public = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "x": x });
        Self::new(Algorithm::EdDSA, EncodingKey::from_ed_der(pkcs8.as_ref()), public)
    }

    fn p256() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let signs = EncodingKey::from_ec_der(pkcs8.expect("generated").as_ref());
        let public = published(&signs, Algorithm::ES256);
        Self::new(Algorithm::ES256, signs, public)
    }

    fn rsa() -> Self {
        // The library wants PKCS #1, which stands behind the 26 bytes of PKCS #8's frame.
        let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("generated");
        let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).expect("encoded");
        let signs = EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]);
        let public = published(&signs, Algorithm::RS256);
        Self::new(Algorithm::RS256, signs, public)
    }

    fn new(algorithm: Algorithm, signs: EncodingKey, mut public: Value) -> Self {
        let id = Uuid::new_v4().to_string();
        public["kid"] = json!(id);
        Self { id, algorithm, signs, public }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.signs).expect("signed")
    }

    fn customer(&self) -> String {
        self.sign(&claims("customer"))
    }
}

/// A key that no key set has.
pub fn any_key() -> EncodingKey {
    Key::ed25519().signs
}

fn claims(role: &str) -> Value {
    json!({ "sub": Uuid::new_v4(), "role": role, "exp": Utc::now().timestamp() + 600 })
}

fn key_set(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.public.clone()).collect::<Vec<_>>() }).to_string()
}

/// What the provider's server does with a request.
#[derive(Clone)]
enum Behaviour {
    Answers(String),
    Fails,
    Hangs,
    RedirectsTo(String),
}

#[derive(Clone)]
struct Shared {
    behaviour: Arc<Mutex<Behaviour>>,
    asked: Arc<AtomicUsize>,
}

/// The provider's HTTP server.
struct Provider {
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
    async fn publishing(keys: &[&Key]) -> Self {
        let behaviour = Arc::new(Mutex::new(Behaviour::Answers(key_set(keys))));
        let shared = Shared { behaviour, asked: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/jwks.json", get(answer)).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { address, shared, serving }
    }

    fn set(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    fn publish(&self, keys: &[&Key]) {
        self.set(Behaviour::Answers(key_set(keys)));
    }

    fn asked(&self) -> usize {
        self.shared.asked.load(Relaxed)
    }

    fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    async fn node(&self, world: &World, more: &[(&str, &str)]) -> Node {
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
        Behaviour::RedirectsTo(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
    }
}

async fn status(node: &Node, token: &str) -> u16 {
    node.get("/api/client/availability", token).await.status.as_u16()
}

async fn tokens_of_every_supported_key_are_accepted_beside_the_secrets(world: World) {
    let keys = [Key::ed25519(), Key::p256(), Key::rsa()];
    let provider = Provider::publishing(&keys.each_ref()).await;
    let node = provider.node(&world, &[]).await;
    for key in &keys {
        assert_eq!(status(&node, &key.customer()).await, 200, "{:?}", key.algorithm);
        let request = opening(node.public(), "/ws/availability");
        let request = with_header(request, "authorization", &format!("Bearer {}", key.customer()));
        Client::open(node.public(), request).await.expect("upgraded");
    }
    let own = node.token(hadir::domain::Role::Customer);
    assert_eq!(status(&node, &own).await, 200, "the shared secret stays valid during a migration");
}

async fn a_rotation_under_load_refuses_no_good_token(world: World) {
    let (old, new) = (Arc::new(Key::p256()), Arc::new(Key::p256()));
    let provider = Provider::publishing(&[&old]).await;
    let node = Arc::new(provider.node(&world, &[]).await);
    assert_eq!(status(&node, &old.customer()).await, 200);
    // The provider publishes both before it signs with the new one, and keeps the old one for a while.
    provider.publish(&[&old, &new]);
    let mut load = JoinSet::new();
    for number in 0..20 {
        let (node, key) = (Arc::clone(&node), Arc::clone(if number % 2 == 0 { &old } else { &new }));
        load.spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..20 {
                answers.push(status(&node, &key.customer()).await);
            }
            answers
        });
    }
    let answers: Vec<u16> = load.join_all().await.concat();
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert_eq!(provider.asked(), 2, "at the start, and once for the unknown key");
}

async fn unknown_keys_cause_one_refresh_and_no_flood(world: World) {
    let (known, stranger) = (Key::ed25519(), Key::ed25519());
    let provider = Provider::publishing(&[&known]).await;
    let node = provider.node(&world, &[]).await;
    for _ in 0..100 {
        let unknown = Key::new(stranger.algorithm, stranger.signs.clone(), json!({}));
        assert_eq!(status(&node, &unknown.customer()).await, 401);
    }
    assert!(provider.asked() <= 3, "{} requests for 100 unknown keys", provider.asked());
    assert_eq!(status(&node, &known.customer()).await, 200);
}

async fn a_source_that_misbehaves_keeps_the_known_keys_and_lets_no_others_in(world: World) {
    let (known, later) = (Key::p256(), Key::p256());
    let provider = Provider::publishing(&[&known]).await;
    let node = provider.node(&world, &[("AUTH_JWKS_REFRESH_SECONDS", "0.05")]).await;
    assert_eq!(status(&node, &known.customer()).await, 200);
    let elsewhere = Provider::publishing(&[&later]).await;
    let huge = format!("{{\"keys\":[],\"padding\":\"{}\"}}", "x".repeat(300_000));
    let faults = [
        ("fails", Behaviour::Fails),
        ("malformed", Behaviour::Answers("{\"keys\": 7".to_owned())),
        ("no key set", Behaviour::Answers("[]".to_owned())),
        ("empty", Behaviour::Answers("{\"keys\":[]}".to_owned())),
        ("huge", Behaviour::Answers(huge)),
        ("redirect", Behaviour::RedirectsTo(elsewhere.url())),
        ("hangs", Behaviour::Hangs),
    ];
    for (what, fault) in faults {
        provider.set(fault);
        let before = provider.asked();
        eventually("another refresh", async || (provider.asked() > before + 1 || what == "hangs").then_some(())).await;
        assert_eq!(status(&node, &known.customer()).await, 200, "{what}");
        assert_eq!(status(&node, &later.customer()).await, 401, "{what}");
    }
    assert_eq!(elsewhere.asked(), 0, "no redirect is followed");
    provider.publish(&[&later]);
    eventually("the new key", async || (status(&node, &later.customer()).await == 200).then_some(())).await;
    assert_eq!(status(&node, &known.customer()).await, 401, "a key that is withdrawn is worth nothing");
}

async fn foreign_claims_and_role_names_are_mapped(world: World) {
    let key = Key::rsa();
    let provider = Provider::publishing(&[&key]).await;
    let mapping = [
        ("AUTH_CLAIM_SUB", "app_metadata.hadir_id"),
        ("AUTH_CLAIM_ROLE", "realm_access.roles"),
        ("AUTH_ROLE_MAP", "member=customer,admin=dashboard"),
    ];
    let node = provider.node(&world, &mapping).await;
    let token = |roles: Value| {
        key.sign(&json!({
            "sub": "auth0|64f", "exp": Utc::now().timestamp() + 60,
            "app_metadata": { "hadir_id": Uuid::new_v4() }, "realm_access": { "roles": roles },
        }))
    };
    assert_eq!(status(&node, &token(json!(["offline_access", "member"]))).await, 200);
    assert_eq!(status(&node, &token(json!("member"))).await, 200);
    assert_eq!(status(&node, &token(json!(["customer"]))).await, 401, "a foreign `customer` means nothing here");
    assert_eq!(status(&node, &token(json!(["member", "admin"]))).await, 401, "one role, not two");
    assert_eq!(status(&node, &key.customer()).await, 401, "the claims are looked for where they were said to be");
    let own = node.token(hadir::domain::Role::Customer);
    assert_eq!(status(&node, &own).await, 200, "tokens of `hadir token` stay good");
}

async fn a_key_signs_with_its_own_algorithm_only(world: World) {
    let key = Key::rsa();
    let provider = Provider::publishing(&[&key]).await;
    let node = provider.node(&world, &[]).await;
    // The public key as an HMAC secret: the classic confusion.
    let modulus = key.public["n"].as_str().expect("a modulus").to_owned();
    let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::HS256) };
    let forged = EncodingKey::from_secret(modulus.as_bytes());
    let forged = jsonwebtoken::encode(&header, &claims("service"), &forged).expect("signed");
    assert_eq!(status(&node, &forged).await, 401);
    let other = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::RS512) };
    let other = jsonwebtoken::encode(&other, &claims("customer"), &key.signs).expect("signed");
    assert_eq!(status(&node, &other).await, 401);
}

//! Tokens signed by an identity provider, whose keys are published by a real HTTP server.

use std::sync::Arc;

use chrono::Utc;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};
use uuid::Uuid;

use crate::support::{
    Client, Node, PATIENCE, World,
    client::{opening, with_header},
    eventually, on_both,
    provider::{Behaviour, Key, Provider, claims},
    valkey::free_port,
};

on_both!(
    tokens_of_every_supported_key_are_accepted_beside_the_secrets,
    a_rotation_under_load_refuses_no_good_token,
    unknown_keys_cause_one_refresh_and_no_flood,
    a_source_that_misbehaves_keeps_the_known_keys_and_lets_no_others_in,
    a_source_that_never_ends_holds_up_no_token_of_a_known_key,
    a_node_starts_without_its_source_and_takes_the_keys_when_it_comes,
    a_flood_of_unknown_keys_at_a_source_that_hangs_is_answered_and_holds_up_no_other,
    foreign_claims_and_role_names_are_mapped,
    a_key_signs_with_its_own_algorithm_only,
);

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

async fn a_source_that_never_ends_holds_up_no_token_of_a_known_key(world: World) {
    let (known, later) = (Key::p256(), Key::p256());
    let provider = Provider::publishing(&[&known]).await;
    let node = provider.node(&world, &[("AUTH_JWKS_REFRESH_SECONDS", "0.05")]).await;
    for fault in [Behaviour::Floods, Behaviour::Dribbles] {
        provider.set(fault);
        let before = provider.asked();
        // Each fetch is ended by its size or its time, and the next one begins.
        eventually("two more fetches", async || (provider.asked() > before + 1).then_some(())).await;
        assert_eq!(status(&node, &known.customer()).await, 200);
        assert_eq!(status(&node, &later.customer()).await, 401);
    }
    provider.publish(&[&known, &later]);
    eventually("the new key", async || (status(&node, &later.customer()).await == 200).then_some(())).await;
}

async fn a_node_starts_without_its_source_and_takes_the_keys_when_it_comes(world: World) {
    let (key, address) = (Key::ed25519(), format!("127.0.0.1:{}", free_port()));
    let url = format!("http://{address}/jwks.json");
    let settings = [("AUTH_JWKS_URL", url.as_str()), ("AUTH_JWKS_REFRESH_SECONDS", "0.05")];
    let node = world.node_with(&settings).await;
    assert_eq!(status(&node, &key.customer()).await, 401, "no key, no entry");
    assert_eq!(status(&node, &node.token(hadir::domain::Role::Customer)).await, 200, "the secret does not need it");
    let provider = Provider::publishing_at(address.parse().expect("an address"), &[&key]).await;
    eventually("the key", async || (status(&node, &key.customer()).await == 200).then_some(())).await;
    drop(provider);
    assert_eq!(status(&node, &key.customer()).await, 200, "known keys stay in force");
}

async fn a_flood_of_unknown_keys_at_a_source_that_hangs_is_answered_and_holds_up_no_other(world: World) {
    let (known, stranger) = (Arc::new(Key::ed25519()), Key::ed25519());
    let provider = Provider::publishing(&[&known]).await;
    let node = Arc::new(provider.node(&world, &[]).await);
    provider.set(Behaviour::Hangs);
    let mut flood = JoinSet::new();
    for _ in 0..50 {
        let unknown = Key::new(stranger.algorithm, stranger.signs.clone(), json!({})).customer();
        let node = Arc::clone(&node);
        flood.spawn(async move { status(&node, &unknown).await });
    }
    eventually("the source is asked", async || (provider.asked() > 1).then_some(())).await;
    for _ in 0..20 {
        assert_eq!(status(&node, &known.customer()).await, 200);
    }
    let answers = timeout(PATIENCE, flood.join_all()).await.expect("every one is answered");
    assert!(answers.iter().all(|status| *status == 401), "{answers:?}");
    assert!(provider.asked() <= 3, "at the start, once for all of the flood, and once because that failed");
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

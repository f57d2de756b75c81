//! TLS to a real server with a private certificate authority.

use std::path::PathBuf;

use hadir::mirror::valkey::{ValkeySetupError, ValkeyTls};

use crate::support::{authority::Authority, postgres, process::hadir, valkey::Server, world::SECRET};

use super::{fails_with, open, works};

/// A server that speaks nothing but TLS, with a certificate for `name`.
fn encrypted(authority: &Authority, name: &str, asks_for_certificates: bool) -> Server {
    let (certificate, key) = authority.issue(name);
    let text = |path: PathBuf| path.display().to_string();
    let (certificate, key, ca) = (text(certificate), text(key), text(authority.certificate()));
    let asks = if asks_for_certificates { "yes" } else { "no" };
    Server::launch(None, |port, folder| {
        let port = port.to_string();
        [
            ["--port", "0"],
            ["--tls-port", &port],
            ["--tls-cert-file", &certificate],
            ["--tls-key-file", &key],
            ["--tls-ca-cert-file", &ca],
            ["--tls-auth-clients", asks],
            ["--bind", "127.0.0.1"],
            ["--save", ""],
            ["--dir", folder],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
    })
}

fn trusting(authority: &Authority) -> ValkeyTls {
    ValkeyTls { ca_file: Some(authority.certificate()), ..ValkeyTls::default() }
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_named_and_only_there() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = encrypted(&authority, "IP:127.0.0.1", false);
    for scheme in ["rediss", "valkeys"] {
        let url = format!("{scheme}://{}/3", server.address());
        works(scheme, open(&url, trusting(&authority)).await.unwrap()).await;
    }
    let url = format!("rediss://{}", server.address());
    fails_with("an authority that is not trusted", open(&url, trusting(&other)).await.unwrap()).await;

    // The program, with the setting that operators write.
    let schema = postgres::schema().await;
    let check = |ca: &Authority| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = hadir(&folder);
        command.env("DATABASE_URL", &schema.url).env("HADIR_DB_SCHEMA", &schema.name).env("VALKEY_URL", &url);
        command.env("AUTH_JWT_SECRET", SECRET).env("VALKEY_TLS_CA_FILE", ca.certificate());
        let lines = String::from_utf8(command.arg("check").output().unwrap().stdout).unwrap();
        lines.lines().find(|line| line.contains("VALKEY_URL") || line.contains("mirror")).unwrap_or(&lines).to_owned()
    };
    assert!(check(&other).contains("VALKEY_TLS_CA_FILE"), "{}", check(&other));
    assert!(!check(&authority).contains("not trusted"), "{}", check(&authority));
}

#[tokio::test]
async fn the_name_in_a_certificate_is_compared() {
    let authority = Authority::new();
    let server = encrypted(&authority, "DNS:elsewhere.example", false);
    let url = format!("rediss://{}", server.address());
    fails_with("a certificate for another name", open(&url, trusting(&authority)).await.unwrap()).await;
    // As behind Sentinels, which name servers by IP address: a host that the operator named counts too.
    let named = format!("rediss://{}?node=elsewhere.example:1", server.address());
    works("a name of the address", open(&named, trusting(&authority)).await.unwrap()).await;
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_gets_one() {
    let authority = Authority::new();
    let server = encrypted(&authority, "IP:127.0.0.1", true);
    let url = format!("rediss://{}", server.address());
    fails_with("wants a certificate", open(&url, trusting(&authority)).await.unwrap()).await;
    let (certificate, key) = authority.issue("DNS:node");
    let own = ValkeyTls { cert_file: Some(certificate), key_file: Some(key), ..trusting(&authority) };
    works("with a certificate", open(&url, own).await.unwrap()).await;
}

#[tokio::test]
async fn a_server_without_tls_and_a_file_without_certificates_are_named() {
    let server = Server::start();
    let authority = Authority::new();
    let url = format!("rediss://{}", server.address());
    fails_with("TLS", open(&url, trusting(&authority)).await.unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let files = ValkeyTls { ca_file: Some(empty), ..ValkeyTls::default() };
    let refused = open(&url, files).await.err();
    assert!(
        matches!(&refused, Some(ValkeySetupError::Tls(why)) if why.contains("VALKEY_TLS_CA_FILE") && why.contains("empty.pem")),
        "{refused:?}"
    );
}

//! Passwords, users, and sockets of a real server.

use hadir::{
    mirror::Mirror,
    mirror::valkey::{ValkeyMirror, ValkeyTls},
};

use crate::support::{eventually, valkey::Server};

use super::{fails_with, open, works};

/// What breaks a command that is put together from words: a space, both quotes, a backslash, no ASCII.
const AWKWARD: &str = r#"a b"c'd\e é%"#;
const AWKWARD_IN_URL: &str = "a%20b%22c%27d%5Ce%20%C3%A9%25";

async fn at(url: &str) -> ValkeyMirror {
    open(url, ValkeyTls::default()).await.expect("a usable address")
}

#[tokio::test]
async fn a_password_may_hold_spaces_and_quotes() {
    let server = Server::start();
    let address = server.address();
    let mut raw = server.raw();
    raw.ask(&["CONFIG", "SET", "requirepass", AWKWARD]);
    works("the default user", at(&format!("valkey://:{AWKWARD_IN_URL}@{address}/2")).await).await;
    raw.ask(&["ACL", "SETUSER", "hadir", "on", &format!(">{AWKWARD}x"), "~*", "&*", "+@all"]);
    works("a user", at(&format!("valkey://hadir:{AWKWARD_IN_URL}x@{address}")).await).await;
    let wrong = at(&format!("valkey://hadir:{AWKWARD_IN_URL}@{address}")).await;
    fails_with("refuses the user or the password", wrong).await;
    fails_with("wants a password", at(&format!("valkey://{address}")).await).await;
}

#[tokio::test]
async fn no_error_repeats_an_awkward_password() {
    let server = Server::start();
    let mut raw = server.raw();
    raw.ask(&["CONFIG", "SET", "requirepass", "other"]);
    let mirror = at(&format!("valkey://:{AWKWARD_IN_URL}@{}", server.address())).await;
    let said = eventually("refused", async || {
        let said = mirror.tick().await.expect_err("the password is wrong").to_string();
        said.contains("password").then_some(said)
    })
    .await;
    assert!(!said.contains(AWKWARD) && !said.contains(AWKWARD_IN_URL) && !said.contains("\\x20"), "{said}");
    mirror.close().await;
}

#[tokio::test]
async fn a_socket_is_as_good_as_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("valkey.sock").display().to_string();
    let server = Server::start_with(None, |_| ["--unixsocket", &path].map(str::to_owned).into());
    works("a socket", at(&format!("valkey+unix://{path}?db=4")).await).await;
    let mut raw = server.raw();
    assert_eq!(raw.ask(&["DBSIZE"]).number(), 0, "database 0 is another's");
    raw.ask(&["SELECT", "4"]);
    assert!(raw.ask(&["DBSIZE"]).number() > 0, "it wrote to database 4");
    raw.ask(&["CONFIG", "SET", "requirepass", AWKWARD]);
    works("with a password", at(&format!("unix://:{AWKWARD_IN_URL}@localhost{path}?db=4")).await).await;
    fails_with("there is no socket at", at(&format!("unix://{path}.gone")).await).await;
}

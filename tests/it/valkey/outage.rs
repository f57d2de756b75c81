//! An outage of Valkey in the log: one warning with its reason when it begins, one line with its length when it ends.

use crate::support::{
    eventually, postgres,
    process::{Running, hadir},
    rights::documented_user,
    valkey::{Answer, Server},
    world::SECRET,
};

#[tokio::test]
async fn a_user_who_may_not_subscribe_is_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    let schema = postgres::schema().await;
    let valkey = Server::start();
    let url = documented_user(&valkey, 0);
    valkey.raw().ask(&["ACL", "SETUSER", "hadir", "-subscribe"]);
    let log = folder.path().join("log");
    let mut command = hadir(&folder);
    command.env("DATABASE_URL", &schema.url).env("HADIR_DB_SCHEMA", &schema.name).env("VALKEY_URL", url);
    command.env("AUTH_JWT_SECRET", SECRET).env("HADIR_LOG_FORMAT", "json");
    command.stderr(std::fs::File::create(&log).unwrap());
    let (_server, _) = tokio::task::spawn_blocking(move || Running::start_heard(command)).await.unwrap();
    let count = |words: &str| std::fs::read_to_string(&log).unwrap().matches(words).count();
    let refused = "does not let this node subscribe";
    eventually("told", async || (count(refused) == 1).then_some(())).await;
    // The server counts what it refused in a row as one entry, with a count.
    eventually("tried again and again", async || {
        let Answer::List(entries) = valkey.raw().ask(&["ACL", "LOG"]) else { return None };
        let Some(Answer::List(entry)) = entries.first() else { return None };
        matches!(entry.get(1), Some(Answer::Number(count)) if *count > 3).then_some(())
    })
    .await;
    assert_eq!(count(refused), 1, "told once, although it was tried each second");
}

#[tokio::test]
async fn an_outage_is_one_warning_with_its_reason_and_one_line_with_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let schema = postgres::schema().await;
    let mut valkey = Server::with_password("hunter2");
    let log = folder.path().join("log");
    let mut command = hadir(&folder);
    command.env("DATABASE_URL", &schema.url).env("HADIR_DB_SCHEMA", &schema.name).env("VALKEY_URL", valkey.url(0));
    command.env("AUTH_JWT_SECRET", SECRET).env("HADIR_LOG_FORMAT", "json");
    command.stderr(std::fs::File::create(&log).unwrap());
    let (_server, _) = tokio::task::spawn_blocking(move || Running::start_heard(command)).await.unwrap();
    let lines = |word: &str| -> Vec<String> {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
    };
    for outage in 1..=2 {
        valkey.kill();
        eventually("told", async || (lines("the mirror is unavailable").len() == outage).then_some(())).await;
        valkey.restart();
        eventually("back", async || (lines("the mirror is available again").len() == outage).then_some(())).await;
    }
    let (lost, back) = (lines("the mirror is unavailable"), lines("the mirror is available again"));
    assert!(lost.iter().all(|line| line.contains("\"WARN\"") && line.contains("refused")), "{lost:?}");
    assert!(back.iter().all(|line| line.contains("\"INFO\"") && line.contains("\"seconds\":")), "{back:?}");
    let all = lines("");
    assert!(!all.iter().any(|line| line.contains("hunter2") || line.contains("mode changed")), "{all:?}");
    let warnings: Vec<_> = all.iter().filter(|line| line.contains("\"WARN\"")).collect();
    assert_eq!(warnings.len(), 2, "nothing else complains: {warnings:?}");
}

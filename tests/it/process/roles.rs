//! deploy/postgres/roles.sql on a real server: one role migrates, the other one runs the server and changes no table.

use std::process::{Command, Output};

use serde_json::json;

use super::{Running, hadir};
use crate::support::{postgres, process::said, world::SECRET};

const ROLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/postgres/roles.sql");

fn psql(url: &str, arguments: &[&str]) -> Output {
    let asked = Command::new("psql").args([url, "-X", "-q", "-v", "ON_ERROR_STOP=1"]).args(arguments).output();
    asked.expect("psql is installed with PostgreSQL")
}

#[tokio::test]
async fn the_server_runs_as_a_role_that_may_not_change_tables() {
    let server = postgres::dedicated();
    let admin = server.url("postgres");
    let url_of = |role: &str| admin.replace("postgres@", &format!("{role}@"));
    let apply = || {
        let applied = psql(&admin, &["-v", "schema=shop", "-f", ROLES]);
        assert!(applied.status.success(), "{}", said(&applied));
    };
    let folder = tempfile::tempdir().unwrap();
    let program = |role: &str, arguments: &[&str]| {
        let mut command = hadir(&folder);
        command.env("DATABASE_URL", url_of(role)).env("HADIR_DB_SCHEMA", "shop").env("AUTH_JWT_SECRET", SECRET);
        command.env("HADIR_MIGRATE", "false").args(arguments);
        command
    };

    apply();
    let migrated = program("hadir_owner", &["migrate"]).output().unwrap();
    assert!(migrated.status.success(), "{}", said(&migrated));
    let refused = program("hadir_server", &["check"]).output().unwrap();
    assert!(!refused.status.success(), "the rights on the tables are still missing");
    apply();
    let checked = program("hadir_server", &["check"]).output().unwrap();
    let lines = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && lines.contains("every kind of write was tried"), "{lines}");
    assert!(!lines.contains("missing"), "{lines}");

    for statement in
        ["CREATE TABLE shop.more (id int)", "ALTER TABLE shop.mitras ADD more int", "DROP TABLE shop.mitras"]
    {
        let refused = psql(&url_of("hadir_server"), &["-c", statement]);
        assert!(!refused.status.success(), "{statement}");
    }

    let command = program("hadir_server", &["serve"]);
    let (_server, printed) = tokio::task::spawn_blocking(move || Running::start(command)).await.unwrap();
    let token = program("hadir_server", &["token", "--role", "service"]).output().unwrap();
    let token = String::from_utf8(token.stdout).unwrap();
    let mitra = uuid::Uuid::now_v7();
    let url = format!("{}/internal/mitras/{mitra}", printed["internal_url"].as_str().unwrap());
    let asked = reqwest::Client::new().put(url).bearer_auth(token.trim()).json(&json!({ "display_name": "Sari" }));
    let answer = asked.send().await.unwrap();
    assert!(answer.status().is_success(), "{}: {}", answer.status(), answer.text().await.unwrap());
}

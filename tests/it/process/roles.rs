//! The roles of `deploy/postgres/roles.sql`: one migrates, the other serves and may change no table.

use std::{path::PathBuf, process::Command};

use hadir::domain::Role;
use reqwest::StatusCode;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Running, hadir, output::token_of};
use crate::support::{Client, postgres, process::said, world::SECRET};

const SCHEMA: &str = "shop";

fn roles_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/postgres/roles.sql")
}

fn apply_roles(administrator: &str) {
    let mut psql = Command::new(postgres::programs().join("psql"));
    psql.args([administrator, "--no-psqlrc", "--quiet", "--variable", &format!("schema={SCHEMA}"), "--file"]);
    let output = psql.arg(roles_file()).output().expect("psql is installed");
    assert!(output.status.success(), "{}", said(&output));
}

fn command(folder: &TempDir, url: &str) -> Command {
    let mut command = hadir(folder);
    command.env("DATABASE_URL", url).env("HADIR_DB_SCHEMA", SCHEMA).env("AUTH_JWT_SECRET", SECRET);
    command
}

#[tokio::test]
async fn the_server_serves_with_a_role_that_may_change_no_table() {
    let server = postgres::dedicated();
    let administrator = server.url("postgres");
    let url_of = |role: &str| administrator.replace("postgres@", &format!("{role}@"));
    let folder = tempfile::tempdir().unwrap();

    apply_roles(&administrator);
    let migrated = command(&folder, &url_of("hadir_migrate")).arg("migrate").output().unwrap();
    assert!(migrated.status.success(), "{}", said(&migrated));
    apply_roles(&administrator);

    let mut serve = command(&folder, &url_of("hadir_server"));
    serve.env("HADIR_MIGRATE", "false");
    let (_server, printed) = Running::start(serve);
    let url = |name: &str| printed[name].as_str().unwrap().to_owned();
    let mitra = Uuid::new_v4();
    let put = reqwest::Client::new().put(format!("{}/internal/mitras/{mitra}", url("internal_url")));
    let put = put.bearer_auth(token_of(Role::Service, Uuid::new_v4())).json(&json!({ "display_name": "Sari" }));
    assert_eq!(put.send().await.unwrap().status(), StatusCode::OK);
    let address = url("public_url").strip_prefix("http://").unwrap().parse().unwrap();
    let mut socket = Client::dial(address, "/ws/mitra", &token_of(Role::Mitra, mitra)).await;
    socket.commands("online").await;
    let checked =
        command(&folder, &url_of("hadir_server")).env("HADIR_MIGRATE", "false").arg("check").output().unwrap();
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.contains("every kind of write was tried"), "{checked}");

    let mut as_server = PgConnection::connect(&url_of("hadir_server")).await.unwrap();
    for statement in [
        "CREATE TABLE shop.other (id int)",
        "ALTER TABLE shop.mitras ADD COLUMN other int",
        "DROP TABLE shop.presence_events",
        "TRUNCATE shop.mitra_status",
        "DELETE FROM shop.mitras",
        "CREATE OR REPLACE FUNCTION shop.hadir_actor() RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
        "CREATE SCHEMA other",
    ] {
        let refused = sqlx::raw_sql(statement).execute(&mut as_server).await.expect_err(statement);
        let code = refused.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{statement}: {refused}");
    }
}

/// The notes give the same rights by hand.
#[test]
fn the_file_gives_every_right_that_the_notes_name() {
    let file = std::fs::read_to_string(roles_file()).unwrap();
    let notes = include_str!("../../../docs/deployment.md");
    let rights_in_file = |table: &str| {
        let start = format!("('{table}', '");
        let at = file.find(&start).unwrap_or_else(|| panic!("{table} is not in the file")) + start.len();
        file[at..].split('\'').next().unwrap().split(", ").map(str::to_owned).collect::<Vec<_>>()
    };
    let mut checked = 0;
    for line in notes.lines().filter_map(|line| line.strip_prefix("GRANT ")) {
        let Some((rights, rest)) = line.split_once(" ON shop.") else { continue };
        let tables = rest.split(" TO ").next().unwrap().split(", ");
        for table in tables.map(|table| table.trim_start_matches("shop.")) {
            let has = rights_in_file(table);
            assert!(rights.split(", ").all(|right| has.iter().any(|one| one == right)), "{line}: the file has {has:?}");
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}

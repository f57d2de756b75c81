//! Accepting a session: by REST (a Postgres transaction, the mirror, the push), beside pgbench running the same statement on the
//! same PostgreSQL with as many clients.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{
    bench::Bench,
    fleet::orders::{Ask, Each, Order},
    kit::{
        stores::{Database, load_postgres, load_sessions, programs},
        tokens::{Role, SUBJECT_PREFIX},
    },
    table::{Goal, Line, plain},
    worker::Fleet,
};

const ROW: &str = "sessions";
const LEAST: f64 = 0.6;
const CLIENTS: usize = 10;
const MITRAS: u64 = 1_000;
const SECONDS_RUN: u64 = 600;

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let sessions = bench.sizes.sessions;
    let database = prepared(bench, sessions).await?;
    let server = bench.node(&database, 0, &[]).await?;
    let ask = Ask {
        address: server.internal,
        path: "/internal/sessions/{subject}/accept".to_owned(),
        role: Some(Role::Service),
        connections: CLIENTS,
        seconds: bench.sizes.burst_seconds,
        conditional: false,
        expect_status: 200,
        each: Some(Each {
            body: format!(r#"{{"mitra_id":"{{mitra}}","payment":"paid","duration_seconds":{SECONDS_RUN}}}"#),
            subjects: sessions,
            mitras: MITRAS,
        }),
    };
    let report = Fleet::start(0)?.tell(&Order::Ask(ask)).await?;
    ensure!(report.done < sessions, "all {sessions} sessions were accepted before the time was over");
    server.stop().await?;

    let database = prepared(bench, sessions).await?;
    let seconds = bench.sizes.burst_seconds.ceil() as u64;
    let bare = tokio::task::spawn_blocking(move || pgbench(&database, seconds, sessions)).await??;
    let note = format!("p50 {} ms, p99 {} ms", plain(report.each.ms(0.5)), plain(report.each.ms(0.99)));
    Ok(vec![
        Line::alone(ROW, format!("sessions accepted a second by REST, {CLIENTS} clients"), "/s", report.rate())
            .beside("pgbench, the same statement", bare)
            .goal(Goal::RatioAtLeast(LEAST))
            .note(note),
    ])
}

async fn prepared(bench: &Bench, sessions: u64) -> Result<Database> {
    let database = bench.emptied().await?;
    bench.migrate(&database).await?;
    load_postgres(&database, MITRAS, true).await?;
    load_sessions(&database, sessions).await?;
    Ok(database)
}

/// Transactions a second. Each client takes sessions of its own.
fn pgbench(database: &Database, seconds: u64, sessions: u64) -> Result<f64> {
    let each = sessions / CLIENTS as u64;
    let id = |number: &str| format!("('{SUBJECT_PREFIX}' || lpad(to_hex({number}::bigint), 12, '0'))::uuid");
    let script = format!(
        "\\set done :done + 1\n\\set n :client_id * {each} + :done\n\\set m :n % {MITRAS}\n\
         SELECT f.outcome, f.session_row, f.mitra_row FROM hadir_change_session({session}, ARRAY['searching'], ARRAY['active'], \
         ARRAY['active'], {mitra}, false, {run_ms}, NULL, false, 1, 'service', NULL) AS f;\n",
        session = id(":n"),
        mitra = id(":m"),
        run_ms = SECONDS_RUN * 1_000,
    );
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("accept.sql");
    std::fs::write(&file, script)?;
    let output = Command::new(programs().join("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--define=done=-1", "--jobs=2"])
        .args([format!("--client={CLIENTS}"), format!("--time={seconds}")])
        .arg(format!("--file={}", file.display()))
        .arg(&database.url)
        .output()
        .context("pgbench cannot be run")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "pgbench: {}{}", said, String::from_utf8_lossy(&output.stderr));
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    rate.with_context(|| format!("pgbench does not say its rate: {said}"))
}

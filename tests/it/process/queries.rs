//! Every query of the dashboard and of the alert rules, against the metrics that a server really has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::{Value, json};

use super::{Running, eventually, hadir, metrics::promtool};
use crate::support::Client;

/// What Prometheus itself adds to each sample.
const ADDED: &[&str] = &["job", "instance"];

fn deploy(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

/// The queries of the dashboard, with its variables filled in.
fn of_dashboard() -> Vec<String> {
    let text = fs::read_to_string(deploy("grafana/hadir.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().expect("a query"));
    queries.map(|query| query.replace("$instance", ".*").replace("$__rate_interval", "1m")).collect()
}

/// The queries of the alert rules, as far as indented text goes.
fn of_alerts() -> Vec<String> {
    let text = fs::read_to_string(deploy("prometheus/alerts.yml")).expect("the rules");
    let rules = text.split("- alert:").skip(1);
    rules
        .map(|rule| {
            let (_, rest) = rule.split_once("expr:").expect("a query");
            let end = rest.find("\n        labels:").into_iter().chain(rest.find("\n        for:")).min();
            rest[..end.unwrap_or(rest.len())].trim_start_matches([' ', '|']).trim().to_owned()
        })
        .collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

/// The metrics that a query names, each with the labels that it selects by.
fn named(query: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in words(query).filter(|word| word.starts_with("hadir_") || word.starts_with("process_")) {
        found.entry(name.to_owned()).or_default();
    }
    for (before, selector) in query.split('{').zip(query.split('{').skip(1)) {
        let name = words(before).last().expect("a name before a selector").to_owned();
        let labels = selector.split('}').next().expect("an end").split(',');
        let labels = labels.filter_map(|matcher| words(matcher).next()).filter(|label| !ADDED.contains(label));
        found.entry(name).or_default().extend(labels.map(str::to_owned));
    }
    found.remove("up");
    found
}

/// The labels that a query groups by.
fn grouped(query: &str) -> BTreeSet<String> {
    let groups = query.split("by (").skip(1).map(|rest| rest.split(')').next().expect("an end"));
    groups.flat_map(words).filter(|label| !ADDED.contains(label)).map(str::to_owned).collect()
}

/// Every sample's name with the labels it has.
fn samples(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = words(line).next().expect("a name").to_owned();
        // Label values hold no `="`.
        let labels = line.split("=\"").map(|before| words(before).last().unwrap_or_default());
        let count = line.matches("=\"").count();
        found.entry(name).or_default().extend(labels.take(count).map(str::to_owned));
    }
    found
}

/// What the queries ask for and the metrics do not have.
fn missing(queries: &[String], text: &str) -> Vec<String> {
    let samples = samples(text);
    let mut missing = Vec::new();
    for query in queries {
        let named = named(query);
        assert!(!named.is_empty() || query.contains("up{"), "no metric in {query}");
        let mut all_labels = BTreeSet::new();
        for (name, labels) in named {
            match samples.get(&name) {
                None => missing.push(name),
                Some(has) => {
                    missing.extend(labels.difference(has).map(|label| format!("{name}{{{label}}}")));
                    all_labels.extend(has.iter().cloned());
                }
            }
        }
        missing.extend(grouped(query).difference(&all_labels).map(|label| format!("{label} of {query}")));
    }
    missing
}

#[test]
fn the_reader_of_queries_reads_them() {
    let query = "sum by (role, le) (rate(hadir_a_bucket{job=\"x\",role=~\"m.*\"}[5m])) > 0.2 * hadir_b";
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    let expected = [("hadir_a_bucket", set(&["role"])), ("hadir_b", set(&[]))];
    assert_eq!(named(query), expected.map(|(name, labels)| (name.to_owned(), labels)).into());
    assert_eq!(grouped(query), set(&["le", "role"]));
    let text = "# TYPE hadir_b counter\nhadir_b{role=\"a\",code=\"4410\"} 1\nhadir_c 2\n";
    assert_eq!(samples(text)["hadir_b"], set(&["code", "role"]));
    assert_eq!(samples(text)["hadir_c"], set(&[]));
    assert_eq!(missing(&["hadir_b{why=\"x\"} / hadir_d".to_owned()], text), ["hadir_b{why}", "hadir_d"]);
}

#[tokio::test]
async fn every_query_of_dashboard_and_alerts_asks_for_metrics_that_exist() {
    let queries = [of_dashboard(), of_alerts()].concat();
    assert!(queries.len() > 30, "all were found: {queries:#?}");
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = hadir(&folder);
    command.env("HEARTBEAT_FLUSH_MS", "50");
    let (_server, printed) = Running::start(command);
    let url = |name: &str| printed[name].as_str().expect("a URL").to_owned();
    let address = url("public_url").strip_prefix("http://").expect("a URL").parse().expect("an address");
    let mut mitra = Client::dial(address, "/ws/mitra", printed["tokens"]["mitra"].as_str().expect("a token")).await;
    mitra.send(json!({ "type": "online", "id": "c1" })).await;
    mitra.frame("ack").await;
    let refused = reqwest::get(format!("{}/api/mitra/status", url("public_url"))).await.expect("an answer");
    assert_eq!(refused.status(), 401);
    eventually("a socket was closed and the queries find their metrics", async || {
        let customer = printed["tokens"]["customer"].as_str()?;
        drop(Client::dial(address, "/ws/availability", customer).await);
        let text = reqwest::get(format!("{}/metrics", url("internal_url"))).await.ok()?.text().await.ok()?;
        let missing = missing(&queries, &text);
        if !missing.is_empty() {
            eprintln!("missing: {missing:?}");
        }
        missing.is_empty().then_some(())
    })
    .await;
}

#[test]
fn the_alert_rules_pass_their_own_tests_and_every_query_is_one() {
    for arguments in [
        ["check", "rules", deploy("prometheus/alerts.yml").to_str().expect("text")],
        ["test", "rules", deploy("prometheus/alerts.test.yml").to_str().expect("text")],
    ] {
        let judged = promtool(&arguments, "");
        assert!(judged.status.success(), "{judged:?}");
    }
    let rules: Vec<Value> = of_dashboard()
        .iter()
        .enumerate()
        .map(|(n, query)| json!({ "record": format!("q{n}"), "expr": query }))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yml");
    // JSON is YAML.
    let text = json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    fs::write(&file, text).expect("written");
    let judged = promtool(&["check", "rules", file.to_str().expect("text")], "");
    assert!(judged.status.success(), "{judged:?}");
}

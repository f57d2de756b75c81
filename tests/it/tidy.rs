//! Conventions as tests: who may use whom, what lives where, how long a file may be.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Which modules a module may use. An arrow points inwards only; edges never import each other or a store; only `app` names
/// concrete back ends. `docs/architecture.md` says why.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("protocol", &["domain"]),
    ("config", &["domain"]),
    ("telemetry", &["config", "domain"]),
    ("auth", &["config", "domain", "protocol", "telemetry"]),
    ("hub", &["domain", "protocol"]),
    ("store", &["domain"]),
    ("mirror", &["domain", "protocol"]),
    ("lifecycle", &[]),
    ("replication", &["domain", "hub", "mirror", "protocol", "store", "telemetry"]),
    ("cluster", &["domain", "hub", "protocol", "replication", "telemetry"]),
    ("presence", &["cluster", "domain", "hub", "protocol", "replication"]),
    ("sessions", &["domain", "replication"]),
    ("tasks", &["lifecycle", "presence", "protocol", "replication", "telemetry"]),
    ("gateway", &["auth", "domain", "hub", "lifecycle", "presence", "protocol", "telemetry"]),
    ("api", &["auth", "domain", "hub", "lifecycle", "presence", "protocol", "sessions", "tasks", "telemetry"]),
    ("demo", &["api", "auth", "domain", "lifecycle", "presence", "sessions", "store"]),
    (
        "app",
        &[
            "api",
            "auth",
            "cluster",
            "config",
            "demo",
            "domain",
            "gateway",
            "hub",
            "lifecycle",
            "mirror",
            "presence",
            "protocol",
            "replication",
            "sessions",
            "store",
            "tasks",
            "telemetry",
        ],
    ),
    ("cli", &["app", "auth", "config", "demo", "domain", "telemetry"]),
];

/// What may stand only in these places, and why.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("fred::", &["src/mirror/valkey/"], "the Valkey client is behind the mirror trait"),
    ("sqlx::", &["src/store/postgres/", "src/store/sqlite/"], "SQL is behind the store trait"),
    ("axum::", &["src/gateway/", "src/api/", "src/app/", "src/demo/pages.rs"], "HTTP is at the edges"),
    (
        "anyhow::",
        &["src/app/", "src/cli/", "src/demo/", "src/lifecycle.rs"],
        "an error that is only told is for those who tell it; others have types",
    ),
    ("PostgresStore", &["src/store/postgres/", "src/app/"], "only app names a concrete back end"),
    ("SqliteStore", &["src/store/sqlite/", "src/app/"], "only app names a concrete back end"),
    ("ValkeyMirror", &["src/mirror/valkey/", "src/app/"], "only app names a concrete back end"),
    ("MemoryMirror", &["src/mirror/memory/", "src/app/"], "only app names a concrete back end"),
];

const LONGEST_FILE: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                walk(&entry, found);
            } else {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    let named = found.into_iter().filter(|path| path.extension().is_some_and(|found| found == ending));
    let mut files: Vec<_> = named
        .map(|path| {
            let name = path.strip_prefix(root()).expect("inside").display().to_string();
            (name, fs::read_to_string(&path).expect("text"))
        })
        .collect();
    files.sort();
    files
}

/// The code of a file, without comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that some code names.
fn used(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, word) in code.match_indices("crate::") {
        let rest = &code[at + word.len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for letter in list.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(first_word(&std::mem::take(&mut name)));
                    }
                    _ => {}
                }
                if depth == 0 && letter != ',' {
                    name.push(letter);
                }
            }
            found.insert(first_word(&name));
        } else {
            found.insert(first_word(rest));
        }
    }
    found.remove("");
    found
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[test]
fn modules_use_only_whom_they_may() {
    let mut wrong = Vec::new();
    for (name, text) in files("src", "rs") {
        let module = name.trim_start_matches("src/").split(['/', '.']).next().expect("a name").to_owned();
        if ["main", "lib"].contains(&module.as_str()) {
            continue;
        }
        let (_, allowed) = MAY_USE.iter().find(|(known, _)| *known == module).unwrap_or_else(|| {
            panic!("{module} is not in the table: decide whom it may use");
        });
        let strangers = used(&code(&text));
        for other in strangers.iter().filter(|other| **other != module && !allowed.contains(&other.as_str())) {
            wrong.push(format!("{name} uses {other}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reader_of_imports_reads_them() {
    let imports = "use crate::{\n    domain::{MitraId, Mode},\n    hub::Hub,\n};\nlet x = crate::store::Bell::Missed;";
    let expected = ["domain", "hub", "store"].map(str::to_owned);
    assert_eq!(used(imports), BTreeSet::from(expected));
}

#[test]
fn what_belongs_in_one_place_is_there_only() {
    let mut wrong = Vec::new();
    for (name, text) in files("src", "rs") {
        for (word, places, why) in ONLY_IN {
            if code(&text).contains(word) && !places.iter().any(|place| name.starts_with(place)) {
                wrong.push(format!("{name} says `{word}`, but {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// With two crypto providers compiled in and none chosen, the first TLS connection panics.
#[test]
fn one_crypto_provider_is_compiled_in() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("text");
    let rustls: Vec<_> = lock.split("[[package]]").filter(|entry| entry.contains("name = \"rustls\"\n")).collect();
    assert_eq!(rustls.len(), 1, "one version of rustls");
    assert!(rustls[0].contains("\"aws-lc-rs\""), "{}", rustls[0]);
    assert!(!rustls[0].contains("\"ring\""), "{}", rustls[0]);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for (name, text) in files("src", "rs")
        .into_iter()
        .chain(files("tests", "rs"))
        .chain(files("loadtest", "rs"))
        .chain(files("prove", "rs"))
        .chain(files("abuse", "rs"))
        .chain(files("kit", "rs"))
        .chain(files("src", "lua"))
    {
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{name} has {lines} lines; {LONGEST_FILE} are the most"));
        }
        let opening = if name.ends_with(".lua") { "--" } else { "//!" };
        let is_tests = name.ends_with("/tests.rs");
        if !is_tests && !text.starts_with(opening) {
            wrong.push(format!("{name} does not open with what it is"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_left_to_be_done_in_a_comment() {
    let markers = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "XX".to_owned() + "X"];
    let mut wrong = Vec::new();
    for (name, text) in
        ["src", "tests", "loadtest", "prove", "abuse", "kit", "migrations", "web"].iter().flat_map(|folder| {
            ["rs", "lua", "sql", "js"].iter().flat_map(|ending| files(folder, ending)).collect::<Vec<_>>()
        })
    {
        if name.contains("/vendor/") || name.contains("node_modules") {
            continue;
        }
        wrong.extend(markers.iter().filter(|marker| text.contains(*marker)).map(|marker| format!("{name}: {marker}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A page that promises something names the test that shows it.
#[test]
fn tests_that_the_security_page_names_exist() {
    let page = fs::read_to_string(root().join("docs/security.md")).expect("the page");
    let named: Vec<&str> = page.split('`').filter(|word| word.contains("::") && !word.contains(' ')).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        let parts: Vec<&str> = name.split("::").collect();
        let file = format!("tests/it/{}/{}.rs", parts[0], parts[1]);
        let text = fs::read_to_string(root().join(&file)).unwrap_or_else(|_| panic!("{name}: there is no {file}"));
        let is_there = parts.get(2).is_none_or(|test| text.contains(&format!("async fn {test}(")));
        assert!(is_there, "{file} has no test {name}");
    }
}

#[test]
fn every_script_of_the_mirror_is_loaded() {
    let catalog = fs::read_to_string(root().join("src/mirror/valkey/catalog.rs")).expect("the catalog");
    for (name, _) in files("src/mirror/valkey/scripts", "lua") {
        let file = name.rsplit('/').next().expect("a name");
        let stem = file.trim_end_matches(".lua");
        let mentions = [format!("= \"{stem}\""), format!("include_str!(\"scripts/{file}\")")];
        assert!(mentions.iter().any(|mention| catalog.contains(mention)), "{file} is in no catalog");
    }
}

//! The configuration as its users meet it.

use std::{collections::BTreeSet, ffi::OsString, time::Duration};

use super::{
    values::{Reader, Values},
    *,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn errors(pairs: &[(&str, &str)]) -> Vec<String> {
    match Config::from_pairs(pairs) {
        Ok(_) => Vec::new(),
        Err(ConfigErrors(errors)) => errors,
    }
}

#[test]
fn without_configuration_the_embedded_default_starts() {
    let config = Config::from_pairs(&[]).expect("the defaults are valid");
    assert_eq!(config.listen.public_addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.listen.internal_addr.to_string(), "127.0.0.1:8081");
    assert!(matches!(&config.store.database, Database::Sqlite { path } if path.ends_with("hadir.db")));
    assert!(config.mirror.valkey.is_none());
    assert!(matches!(&config.auth.secret, SecretSource::Generated(dir) if *dir == config.data.dir));
    assert_eq!(config.timing.suspect_after, Duration::from_secs(45));
    assert_eq!(config.limits.frame_bytes, 4096);
    assert_ne!(config.node_id, Config::from_pairs(&[]).expect("valid").node_id, "random at each start");
}

#[test]
fn every_setting_of_the_table_is_read_once_and_every_default_parses() {
    let values = Values::default();
    let mut reader = Reader::new(&values);
    Config::read(&mut reader);
    let read = reader.read.clone();
    assert_eq!(reader.into_errors(), Vec::<String>::new());
    let known: Vec<_> = table::all().map(|setting| setting.spec().name).collect();
    assert_eq!(read.len(), read.iter().collect::<BTreeSet<_>>().len(), "none is read twice: {read:?}");
    assert_eq!(known.iter().collect::<BTreeSet<_>>(), read.iter().collect::<BTreeSet<_>>());
    assert_eq!(known.len(), read.len(), "no name stands in the table twice");
    let flags: BTreeSet<_> = table::all().map(|setting| setting.spec().flag()).collect();
    assert_eq!(flags.len(), known.len(), "every setting has a flag of its own");
    for setting in table::all() {
        if let Preset::Value(text) = setting.spec().preset {
            assert_eq!(setting.check(text), Ok(()), "{}", setting.spec().name);
        }
    }
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hadir.toml");
    std::fs::write(
        &file,
        "heartbeat_interval_seconds = 3\nmitra_max_sessions = 3\nsnapshot_ttl_seconds = 2.5\nhadir_migrate = false\n\
         hadir_allowed_origins = [\"https://a.example\", \"https://b.example\"]\n",
    )
    .expect("written");
    let mut values = Values::default();
    values.set_file(&file);
    values.set_environment([
        (OsString::from("HEARTBEAT_INTERVAL_SECONDS"), OsString::from("4")),
        (OsString::from("MITRA_MAX_SESSIONS"), OsString::from("4")),
        (OsString::from("PATH"), OsString::from("/bin")),
    ]);
    values.set("HEARTBEAT_INTERVAL_SECONDS", "5", Origin::Flag);
    let config = Config::from_values(&values).expect("valid");
    assert_eq!(config.timing.heartbeat_interval, Duration::from_secs(5));
    assert_eq!(config.store.default_max_sessions, 4);
    assert_eq!(config.timing.snapshot_ttl, Duration::from_millis(2500));
    assert!(!config.store.migrate);
    assert_eq!(config.listen.allowed_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.timing.offline_after, Duration::from_secs(90));

    let shown = effective(&values);
    let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).expect("shown").to_owned();
    assert!(line("HEARTBEAT_INTERVAL_SECONDS=5").ends_with("# flag"));
    assert!(line("MITRA_MAX_SESSIONS=4").ends_with("# environment"));
    assert!(line("SNAPSHOT_TTL_SECONDS=2.5").ends_with("hadir.toml"));
    assert!(line("MITRA_OFFLINE_AFTER_SECONDS=90").ends_with("# default"));
}

#[test]
fn everything_wrong_is_told_at_once() {
    let errors = errors(&[
        ("HADIR_PUBLIC_ADDR", "localhost"),
        ("HEARTBEAT_INTERVAL_SECONDS", "soon"),
        ("HADIR_LIMIT_FRAME_BYTE", "10"),
        ("MITRA_OFFLINE_AFTER_SECONDS", "30"),
        ("VALKEY_URL", "valkey://127.0.0.1:6379"),
    ]);
    let all = ConfigErrors(errors.clone()).to_string();
    assert_eq!(errors.len(), 5, "{all}");
    for needle in [
        "the configuration has 5 errors:",
        "HADIR_LIMIT_FRAME_BYTE (from caller) is not a setting: did you mean HADIR_LIMIT_FRAME_BYTES?",
        "HADIR_PUBLIC_ADDR (from caller) is `localhost`, which is no address with a port",
        "HEARTBEAT_INTERVAL_SECONDS (from caller) is `soon`, which is not a number of seconds",
        "MITRA_OFFLINE_AFTER_SECONDS (30) is less than HEARTBEAT_SUSPECT_SECONDS (45)",
        "VALKEY_URL is set without DATABASE_URL",
    ] {
        assert!(all.contains(needle), "`{needle}` in {all}");
    }
}

#[test]
fn each_bad_value_is_refused_with_one_sentence() {
    let cases: &[(&str, &str, &str)] = &[
        ("HADIR_PUBLIC_ADDR", "8080", "no address with a port"),
        ("HADIR_NODE_ID", "a b", "not a node's word"),
        ("HADIR_LOG", "hadir=loud", "not a log filter"),
        ("HADIR_LOG_FORMAT", "xml", "human or json"),
        ("HADIR_DATA_DIR", "", "is empty"),
        ("HADIR_MIGRATE", "yes", "neither true nor false"),
        ("HADIR_DB_POOL_SIZE", "0", "from 1 to 1000"),
        ("HEARTBEAT_FLUSH_MS", "0", "at least 1 millisecond"),
        ("HEARTBEAT_FLUSH_MS", "1.5", "whole number of milliseconds"),
        ("HEARTBEAT_INTERVAL_SECONDS", "0", "too short"),
        ("HEARTBEAT_INTERVAL_SECONDS", "-1", "not a number of seconds"),
        ("HEARTBEAT_INTERVAL_SECONDS", "NaN", "not a number of seconds"),
        ("DRAIN_SECONDS", "inf", "not a number of seconds"),
        ("DRAIN_SECONDS", "1e9", "too long"),
        ("MITRA_MAX_SESSIONS", "-1", "from 1 to 1000"),
        ("HADIR_ALLOWED_ORIGINS", "https://*.example.com", "wildcard"),
        ("HADIR_ALLOWED_ORIGINS", "https://app.example.com/", "more than an origin"),
        ("HADIR_ALLOWED_ORIGINS", "app.example.com", "not one"),
        ("HADIR_TRUSTED_PROXIES", "10.0.0.0/33", "neither a network nor an address"),
        ("AUTH_JWT_SECRET", "short", "has 5 characters, fewer than 32"),
        ("AUTH_JWKS_FILE", "", "is empty"),
        ("AUTH_JWKS_URL", "http://keys.example/jwks.json", "plain http to another machine"),
        ("AUTH_JWKS_URL", "ftp://keys.example", "another scheme than https"),
        ("AUTH_JWKS_URL", "keys.example", "not a URL"),
        ("AUTH_JWKS_REFRESH_SECONDS", "0", "too short"),
        ("AUTH_ROLE_MAP", "partner", "without `=`"),
        ("AUTH_ROLE_MAP", "partner=boss", "use mitra, customer, dashboard or service"),
        ("AUTH_ROLE_MAP", "a=mitra,a=customer", "maps `a` twice"),
        ("VALKEY_KEY_PREFIX_FILE", "x", "not a setting"),
        ("HADIR_DATABASE_URL", "x", "did you mean DATABASE_URL?"),
    ];
    for (name, text, needle) in cases {
        let errors = errors(&[(name, text)]);
        assert_eq!(errors.len(), 1, "{name}={text}: {errors:?}");
        assert!(errors[0].contains(needle), "{name}={text}: {}", errors[0]);
        assert!(errors[0].ends_with('.'), "a sentence: {}", errors[0]);
    }
}

#[test]
fn contradictions_are_refused() {
    let shared = [("DATABASE_URL", "postgres://u@db/hadir"), ("AUTH_JWT_SECRET", SECRET)];
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("HEARTBEAT_SUSPECT_SECONDS", "30")], "less than three times HEARTBEAT_INTERVAL_SECONDS (15)"),
        (&[("HADIR_PUBLIC_ADDR", "127.0.0.1:9"), ("HADIR_INTERNAL_ADDR", "127.0.0.1:9")], "need the same port"),
        (&[("HEARTBEAT_FLUSH_MS", "20000")], "lower it to at most 15000"),
        (&[("SNAPSHOT_WINDOW_MS", "20000")], "is longer than SNAPSHOT_TTL_SECONDS"),
        (&[("HADIR_NODE_REPORT_SECONDS", "9")], "lower it to at most 3"),
        (&[("HADIR_DB_LOCK_TIMEOUT_MS", "9000")], "longer than HADIR_DB_QUERY_TIMEOUT_MS"),
        (&[("HADIR_DB_SCHEMA", "x")], "SQLite has no schemas"),
        (&[("AUTH_JWT_SECRET_PREVIOUS", SECRET)], "set without AUTH_JWT_SECRET"),
        (&[shared[0]], "DATABASE_URL is set without AUTH_JWT_SECRET"),
        (&[shared[0], shared[1], ("VALKEY_URL", "http://a")], "a scheme that is not one of Valkey's"),
        (&[shared[0], shared[1], ("VALKEY_URL", "redis://a/x")], "not a database number"),
        (&[shared[0], shared[1], ("VALKEY_URL", "redis://user@a")], "a user without a password"),
        (&[shared[0], shared[1], ("VALKEY_URL", "unix://a/x")], "does not name a socket"),
        (&[shared[0], shared[1], ("VALKEY_URL", "redis://a"), ("VALKEY_TLS_CA_FILE", "x")], "does not ask for TLS"),
        (&[shared[0], shared[1], ("VALKEY_URL", "rediss://a"), ("VALKEY_TLS_KEY_FILE", "x")], "belong together"),
        (&[shared[0], shared[1], ("VALKEY_URL", "valkey-cluster://a:7000/1")], "only database 0"),
        (&[shared[0], shared[1], ("VALKEY_URL", "valkey-sentinel://a:26379/0")], "?sentinelServiceName=mymaster"),
        (
            &[shared[0], shared[1], ("VALKEY_URL", "valkey-cluster://a:7000"), ("VALKEY_KEY_PREFIX", "x:")],
            "without a hash tag",
        ),
        (&[("DATABASE_URL", "mysql://db/x"), shared[1]], "another scheme than postgres"),
        (&[("DATABASE_URL", "sqlite://x.db"), shared[1]], "SQLite, which needs no URL"),
        (&[("DATABASE_URL", ""), shared[1]], "is not a URL"),
    ];
    for (pairs, needle) in cases {
        let errors = errors(pairs);
        assert_eq!(errors.len(), 1, "{pairs:?}: {errors:?}");
        assert!(errors[0].contains(needle), "{pairs:?}: {}", errors[0]);
    }
}

#[test]
fn a_scaled_clock_with_thirds_is_not_a_contradiction() {
    let config = Config::from_pairs(&[
        ("HEARTBEAT_INTERVAL_SECONDS", "0.1"),
        ("HEARTBEAT_SUSPECT_SECONDS", "0.3"),
        ("MITRA_OFFLINE_AFTER_SECONDS", "0.3"),
        ("HEARTBEAT_FLUSH_MS", "50"),
    ]);
    assert_eq!(config.expect("valid").timing.suspect_after, Duration::from_millis(300));
}

#[test]
fn the_scheme_of_valkey_decides_topology_and_prefix() {
    let with = |url: &str| {
        Config::from_pairs(&[("DATABASE_URL", "postgres://db/x"), ("AUTH_JWT_SECRET", SECRET), ("VALKEY_URL", url)])
            .map(|config| config.mirror)
            .expect(url)
    };
    for (url, topology, prefix, database) in [
        ("valkey://127.0.0.1:6379", Topology::Standalone, "", 0),
        ("rediss://:pw@cache:6379/3", Topology::Standalone, "", 3),
        ("valkeys-sentinel://a:26379/1?sentinelServiceName=m", Topology::Sentinel, "", 1),
        ("rediss-cluster://a:7000", Topology::Cluster, "{hadir}:", 0),
        ("valkey+unix:///run/valkey.sock?db=4", Topology::Standalone, "", 4),
        ("redis-sentinel://a:26379/1?sentinelServiceName=m&node=b:26379", Topology::Sentinel, "", 1),
        ("valkey-cluster://a:7000", Topology::Cluster, "{hadir}:", 0),
    ] {
        let mirror = with(url);
        let valkey = mirror.valkey.expect("set");
        assert_eq!((valkey.topology, mirror.key_prefix.as_str(), valkey.database), (topology, prefix, database));
    }
}

#[test]
fn secrets_come_from_files_without_their_last_newline() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).expect("written");
    let path = file.to_str().expect("UTF-8");
    let config = Config::from_pairs(&[("AUTH_JWT_SECRET_FILE", path)]).expect("valid");
    assert!(matches!(&config.auth.secret, SecretSource::Configured(secret) if secret.expose() == SECRET));

    let both = errors(&[("AUTH_JWT_SECRET_FILE", path), ("AUTH_JWT_SECRET", SECRET)]);
    assert_eq!(both.len(), 1, "{both:?}");
    assert!(both[0].contains("AUTH_JWT_SECRET_FILE (from caller) are both set: remove one of them"), "{both:?}");

    let missing = errors(&[("DATABASE_URL_FILE", "/nowhere/at/all"), ("AUTH_JWT_SECRET", SECRET)]);
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].contains("`/nowhere/at/all`, which cannot be read"), "{missing:?}");
}

#[test]
fn no_secret_is_in_an_error_or_in_the_listing_or_in_debug_output() {
    let mut values = Values::default();
    values.set("AUTH_JWT_SECRET", "hunter2", Origin::Environment);
    values.set("DATABASE_URL", "postgrez://u:hunter2@db/x", Origin::Environment);
    values.set("VALKEY_URL", "redis://:hunter2@/x", Origin::Environment);
    values.set_toml("valkey_url = \"redis://:hunter2@a\nx = 1", "hadir.toml");
    let errors = Config::from_values(&values).expect_err("all four are wrong").to_string();
    assert!(errors.contains("hadir.toml is not TOML in line 1"), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
    assert!(!effective(&values).contains("hunter2"));

    let config = Config::from_pairs(&[
        ("AUTH_JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2"),
        ("DATABASE_URL", "postgres://u:hunter2@db/x"),
    ])
    .expect("valid");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_file_with_unknown_or_shouted_keys_or_tables_is_refused() {
    let mut values = Values::default();
    values.set_toml("public_addr = \"x\"\nHADIR_LOG = \"info\"\n[limits]\nx = 1\n", "hadir.toml");
    values.set_toml("hadir_log = { a = 1 }", "hadir.toml");
    let errors = Config::from_values(&values).expect_err("wrong").to_string();
    for needle in [
        "public_addr (from hadir.toml) is not a setting: did you mean hadir_public_addr?",
        "HADIR_LOG (from hadir.toml) is not a setting: keys are written in lower case, hadir_log",
        "limits (from hadir.toml) is not a setting",
        "hadir_log (from hadir.toml) is a table or a date",
    ] {
        assert!(errors.contains(needle), "`{needle}` in {errors}");
    }
}

#[test]
fn an_unknown_variable_of_ours_is_refused_and_others_are_left_alone() {
    let mut values = Values::default();
    values.set_environment([
        (OsString::from("HADIR_PUBLIC_ADRR"), OsString::from("127.0.0.1:1")),
        (OsString::from("VALKEY_SOMETHING_ELSE"), OsString::from("x")),
    ]);
    let ConfigErrors(errors) = Config::from_values(&values).expect_err("unknown");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("did you mean HADIR_PUBLIC_ADDR?"), "{errors:?}");
}

#[test]
fn variables_that_kubernetes_injects_for_a_service_are_ignored_and_named() {
    let pairs = |pairs: &[(&str, &str)]| {
        let mut values = Values::default();
        values.set_environment(pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
        values
    };
    let values = pairs(&[("HADIR_SERVICE_HOST", "10.96.0.7"), ("HADIR_REDIS_PORT", "tcp://10.96.0.8:6379")]);
    Config::from_values(&values).expect("valid");
    assert_eq!(values.service_links(), ["HADIR_SERVICE_HOST", "HADIR_REDIS_PORT"]);

    let values = pairs(&[("HADIR_SERVICE_HOST", "10.96.0.7"), ("HADIR_PORT", "8080")]);
    let ConfigErrors(errors) = Config::from_values(&values).expect_err("a port alone is a mistake");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("HADIR_PORT (from environment) is not a setting"), "{errors:?}");
}

#[test]
fn a_variable_of_another_program_is_pointed_out_when_the_setting_is_missing() {
    let values = |pairs: &[(&str, &str)]| {
        let mut values = Values::default();
        values.set_environment(pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
        values
    };
    let hint = "DATABASE_URI is set, but Hadir reads DATABASE_URL".to_owned();
    let url = "postgres://someone:hunter2@db/hadir";
    assert_eq!(values(&[("DATABASE_URI", url)]).misnamed(), std::slice::from_ref(&hint));
    assert_eq!(values(&[("DATABASE_URI", url), ("DATABASE_URL", url)]).misnamed(), Vec::<String>::new());
    assert_eq!(values(&[("DATABASE_URI", url), ("DATABASE_URL_FILE", "/x")]).misnamed(), Vec::<String>::new());

    let both = values(&[("DATABASE_URI", url), ("VALKEY_URL", "valkey://cache")]);
    let ConfigErrors(errors) = Config::from_values(&both).expect_err("Valkey without Postgres");
    assert_eq!(errors.last(), Some(&format!("{hint}.")), "{errors:?}");
    assert!(!errors.concat().contains("hunter2"), "{errors:?}");
}

#[test]
fn a_node_takes_what_its_descriptors_allow_and_warns_when_asked_for_more() {
    let limits = |pairs: &[(&str, &str)]| Config::from_pairs(pairs).expect("valid").limits;
    assert_eq!(limits(&[]).node_cap(20_000), NodeCap { sockets: 18_720, warning: None });
    assert_eq!(limits(&[]).node_cap(100).sockets, 50, "a tiny limit still leaves half");
    let asked = limits(&[("HADIR_LIMIT_SOCKETS_PER_NODE", "30000")]);
    let cap = asked.node_cap(20_000);
    assert_eq!(cap.sockets, 18_720);
    assert!(cap.warning.expect("a warning").contains("20000 file descriptors allows about 18720 sockets"));
}

#[test]
fn origins_are_compared_as_browsers_send_them() {
    let config = Config::from_pairs(&[(
        "HADIR_ALLOWED_ORIGINS",
        "https://App.Example.com:443, http://localhost:5173,capacitor://localhost",
    )])
    .expect("valid");
    assert_eq!(
        config.listen.allowed_origins,
        ["https://app.example.com", "http://localhost:5173", "capacitor://localhost"]
    );
}

/// `UPDATE_DOCS=1 cargo test --lib the_reference` writes the reference anew.
#[test]
fn the_reference_in_the_documentation_is_the_table() {
    const BEGIN: &str =
        "<!-- settings: written from the table in src/config by UPDATE_DOCS=1 cargo test --lib the_reference -->\n";
    const END: &str = "<!-- end of settings -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = std::fs::read_to_string(path).expect("docs/configuration.md exists");
    let (before, rest) = page.split_once(BEGIN).expect("the page says where the reference begins");
    let (written, after) = rest.split_once(END).expect("the page says where the reference ends");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{}\n{END}{after}", reference())).expect("written");
        return;
    }
    assert!(
        written.trim() == reference().trim(),
        "docs/configuration.md and the table of settings disagree: run `UPDATE_DOCS=1 cargo test --lib the_reference`"
    );
}

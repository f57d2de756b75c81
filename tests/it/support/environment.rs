//! Shared services by environment, and the guards that stop a run before it writes where it must not.

use std::collections::HashMap;

use url::Url;

/// Marks a database as one that tests may destroy, whatever its schema: `COMMENT ON DATABASE … IS 'hadir: throw-away'`.
pub const THROW_AWAY: &str = "hadir: throw-away";

/// Services that somebody else runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    pub database_url: String,
    pub schema: String,
    pub valkey_url: String,
    /// Settings that the tested server is given as they are.
    pub settings: Vec<(String, String)>,
}

/// What the environment asks for: `None` for private instances.
///
/// # Errors
/// A sentence that says what to set or change.
pub fn read(environment: &HashMap<String, String>) -> Result<Option<Shared>, String> {
    let get = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
    let (database_url, valkey_url) = (get("TEST_DATABASE_URL"), get("TEST_VALKEY_URL"));
    let secret = get("AUTH_JWT_SECRET");
    let (database_url, valkey_url) = match (database_url, valkey_url) {
        (None, None) => return Ok(None),
        (Some(database), Some(valkey)) => (database, valkey),
        (Some(_), None) => {
            return Err("TEST_DATABASE_URL is set and TEST_VALKEY_URL is not: set both or neither".into());
        }
        (None, Some(_)) => {
            return Err("TEST_VALKEY_URL is set and TEST_DATABASE_URL is not: set both or neither".into());
        }
    };
    let Some(secret) = secret else {
        return Err("shared services need AUTH_JWT_SECRET, 32 characters or more".into());
    };
    if secret.len() < 32 {
        return Err("AUTH_JWT_SECRET has fewer than 32 characters".into());
    }
    let Some(origins) = get("HADIR_ALLOWED_ORIGINS") else {
        return Err("shared services need HADIR_ALLOWED_ORIGINS, as the server would be given".into());
    };
    for (test, product) in [("TEST_DATABASE_URL", "DATABASE_URL"), ("TEST_VALKEY_URL", "VALKEY_URL")] {
        let target = if test == "TEST_DATABASE_URL" { &database_url } else { &valkey_url };
        if get(product).is_some_and(|productive| same_target(&productive, target)) {
            return Err(format!("{test} is the same as {product}: tests would destroy what a server uses"));
        }
    }
    let valkey = Url::parse(&valkey_url).map_err(|_| "TEST_VALKEY_URL is not an address: valkey://host/1")?;
    let database = valkey.path().trim_matches('/').parse::<u16>().unwrap_or(0);
    let loopback = matches!(valkey.host_str(), Some("localhost" | "127.0.0.1" | "::1" | "[::1]"));
    if database == 0 && !loopback {
        return Err("TEST_VALKEY_URL names database 0 on a host that is not this one: give it a number, …/1".into());
    }
    let schema = get("TEST_DB_SCHEMA").unwrap_or_else(|| "hadir_test".to_owned());
    let mut settings = vec![("AUTH_JWT_SECRET".to_owned(), secret), ("HADIR_ALLOWED_ORIGINS".to_owned(), origins)];
    settings.extend(get("ACCESS_TOKEN_TTL_SECONDS").map(|ttl| ("ACCESS_TOKEN_TTL_SECONDS".to_owned(), ttl)));
    Ok(Some(Shared { database_url, schema, valkey_url, settings }))
}

/// Whether tests may destroy this schema, given what the database says about itself.
///
/// # Errors
/// A sentence that says what to change.
pub fn guard_schema(schema: &str, comment_on_database: Option<&str>) -> Result<(), String> {
    if schema == "public" && comment_on_database != Some(THROW_AWAY) {
        return Err(format!(
            "TEST_DB_SCHEMA is `public` on a database that is not marked throw-away: use another schema, or mark it \
             with COMMENT ON DATABASE … IS '{THROW_AWAY}'"
        ));
    }
    Ok(())
}

/// The same server and database, whoever logs in and however it is written.
fn same_target(one: &str, other: &str) -> bool {
    let target = |text: &str| {
        let url = Url::parse(text).ok()?;
        let host = match url.host_str()? {
            "localhost" | "::1" | "[::1]" => "127.0.0.1".to_owned(),
            host => host.to_owned(),
        };
        let default_port = if url.scheme().starts_with("postgres") { 5432 } else { 6379 };
        let path = url.path().trim_matches('/');
        let path = if path.is_empty() && default_port == 6379 { "0" } else { path };
        Some((host, url.port().unwrap_or(default_port), path.to_owned()))
    };
    one == other || target(one).is_some_and(|one| Some(one) == target(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn environment(changes: &[(&str, &str)]) -> HashMap<String, String> {
        let mut all = HashMap::from([
            ("TEST_DATABASE_URL".to_owned(), "postgres://hadir@db.test/hadir".to_owned()),
            ("TEST_VALKEY_URL".to_owned(), "valkey://cache.test/1".to_owned()),
            ("AUTH_JWT_SECRET".to_owned(), SECRET.to_owned()),
            ("HADIR_ALLOWED_ORIGINS".to_owned(), "https://app.test".to_owned()),
        ]);
        all.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        all
    }

    #[test]
    fn nothing_set_means_private_instances() {
        assert_eq!(read(&HashMap::new()), Ok(None));
        let only_secret = HashMap::from([("AUTH_JWT_SECRET".to_owned(), SECRET.to_owned())]);
        assert_eq!(read(&only_secret), Ok(None));
    }

    #[test]
    fn everything_set_names_the_services_and_the_default_schema() {
        let shared = read(&environment(&[])).unwrap().unwrap();
        assert_eq!(shared.schema, "hadir_test");
        assert_eq!(shared.settings.len(), 2);
        let with_ttl = read(&environment(&[("ACCESS_TOKEN_TTL_SECONDS", "60"), ("TEST_DB_SCHEMA", "mine")]));
        let with_ttl = with_ttl.unwrap().unwrap();
        assert_eq!((with_ttl.schema.as_str(), with_ttl.settings.len()), ("mine", 3));
    }

    #[test]
    fn each_missing_one_is_named() {
        for name in ["TEST_DATABASE_URL", "TEST_VALKEY_URL", "AUTH_JWT_SECRET", "HADIR_ALLOWED_ORIGINS"] {
            let refused = read(&environment(&[(name, "")])).unwrap_err();
            assert!(refused.contains(name), "{name}: {refused}");
        }
        assert!(read(&environment(&[("AUTH_JWT_SECRET", "short")])).is_err());
    }

    #[test]
    fn what_a_server_uses_is_refused_however_it_is_written() {
        for (name, value) in [
            ("DATABASE_URL", "postgres://hadir@db.test/hadir"),
            ("DATABASE_URL", "postgresql://other:secret@db.test:5432/hadir?sslmode=require"),
            ("VALKEY_URL", "redis://cache.test:6379/1"),
        ] {
            let refused = read(&environment(&[(name, value)])).unwrap_err();
            assert!(refused.contains(name) && !refused.contains("secret@"), "{refused}");
        }
        assert!(read(&environment(&[("VALKEY_URL", "valkey://cache.test/2")])).is_ok());
    }

    #[test]
    fn database_0_is_refused_on_other_hosts_only() {
        for far in ["valkey://cache.test", "valkey://cache.test/0"] {
            assert!(read(&environment(&[("TEST_VALKEY_URL", far)])).is_err(), "{far}");
        }
        assert!(read(&environment(&[("TEST_VALKEY_URL", "valkey://127.0.0.1:6390/0")])).is_ok());
    }

    #[test]
    fn the_public_schema_is_refused_unless_the_database_says_it_may_be_destroyed() {
        assert!(guard_schema("public", None).is_err());
        assert!(guard_schema("public", Some("our shop")).is_err());
        assert!(guard_schema("public", Some(THROW_AWAY)).is_ok());
        assert!(guard_schema("hadir_test", None).is_ok());
    }
}

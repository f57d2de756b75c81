//! Variables of the environment that other programs read and Hadir does not: `DATABASE_URI` for `DATABASE_URL`. They may
//! belong to another program, so that they stop nothing and are pointed out.

use super::{setting::AnySetting, table};

/// What other programs call our settings, and the settings that make the hint needless.
const OTHER_WORDS: &[(&str, &[&str], &[&str])] = &[
    (
        "DATABASE_URL",
        &[
            "DATABASE_URI",
            "DATABASE_DSN",
            "DATABASE_CONNECTION_STRING",
            "DB_URL",
            "DB_URI",
            "DB_DSN",
            "POSTGRES_URL",
            "POSTGRES_URI",
            "POSTGRES_DSN",
            "POSTGRESQL_URL",
            "POSTGRESQL_URI",
            "POSTGRES_CONNECTION_STRING",
            "PG_URL",
            "PG_URI",
            "PGURL",
            "PG_CONNECTION_STRING",
        ],
        &[],
    ),
    (
        "VALKEY_URL",
        &[
            "VALKEY_URI",
            "VALKEY_DSN",
            "REDIS_URL",
            "REDIS_URI",
            "REDIS_DSN",
            "REDIS_TLS_URL",
            "REDISCLOUD_URL",
            "CACHE_URL",
        ],
        &[],
    ),
    (
        "AUTH_JWT_SECRET",
        &["JWT_SECRET", "JWT_SECRET_KEY", "JWT_KEY", "AUTH_SECRET", "SECRET_KEY"],
        &["AUTH_JWKS_URL", "AUTH_JWKS_FILE"],
    ),
    ("AUTH_JWKS_URL", &["JWKS_URL", "JWKS_URI", "AUTH_JWKS_URI"], &["AUTH_JWKS_FILE"]),
    ("AUTH_JWT_ISSUER", &["JWT_ISSUER", "AUTH_ISSUER"], &[]),
    ("AUTH_JWT_AUDIENCE", &["JWT_AUDIENCE", "AUTH_AUDIENCE"], &[]),
    ("HADIR_PUBLIC_ADDR", &["PORT", "LISTEN_ADDR", "LISTEN_ADDRESS", "BIND_ADDR", "BIND_ADDRESS"], &[]),
    ("HADIR_LOG", &["LOG_LEVEL", "RUST_LOG"], &[]),
    ("HADIR_ALLOWED_ORIGINS", &["ALLOWED_ORIGINS", "CORS_ORIGINS", "CORS_ALLOWED_ORIGINS"], &[]),
    ("HADIR_TRUSTED_PROXIES", &["TRUSTED_PROXIES"], &[]),
];

/// Edits that a slip of the pen needs at most. More would suggest a setting for the variables of other programs.
const SLIP: usize = 2;

/// The setting that was probably meant by this variable, which is none, unless `is_set` says that it is set.
pub(super) fn meant_by(variable: &str, is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    let listed = OTHER_WORDS.iter().find(|(_, words, _)| words.contains(&variable));
    if let Some((setting, _, instead)) = listed {
        return (!is_set(setting) && !instead.iter().any(|setting| is_set(setting))).then_some(*setting);
    }
    let first_word = |name: &str| name.split('_').next().map(str::to_owned);
    let distance = |name: &str| strsim::damerau_levenshtein(variable, name);
    let nearest = table::all()
        .map(AnySetting::spec)
        .filter(|spec| first_word(spec.name) == first_word(variable))
        .map(|spec| (distance(spec.name), spec.name))
        .min_by_key(|(distance, _)| *distance)?;
    (nearest.0 <= SLIP && !is_set(nearest.1)).then_some(nearest.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_that_other_words_stand_for_exist_and_the_words_are_no_settings() {
        for (setting, words, instead) in OTHER_WORDS {
            assert!(
                table::find(setting).is_some() && instead.iter().all(|name| table::find(name).is_some()),
                "{setting}"
            );
            assert!(words.iter().all(|word| table::find(word).is_none()), "{setting}");
        }
    }

    #[test]
    fn what_was_meant_is_named_unless_it_is_set() {
        for (variable, setting) in [
            ("DATABASE_URI", "DATABASE_URL"),
            ("POSTGRES_URL", "DATABASE_URL"),
            ("REDIS_URL", "VALKEY_URL"),
            ("JWT_SECRET", "AUTH_JWT_SECRET"),
            ("PORT", "HADIR_PUBLIC_ADDR"),
            ("AUTH_JWT_SECERT", "AUTH_JWT_SECRET"),
            ("HEARTBEAT_INTERVAL_SECOND", "HEARTBEAT_INTERVAL_SECONDS"),
            ("MITRA_MAX_SESSION", "MITRA_MAX_SESSIONS"),
            ("DATABASE_URLS", "DATABASE_URL"),
        ] {
            assert_eq!(meant_by(variable, |_| false), Some(setting), "{variable}");
            assert_eq!(meant_by(variable, |name| name == setting), None, "{variable}");
        }
        assert_eq!(meant_by("JWT_SECRET", |name| name == "AUTH_JWKS_URL"), None, "public keys stand in for a secret");
        for other in ["PATH", "HOME", "DATABASE_NAME", "DATABASE_POOL", "TEST_DATABASE_URL", "VALKEY_PORT", "AUTH_URL"]
        {
            assert_eq!(meant_by(other, |_| false), None, "{other}");
        }
    }
}

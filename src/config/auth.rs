//! What makes a token good.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Secret, parse,
    setting::{AnySetting, Setting},
    store::StoreConfig,
    values::Reader,
};

const JWT_SECRET: Setting<Secret> = Setting::new(
    "AUTH_JWT_SECRET",
    parse::signing_secret,
    "Signs and verifies tokens (HS256), at least 32 characters. Required with DATABASE_URL.",
)
.unset("generated once, kept in HADIR_DATA_DIR with mode 0600")
.hidden();
const JWT_SECRET_PREVIOUS: Setting<Secret> = Setting::new(
    "AUTH_JWT_SECRET_PREVIOUS",
    parse::signing_secret,
    "Also verifies tokens, while the secret is being rotated.",
)
.hidden();
const JWKS_FILE: Setting<Infallible> = Setting::new(
    "AUTH_JWKS_FILE",
    parse::not_yet_a_key_set,
    "File with public keys (RS256, ES256, EdDSA). Not supported by this version: setting it stops the start.",
);
const JWKS_URL: Setting<Infallible> = Setting::new(
    "AUTH_JWKS_URL",
    parse::not_yet_a_key_set,
    "Address of public keys. Not supported by this version: setting it stops the start.",
);
const JWT_ISSUER: Setting<String> =
    Setting::new("AUTH_JWT_ISSUER", parse::text, "Required `iss` of every token.").unset("`iss` is not looked at");
const JWT_AUDIENCE: Setting<String> =
    Setting::new("AUTH_JWT_AUDIENCE", parse::text, "Required `aud` of every token.").unset("`aud` is not looked at");
const ACCESS_TOKEN_TTL: Setting<Duration> =
    Setting::new("ACCESS_TOKEN_TTL_SECONDS", parse::seconds, "Life of the tokens that `hadir token` gives.")
        .default("3600")
        .unit("seconds");

pub(super) const SETTINGS: &[&dyn AnySetting] =
    &[&JWT_SECRET, &JWT_SECRET_PREVIOUS, &JWKS_FILE, &JWKS_URL, &JWT_ISSUER, &JWT_AUDIENCE, &ACCESS_TOKEN_TTL];

/// Where the signing secret is.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// In the configuration.
    Configured(Secret),
    /// The embedded default: in this folder, generated when it is missing.
    Generated(PathBuf),
}

/// What makes a token good.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Signs and verifies.
    pub secret: SecretSource,
    /// Also verifies.
    pub previous_secret: Option<Secret>,
    /// Required `iss`; `None`: not looked at.
    pub issuer: Option<String>,
    /// Required `aud`; `None`: not looked at.
    pub audience: Option<String>,
    /// Life of the tokens that `hadir token` gives.
    pub access_token_ttl: Duration,
}

impl AuthConfig {
    pub(super) fn read(reader: &mut Reader<'_>, data_dir: &Path) -> Self {
        if StoreConfig::postgres_is_meant(reader) && !reader.is_set(&JWT_SECRET) {
            reader.contradiction(&[], || {
                "DATABASE_URL is set without AUTH_JWT_SECRET, but nodes that share a database must share the secret: \
                 set AUTH_JWT_SECRET or AUTH_JWT_SECRET_FILE (`openssl rand -base64 48` makes one)."
                    .to_owned()
            });
        }
        if reader.is_set(&JWT_SECRET_PREVIOUS) && !reader.is_set(&JWT_SECRET) {
            reader.contradiction(&[], || {
                "AUTH_JWT_SECRET_PREVIOUS is set without AUTH_JWT_SECRET: set the current secret too, or remove the \
                 previous one."
                    .to_owned()
            });
        }
        let _: (Option<Infallible>, Option<Infallible>) = (reader.optional(&JWKS_FILE), reader.optional(&JWKS_URL));
        Self {
            secret: match reader.optional(&JWT_SECRET) {
                Some(secret) => SecretSource::Configured(secret),
                None => SecretSource::Generated(data_dir.to_owned()),
            },
            previous_secret: reader.optional(&JWT_SECRET_PREVIOUS),
            issuer: reader.optional(&JWT_ISSUER),
            audience: reader.optional(&JWT_AUDIENCE),
            access_token_ttl: reader.required(&ACCESS_TOKEN_TTL),
        }
    }
}

//! What makes a token good.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{
    Secret, parse,
    setting::{AnySetting, Setting},
    store::StoreConfig,
    values::Reader,
};
use crate::domain::Role;

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
    "Also verifies tokens while you rotate the secret.",
)
.hidden();
const JWKS_FILE: Setting<PathBuf> = Setting::new(
    "AUTH_JWKS_FILE",
    parse::path,
    "File of public keys that also verify tokens: a JSON Web Key Set (RS256, ES256, EdDSA). Hadir reads it again every AUTH_JWKS_REFRESH_SECONDS.",
);
const JWKS_URL: Setting<Url> = Setting::new(
    "AUTH_JWKS_URL",
    parse::key_set_url,
    "URL of public keys that also verify tokens: https, or http on this machine. Hadir reads it again every AUTH_JWKS_REFRESH_SECONDS and at an unknown key.",
);
const JWKS_REFRESH: Setting<Duration> =
    Setting::new("AUTH_JWKS_REFRESH_SECONDS", parse::seconds, "Interval at which Hadir reads public keys again.")
        .default("300")
        .unit("seconds");
const CLAIM_SUB: Setting<String> = Setting::new(
    "AUTH_CLAIM_SUB",
    parse::text,
    "Claim with the subject's UUID, as a dotted path: `sub`, `app_metadata.hadir_id`.",
)
.default("sub");
const CLAIM_ROLE: Setting<String> = Setting::new(
    "AUTH_CLAIM_ROLE",
    parse::text,
    "Claim with the role, as a dotted path: `role`, `realm_access.roles`. A list of texts needs AUTH_ROLE_MAP.",
)
.default("role");
const ROLE_MAP: Setting<Vec<(String, Role)>> = Setting::new(
    "AUTH_ROLE_MAP",
    parse::role_map,
    "The provider's names of roles, comma separated: `partner=mitra,admin=dashboard`. With it, tokens of public keys may use these names only.",
)
.default("");
const JWT_ISSUER: Setting<String> =
    Setting::new("AUTH_JWT_ISSUER", parse::text, "Required `iss` of every token.").unset("`iss` is not checked");
const JWT_AUDIENCE: Setting<String> =
    Setting::new("AUTH_JWT_AUDIENCE", parse::text, "Required `aud` of every token.").unset("`aud` is not checked");
const ACCESS_TOKEN_TTL: Setting<Duration> =
    Setting::new("ACCESS_TOKEN_TTL_SECONDS", parse::seconds, "Lifetime of the tokens that `hadir token` prints.")
        .default("3600")
        .unit("seconds");

pub(super) const SETTINGS: &[&dyn AnySetting] = &[
    &JWT_SECRET,
    &JWT_SECRET_PREVIOUS,
    &JWKS_FILE,
    &JWKS_URL,
    &JWKS_REFRESH,
    &JWT_ISSUER,
    &JWT_AUDIENCE,
    &CLAIM_SUB,
    &CLAIM_ROLE,
    &ROLE_MAP,
    &ACCESS_TOKEN_TTL,
];

/// Where the signing secret is.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// In the configuration.
    Configured(Secret),
    /// The embedded default: in this folder, generated when it is missing.
    Generated(PathBuf),
    /// Only public keys verify tokens, and nothing here can sign one.
    None,
}

/// Where public keys are published.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A file of this machine.
    File(PathBuf),
    /// https, or http on this machine.
    Url(Url),
}

/// What makes a token good.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Signs and verifies.
    pub secret: SecretSource,
    /// Also verifies.
    pub previous_secret: Option<Secret>,
    /// Public keys that verify too.
    pub key_source: Option<KeySource>,
    /// Cadence at which they are read again.
    pub key_refresh: Duration,
    /// Dotted path of the claim with the subject's UUID.
    pub claim_subject: String,
    /// Dotted path of the claim with the role.
    pub claim_role: String,
    /// Foreign words for roles.
    pub role_map: Vec<(String, Role)>,
    /// Required `iss`; `None`: not looked at.
    pub issuer: Option<String>,
    /// Required `aud`; `None`: not looked at.
    pub audience: Option<String>,
    /// Lifetime of the tokens that `hadir token` prints.
    pub access_token_ttl: Duration,
}

impl AuthConfig {
    pub(super) fn read(reader: &mut Reader<'_>, data_dir: &Path) -> Self {
        let is_shared = StoreConfig::postgres_is_meant(reader);
        let has_public_keys = reader.is_set(&JWKS_FILE) || reader.is_set(&JWKS_URL);
        if is_shared && !has_public_keys && !reader.is_set(&JWT_SECRET) {
            reader.contradiction(&[], || {
                "DATABASE_URL is set without AUTH_JWT_SECRET, but nodes that share a database must share the secret: \
                 set AUTH_JWT_SECRET or AUTH_JWT_SECRET_FILE (`openssl rand -base64 48` makes one), or AUTH_JWKS_URL."
                    .to_owned()
            });
        }
        if reader.is_set(&JWKS_FILE) && reader.is_set(&JWKS_URL) {
            reader
                .contradiction(&[], || "AUTH_JWKS_FILE and AUTH_JWKS_URL are both set: remove one of them.".to_owned());
        }
        if reader.is_set(&JWT_SECRET_PREVIOUS) && !reader.is_set(&JWT_SECRET) {
            reader.contradiction(&[], || {
                "AUTH_JWT_SECRET_PREVIOUS is set without AUTH_JWT_SECRET: set the current secret too, or remove the \
                 previous one."
                    .to_owned()
            });
        }
        let (file, url) = (reader.optional(&JWKS_FILE), reader.optional(&JWKS_URL));
        Self {
            secret: match reader.optional(&JWT_SECRET) {
                Some(secret) => SecretSource::Configured(secret),
                None if is_shared && has_public_keys => SecretSource::None,
                None => SecretSource::Generated(data_dir.to_owned()),
            },
            key_source: file.map(KeySource::File).or(url.map(KeySource::Url)),
            key_refresh: reader.required(&JWKS_REFRESH),
            claim_subject: reader.required(&CLAIM_SUB),
            claim_role: reader.required(&CLAIM_ROLE),
            role_map: reader.required(&ROLE_MAP),
            previous_secret: reader.optional(&JWT_SECRET_PREVIOUS),
            issuer: reader.optional(&JWT_ISSUER),
            audience: reader.optional(&JWT_AUDIENCE),
            access_token_ttl: reader.required(&ACCESS_TOKEN_TTL),
        }
    }
}

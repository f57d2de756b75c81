//! The two listeners and whom they believe.

use ipnet::IpNet;

use super::{
    listen_address::ListenAddress,
    parse,
    setting::{AnySetting, Setting},
    values::Reader,
};

const PUBLIC_ADDR: Setting<ListenAddress> = Setting::new(
    "HADIR_PUBLIC_ADDR",
    ListenAddress::parse,
    "Listener for mitras and customers: an address or a host name with a port, or `:8080` for every address. Port 0 binds a free port and prints it.",
)
.default("127.0.0.1:8080");
const INTERNAL_ADDR: Setting<ListenAddress> = Setting::new(
    "HADIR_INTERNAL_ADDR",
    ListenAddress::parse,
    "Listener for the backend, operators and Prometheus, in the same form. Keep it off the internet.",
)
.default("127.0.0.1:8081");
const ALLOWED_ORIGINS: Setting<Vec<String>> = Setting::new(
    "HADIR_ALLOWED_ORIGINS",
    parse::origins,
    "Browser origins that may connect, exact and comma separated; also the CORS list. An origin with the request's own host is always allowed.",
)
.default("");
const TRUSTED_PROXIES: Setting<Vec<IpNet>> = Setting::new(
    "HADIR_TRUSTED_PROXIES",
    parse::networks,
    "Networks of proxies whose `X-Forwarded-For` Hadir trusts, comma separated.",
)
.default("");

pub(super) const SETTINGS: &[&dyn AnySetting] = &[&PUBLIC_ADDR, &INTERNAL_ADDR, &ALLOWED_ORIGINS, &TRUSTED_PROXIES];

/// The two listeners and whom they believe.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// For mitras and customers.
    pub public_addr: ListenAddress,
    /// For the backend, operators and Prometheus.
    pub internal_addr: ListenAddress,
    /// As browsers send them (lower case, without the scheme's own port).
    pub allowed_origins: Vec<String>,
    /// Their forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl ListenConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let listen = Self {
            public_addr: reader.required(&PUBLIC_ADDR),
            internal_addr: reader.required(&INTERNAL_ADDR),
            allowed_origins: reader.required(&ALLOWED_ORIGINS),
            trusted_proxies: reader.required(&TRUSTED_PROXIES),
        };
        if listen.public_addr.collides_with(&listen.internal_addr) {
            reader.contradiction(&["HADIR_PUBLIC_ADDR", "HADIR_INTERNAL_ADDR"], || {
                format!(
                    "HADIR_PUBLIC_ADDR ({}) and HADIR_INTERNAL_ADDR ({}) need the same port: give each a port of its own.",
                    listen.public_addr, listen.internal_addr
                )
            });
        }
        listen
    }
}

//! The two listeners and whom they believe.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::{
    parse,
    setting::{AnySetting, Setting},
    values::Reader,
};

const PUBLIC_ADDR: Setting<SocketAddr> = Setting::new(
    "HADIR_PUBLIC_ADDR",
    parse::address,
    "Address of the listener for mitras and customers. Port 0 binds a free port and prints it.",
)
.default("127.0.0.1:8080");
const INTERNAL_ADDR: Setting<SocketAddr> = Setting::new(
    "HADIR_INTERNAL_ADDR",
    parse::address,
    "Address of the listener for the backend, operators and Prometheus. Keep it off the internet.",
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
    pub public_addr: SocketAddr,
    /// For the backend, operators and Prometheus.
    pub internal_addr: SocketAddr,
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
        if listen.public_addr == listen.internal_addr && listen.public_addr.port() != 0 {
            reader.contradiction(&["HADIR_PUBLIC_ADDR", "HADIR_INTERNAL_ADDR"], || {
                format!(
                    "HADIR_PUBLIC_ADDR and HADIR_INTERNAL_ADDR are both {}: give each a port of its own.",
                    listen.public_addr
                )
            });
        }
        listen
    }
}

//! What may stand for a listener: an address, a host's name, or a port alone.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The longest name that DNS allows.
const LONGEST_NAME: usize = 253;

/// Where a listener is to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `127.0.0.1:8080`, `[::1]:8080`.
    Socket(SocketAddr),
    /// `:8080`: every address of the machine, IPv6 and IPv4.
    Everywhere(u16),
    /// `localhost:8080`: what the name resolves to at start.
    Name {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
}

impl ListenAddress {
    /// Reads one of the three forms.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        let wrong = "is no address with a port: write for example 127.0.0.1:8080, localhost:8080, [::1]:8080, or \
                     :8080 for every address";
        let (host, port) = text.rsplit_once(':').ok_or(wrong)?;
        let port = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit())).ok_or(wrong)?;
        if host.is_empty() {
            return Ok(Self::Everywhere(port));
        }
        if !is_host_name(host) {
            return Err(wrong.to_owned());
        }
        Ok(Self::Name { host: host.to_ascii_lowercase(), port })
    }

    /// The port; 0 takes a free one.
    pub fn port(&self) -> u16 {
        match self {
            Self::Socket(address) => address.port(),
            Self::Everywhere(port) | Self::Name { port, .. } => *port,
        }
    }

    /// Whether both cannot be listened on at once, as far as their words show.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        let both_cover = |one: &Self| match one {
            Self::Everywhere(_) => true,
            Self::Socket(address) => address.ip().is_unspecified(),
            Self::Name { .. } => false,
        };
        self.port() != 0 && self.port() == other.port() && (self == other || both_cover(self) || both_cover(other))
    }

    /// Where this machine itself reaches the listener, as host and port.
    pub fn reachable(&self) -> String {
        match self {
            Self::Socket(address) => reachable(*address).to_string(),
            Self::Everywhere(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).to_string(),
            Self::Name { .. } => self.to_string(),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Everywhere(port) => write!(f, ":{port}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// A listener on every address is reached by loopback.
pub fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    SocketAddr::new(ip, listener.port())
}

/// Labels of letters, digits, `-` and `_`. A name of digits and points only is an address written wrongly.
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    host.len() <= LONGEST_NAME && labels.split('.').all(is_label) && host.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_names_and_ports_alone_are_understood() {
        let name = |host: &str, port| ListenAddress::Name { host: host.to_owned(), port };
        for (text, expected) in [
            ("127.0.0.1:8080", ListenAddress::Socket("127.0.0.1:8080".parse().expect("an address"))),
            ("[::1]:0", ListenAddress::Socket("[::1]:0".parse().expect("an address"))),
            (":8080", ListenAddress::Everywhere(8080)),
            ("localhost:8080", name("localhost", 8080)),
            ("Node-1.internal.:1", name("node-1.internal.", 1)),
            ("hadir_1:65535", name("hadir_1", 65535)),
        ] {
            assert_eq!(ListenAddress::parse(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            ":",
            "8080",
            "localhost",
            "localhost:",
            "localhost:http",
            "localhost:65536",
            "localhost:+80",
            "1.2.3:80",
            "256.0.0.1:80",
            "::1:80",
            "http://localhost:80",
            "local host:80",
            "-a:80",
            "a..b:80",
            "*:80",
            "[::1]",
            "a/b:80",
        ] {
            assert!(ListenAddress::parse(text).is_err(), "{text}");
        }
        assert!(ListenAddress::parse(&format!("{}:80", "a.".repeat(200))).is_err());
    }

    #[test]
    fn a_listener_on_every_address_is_reached_by_loopback() {
        for (text, expected) in [
            (":8080", "127.0.0.1:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.7:8080", "10.0.0.7:8080"),
            ("localhost:8080", "localhost:8080"),
        ] {
            assert_eq!(ListenAddress::parse(text).expect("valid").reachable(), expected);
        }
    }

    #[test]
    fn listeners_that_need_the_same_port_collide() {
        let collide = |one: &str, other: &str| {
            let parse = |text| ListenAddress::parse(text).expect("valid");
            parse(one).collides_with(&parse(other)) && parse(other).collides_with(&parse(one))
        };
        for (one, other) in [(":80", ":80"), (":80", "127.0.0.1:80"), ("0.0.0.0:80", "localhost:80"), ("a:80", "A:80")]
        {
            assert!(collide(one, other), "{one} {other}");
        }
        for (one, other) in
            [(":0", ":0"), (":80", ":81"), ("127.0.0.1:80", "10.0.0.7:80"), ("localhost:80", "[::1]:80")]
        {
            assert!(!collide(one, other), "{one} {other}");
        }
    }
}

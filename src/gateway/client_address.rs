//! Whose address a request really has, behind proxies that are believed.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address: the peer's own, unless the peer is a trusted proxy; then the last address of `X-Forwarded-For`
/// that no trusted proxy stands at. Whatever is further left was written by somebody who may lie.
pub(super) fn client_address(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.ip().to_canonical();
    if !is_trusted(&peer) {
        return peer;
    }
    let hops: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        // What is not an address was not written by a proxy of ours: the hop before it stands.
        let Some(address) = address_of(hop.trim()) else {
            warn_of_unreadable(peer);
            return client;
        };
        client = address.to_canonical();
        if !is_trusted(&client) {
            return client;
        }
    }
    client
}

/// What one customer of a network is given: an address, or in IPv6 a /64 of them (RFC 6177).
pub(super) fn one_holder(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// An address as proxies write it: bare, with a port, or an IPv6 address in brackets with or without
/// one (RFC 7239 section 6 has the forms; `X-Forwarded-For` borrows them).
fn address_of(hop: &str) -> Option<IpAddr> {
    if let Ok(address) = hop.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = hop.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Once per process: every request of such a proxy would say the same.
fn warn_of_unreadable(proxy: IpAddr) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Relaxed) {
        tracing::warn!(
            %proxy,
            "X-Forwarded-For of a trusted proxy holds something that is no address: its clients count as one; make the proxy \
             write the client's IP address"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        client_address(format!("{peer}:1").parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(address("192.0.2.7", &["203.0.113.9"]), "192.0.2.7");
    }

    #[test]
    fn a_trusted_proxy_names_the_client_and_what_is_left_of_it_is_a_claim() {
        assert_eq!(address("10.0.0.1", &["198.51.100.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["203.0.113.9", "10.0.0.2, 10.0.0.3"]), "203.0.113.9");
        assert_eq!(address("[::1]", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(address("[::ffff:10.0.0.1]", &["203.0.113.9"]), "203.0.113.9");
    }

    #[test]
    fn a_port_and_brackets_are_understood() {
        for (written, address_read) in [
            ("203.0.113.1:4711", "203.0.113.1"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("203.0.113.1:4711, 10.0.0.2:80", "203.0.113.1"),
        ] {
            assert_eq!(address("10.0.0.1", &[written]), address_read, "{written}");
        }
        for unreadable in ["203.0.113.1:", "203.0.113.1:99999", "[2001:db8::7", "2001:db8::7]:1", "", "_hidden"] {
            assert_eq!(address("10.0.0.1", &[unreadable]), "10.0.0.1", "{unreadable}");
        }
    }

    #[test]
    fn without_a_usable_name_the_nearest_hop_stands() {
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &["unknown"]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &["203.0.113.9, nonsense, 10.0.0.2"]), "10.0.0.2");
    }
}

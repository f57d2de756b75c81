//! Whose address a request really has, behind proxies that are believed.

use std::net::{IpAddr, SocketAddr};

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
        let Ok(address) = hop.trim().parse::<IpAddr>() else { return client };
        client = address.to_canonical();
        if !is_trusted(&client) {
            return client;
        }
    }
    client
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
    fn without_a_usable_name_the_nearest_hop_stands() {
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &["unknown"]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &["203.0.113.9, nonsense, 10.0.0.2"]), "10.0.0.2");
    }
}

//! Variables that Kubernetes injects for each Service of a namespace. A Service called `hadir`, or `hadir-redis`, gives
//! names that begin as our settings do. They are recognised by the form of name and value; both have to fit.

use std::net::IpAddr;

/// Whether this variable describes a Service and sets nothing of ours.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    // A Service's own name may hold any of these words: each place where the form may begin counts.
    name.match_indices('_').any(|(at, _)| is_form(&name[at..], value))
}

/// The forms of `kubernetes.io/docs/concepts/services-networking/service/#environment-variables`.
fn is_form(rest: &str, value: &str) -> bool {
    if rest == "_SERVICE_HOST" {
        return value.parse::<IpAddr>().is_ok();
    }
    if let Some(port_name) = rest.strip_prefix("_SERVICE_PORT") {
        return (port_name.is_empty() || port_name.starts_with('_')) && is_port(value);
    }
    let Some(rest) = rest.strip_prefix("_PORT") else { return false };
    let mut parts = rest.split('_').skip(1);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (None, ..) => rest.is_empty() && is_endpoint(value, None),
        (Some(port), Some(protocol), field, None) if is_port(port) && is_protocol(protocol) => match field {
            None => is_endpoint(value, Some(port)),
            Some("PROTO") => value.eq_ignore_ascii_case(protocol),
            Some("PORT") => value == port,
            Some("ADDR") => value.parse::<IpAddr>().is_ok(),
            Some(_) => false,
        },
        _ => false,
    }
}

fn is_protocol(word: &str) -> bool {
    ["tcp", "udp", "sctp"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// `tcp://10.0.0.1:8080`, an IPv6 address in brackets or without.
fn is_endpoint(value: &str, port: Option<&str>) -> bool {
    let Some((protocol, address)) = value.split_once("://") else { return false };
    let Some((host, written)) = address.rsplit_once(':') else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    is_protocol(protocol)
        && host.parse::<IpAddr>().is_ok()
        && is_port(written)
        && port.is_none_or(|port| port == written)
}

#[cfg(test)]
mod tests {
    use super::is_service_link;

    #[test]
    fn what_kubernetes_injects_is_recognised_by_name_and_value() {
        for (name, value) in [
            ("HADIR_SERVICE_HOST", "10.96.0.7"),
            ("HADIR_SERVICE_HOST", "fd00::7"),
            ("HADIR_SERVICE_PORT", "8080"),
            ("HADIR_SERVICE_PORT_PUBLIC", "8080"),
            ("HADIR_SERVICE_PORT_GRPC_WEB", "8080"),
            ("HADIR_PORT", "tcp://10.96.0.7:8080"),
            ("HADIR_PORT", "tcp://[fd00::7]:8080"),
            ("HADIR_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
            ("HADIR_PORT_8080_TCP_PROTO", "tcp"),
            ("HADIR_PORT_8080_TCP_PORT", "8080"),
            ("HADIR_PORT_8080_TCP_ADDR", "10.96.0.7"),
            ("HADIR_PORT_53_UDP", "udp://10.96.0.7:53"),
            ("HADIR_REDIS_SERVICE_HOST", "10.96.0.8"),
            ("HADIR_REDIS_PORT", "tcp://10.96.0.8:6379"),
            ("HADIR_POSTGRES_PORT_5432_TCP_ADDR", "10.96.0.9"),
            // Services called `hadir-port` and `hadir-service-port-2`.
            ("HADIR_PORT_PORT", "tcp://10.96.0.9:1"),
            ("HADIR_PORT_PORT_1_SCTP", "sctp://10.96.0.9:1"),
            ("HADIR_SERVICE_PORT_2_SERVICE_HOST", "10.96.0.9"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
    }

    #[test]
    fn a_setting_written_wrongly_is_none_of_these() {
        for (name, value) in [
            ("HADIR_PORT", "8080"),
            ("HADIR_PORT", "127.0.0.1:8080"),
            ("HADIR_PORT", "tcp://hadir:8080"),
            ("HADIR_PORTS", "tcp://10.96.0.7:8080"),
            ("HADIR_PUBLIC_PORT", "8080"),
            ("HADIR_SERVICE_HOST", "hadir.default.svc"),
            ("HADIR_SERVICE_PORT", "http"),
            ("HADIR_SERVICE_PORTS", "8080"),
            ("HADIR_PORT_8080", "tcp://10.96.0.7:8080"),
            ("HADIR_PORT_8080_TCP", "tcp://10.96.0.7:8081"),
            ("HADIR_PORT_8080_TCP_HOST", "10.96.0.7"),
            ("HADIR_PORT_8080_HTTP", "http://10.96.0.7:8080"),
            ("HADIR_PUBLIC_ADRR", "10.96.0.7"),
            ("HADIR_LIMIT_FRAME_BYTE", "8080"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}

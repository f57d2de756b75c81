//! What the client library and the server say, in words that tell an operator what to do.

/// Part of what is said, and what it means at a place.
const KNOWN: &[(&str, &str)] = &[
    ("ConnectionRefused", "the connection is refused at PLACE"),
    ("UnknownIssuer", "PLACE has a certificate of an authority that is not trusted; name it in VALKEY_TLS_CA_FILE"),
    ("BadSignature", "PLACE has a certificate of an authority that is not trusted; name it in VALKEY_TLS_CA_FILE"),
    ("NotValidForName", "PLACE has a certificate for another name than this address and the hosts of VALKEY_URL"),
    ("InvalidCertificate(Expired", "PLACE has a certificate that has expired"),
    ("CertificateRequired", "PLACE wants a certificate; name one in VALKEY_TLS_CERT_FILE and VALKEY_TLS_KEY_FILE"),
    ("InvalidContentType", "PLACE does not speak TLS; write valkey:// in VALKEY_URL, or the port that does"),
    ("handshake eof", "PLACE does not speak TLS; write valkey:// in VALKEY_URL, or the port that does"),
    ("InvalidCertificate(NotValidYet", "PLACE has a certificate that is not valid yet"),
    ("CROSSSLOT", "PLACE is part of a cluster; write valkey-cluster:// in VALKEY_URL"),
    ("MOVED ", "PLACE is part of a cluster; write valkey-cluster:// in VALKEY_URL"),
    ("kind: NotFound", "there is no socket at PLACE"),
    ("kind: PermissionDenied", "this user may not open PLACE"),
    ("WRONGPASS", "PLACE refuses the user or the password in VALKEY_URL"),
    ("NOAUTH", "PLACE wants a password, and VALKEY_URL has none"),
    ("must be called with the client already authenticated", "PLACE wants a password, and VALKEY_URL has none"),
    ("OOM ", "PLACE is full: it has reached maxmemory and takes no writes; give it more"),
    ("READONLY", "PLACE is a replica and takes no writes; name the primary in VALKEY_URL, or the Sentinels"),
    ("MISCONF", "PLACE takes no writes, because it cannot save to its disk; its log says why"),
    ("NOREPLICAS", "PLACE takes no writes, because it has too few replicas (min-replicas-to-write)"),
    ("LOADING", "PLACE is still loading its data"),
    ("MASTERDOWN", "PLACE is a replica that has lost its primary"),
    ("CLUSTERDOWN", "PLACE is part of a cluster that is not well"),
    ("failed to lookup address", "the host in PLACE has no address in DNS"),
];

/// Why a connection could not be made, or was lost, in words.
pub(super) fn trouble_in_words(said: &str, place: &str, is_tls: bool) -> String {
    if said.contains("Request timed out") {
        // A server without TLS waits for the end of a line in what it takes for a command.
        let hint = if is_tls { "; see that it speaks TLS there" } else { "" };
        return format!("{place} takes no connection in time{hint}");
    }
    in_words(said, place)
}

/// An error in words.
pub(super) fn in_words(said: &str, place: &str) -> String {
    if let Some((_, meaning)) = KNOWN.iter().find(|(part, _)| said.contains(part)) {
        return meaning.replace("PLACE", place);
    }
    // Which one is missing stands in the server's own words.
    let refused = ["NOPERM ", "ACL failure in script: "].iter().find_map(|kind| Some(said.split_once(kind)?.1));
    if let Some(refused) = refused {
        let refused = refused.split(" script: ").next().unwrap_or(refused);
        return format!("the user in VALKEY_URL lacks a right at {place}: {refused}");
    }
    // What the standard library writes of an error of the system.
    let message = said.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"'));
    message.map_or_else(|| said.to_owned(), |(message, _)| format!("{message}, at {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_system_names_the_place_and_no_structure() {
        let refused = "IO Error: Os { code: 111, kind: ConnectionRefused, message: \"Connection refused\" }";
        assert_eq!(in_words(refused, "a:1"), "the connection is refused at a:1");
        let other = "IO Error: Os { code: 113, kind: HostUnreachable, message: \"No route to host\" }";
        assert_eq!(in_words(other, "a:1"), "No route to host, at a:1");
        let right = "Unknown Error: NOPERM No permissions to access a key";
        assert_eq!(
            in_words(right, "a:1"),
            "the user in VALKEY_URL lacks a right at a:1: No permissions to access a key"
        );
        assert_eq!(in_words("ERR of another kind", "a:1"), "ERR of another kind");
    }
}

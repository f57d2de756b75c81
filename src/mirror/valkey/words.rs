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
        assert_eq!(in_words("OOM command not allowed", "a:1"), "OOM command not allowed");
    }
}

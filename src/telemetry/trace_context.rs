//! Ids that a caller brings, so that its log lines and ours can be joined: `traceparent` of W3C Trace Context and
//! `X-Request-Id`. What is not of the expected form is left out: it would end in the log.

use uuid::Uuid;

/// Longest request id that is taken over.
const LONGEST_REQUEST_ID: usize = 64;

/// The trace id of a `traceparent` header, 32 hexadecimal digits (W3C Trace Context section 3.2.2).
pub fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_set = |text: &str| text.bytes().any(|byte| byte != b'0');
    let well_formed = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    // A later version may have more parts; version ff is forbidden.
    let version_fits = version != "ff" && (version != "00" || parts.next().is_none());
    (well_formed && version_fits && is_set(trace) && is_set(parent)).then_some(trace)
}

/// The id of a request: the caller's, when it is short and plain, else a new one.
pub fn request_id(given: Option<&str>) -> String {
    let is_plain = |id: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.bytes().all(plain)
    };
    match given {
        Some(id) if is_plain(id) => id.to_owned(),
        _ => Uuid::new_v4().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_trace_id_is_taken_from_a_well_formed_header_only() {
        for good in [
            format!("00-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-00"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01-what-the-future-will-be-like"),
        ] {
            assert_eq!(trace_id(&good), Some(TRACE), "{good}");
        }
        for bad in [
            String::new(),
            TRACE.to_owned(),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}\n-00f067aa0ba902b7-01", &TRACE[1..]),
        ] {
            assert_eq!(trace_id(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_id_of_the_caller_is_kept_when_it_is_short_and_plain() {
        assert_eq!(request_id(Some("order-7.retry_2")), "order-7.retry_2");
        for bad in [None, Some(""), Some("a b"), Some("a\nb"), Some("é"), Some("\"x\""), Some("a".repeat(65).as_str())]
        {
            let id = request_id(bad);
            assert!(id.parse::<Uuid>().is_ok(), "{bad:?} gave {id}");
        }
    }
}

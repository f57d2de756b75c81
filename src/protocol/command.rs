//! What clients say. One strict parser; everything it does not know is a [`BadMessage`] that says what to do.

use serde::Deserialize;

/// Bounds on a client's message; from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// Nesting of arrays and objects, beyond which the text is not even parsed.
    pub max_nesting: u32,
    /// Bytes of a command's `id`.
    pub max_id_bytes: usize,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Authenticate a socket that came without a token.
    Auth { token: String },
    /// A new token on a live socket.
    Refresh { token: String },
    /// An application-level ping; answered by `pong`.
    Ping,
    /// Go online (mitra).
    Online,
    /// Go offline (mitra).
    Offline,
}

/// A command with the id that its answer carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMessage {
    pub id: Option<String>,
    pub command: Command,
}

/// The message was not understood; the text tells the client's author why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadMessage {
    /// The command's id, where it could be read.
    pub id: Option<String>,
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    token: Option<String>,
}

impl ClientMessage {
    /// The one message that a busy client sends: recognised without parsing or allocating.
    pub fn is_plain_ping(text: &str) -> bool {
        text == r#"{"type":"ping"}"#
    }

    /// Parses one text frame.
    ///
    /// # Errors
    /// [`BadMessage`] for text that is not JSON, an unknown type, a missing, unknown or wrongly typed field, nesting or an
    /// id beyond the limits.
    pub fn parse(text: &str, limits: MessageLimits) -> Result<Self, BadMessage> {
        let refuse = |id: Option<String>, message: String| Err(BadMessage { id, message });
        if nesting(text) > limits.max_nesting {
            return refuse(None, format!("the message nests deeper than {} levels", limits.max_nesting));
        }
        // Fields are told apart by their names, never by their places.
        if !text.trim_start().starts_with('{') {
            return refuse(None, "a message is a JSON object".to_owned());
        }
        let wire: Wire = match serde_json::from_str(text) {
            Ok(wire) => wire,
            Err(error) => {
                let Sketch { kind, id } = serde_json::from_str(text).unwrap_or_default();
                let id = id.filter(|id| id.len() <= limits.max_id_bytes);
                if kind.is_some_and(|kind| !TYPES.contains(&kind.as_str())) {
                    return refuse(id, UNKNOWN_TYPE.to_owned());
                }
                return refuse(id, format!("not a message this server knows: {error}"));
            }
        };
        if wire.id.as_ref().is_some_and(|id| id.len() > limits.max_id_bytes) {
            return refuse(None, format!("`id` is longer than {} bytes", limits.max_id_bytes));
        }
        let id = wire.id;
        let command = match (wire.kind.as_str(), wire.token) {
            ("auth", Some(token)) => Command::Auth { token },
            ("refresh", Some(token)) => Command::Refresh { token },
            ("auth" | "refresh", None) => return refuse(id, format!("`{}` needs a `token`", wire.kind)),
            ("ping", None) => Command::Ping,
            ("online", None) => Command::Online,
            ("offline", None) => Command::Offline,
            ("ping" | "online" | "offline", Some(_)) => return refuse(id, format!("`{}` takes no `token`", wire.kind)),
            _ => return refuse(id, UNKNOWN_TYPE.to_owned()),
        };
        Ok(Self { id, command })
    }
}

const TYPES: [&str; 5] = ["auth", "refresh", "ping", "online", "offline"];
const UNKNOWN_TYPE: &str = "unknown `type`; use auth, refresh, ping, online or offline";

/// What can be told of a message that is not one of ours, so that its sender knows which it was.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Sketch {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
}

/// Deepest nesting of brackets outside strings; a scan, so that a bomb is never parsed.
fn nesting(text: &str) -> u32 {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0u32, 0u32, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MessageLimits = MessageLimits { max_nesting: 8, max_id_bytes: 64 };

    fn parse(text: &str) -> Result<ClientMessage, BadMessage> {
        ClientMessage::parse(text, LIMITS)
    }

    #[test]
    fn each_command_is_read_with_its_id() {
        assert_eq!(
            parse(r#"{"type":"online","id":"c1"}"#),
            Ok(ClientMessage { id: Some("c1".into()), command: Command::Online })
        );
        assert_eq!(parse(r#"{ "type" : "ping" }"#).map(|m| m.command), Ok(Command::Ping));
        assert_eq!(parse(r#"{"type":"auth","token":"t"}"#).map(|m| m.command), Ok(Command::Auth { token: "t".into() }));
    }

    #[test]
    fn what_is_not_understood_is_refused_in_words() {
        for text in [
            "",
            "null",
            "[]",
            "nonsense",
            r#"{"type":1}"#,
            r#"{"type":"dance"}"#,
            r#"{"type":"auth"}"#,
            r#"{"id":"x"}"#,
            r#"{"type":"ping","extra":1}"#,
            r#"{"type":"ping","id":7}"#,
            r#"{"type":"online","token":"t"}"#,
        ] {
            let refused = parse(text).expect_err(text);
            assert!(!refused.message.is_empty());
        }
    }

    #[test]
    fn the_id_of_a_known_but_wrong_message_comes_back() {
        for text in [r#"{"type":"dance","id":"c9"}"#, r#"{"type":"online","id":"c9","volume":11}"#] {
            assert_eq!(parse(text).expect_err(text).id.as_deref(), Some("c9"));
        }
        let later = parse(r#"{"type":"accept","id":"c7","offer_id":"x"}"#).expect_err("unknown");
        assert_eq!((later.id.as_deref(), later.message.starts_with("unknown `type`")), (Some("c7"), true));
    }

    #[test]
    fn ids_and_nesting_are_bounded() {
        let id = "x".repeat(65);
        assert!(parse(&format!(r#"{{"type":"ping","id":"{id}"}}"#)).is_err());
        let deep = format!(r#"{{"type":"ping","id":{}{}}}"#, "[".repeat(9), "]".repeat(9));
        assert!(parse(&deep).expect_err("deep").message.contains("nests"));
        assert_eq!(nesting(r#"{"a":"[[[[{{{{\"[["}"#), 1);
    }
}

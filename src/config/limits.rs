//! Bounds on what clients may do, each with its unit. What happens beyond each is in `docs/protocol.md`.

use std::time::Duration;

use super::{
    parse,
    setting::{AnySetting, Setting},
    values::Reader,
};

/// Descriptors that are not sockets of clients: listeners, stores, files.
const RESERVED_DESCRIPTORS: usize = 256;

const FRAME_BYTES: Setting<usize> = Setting::new(
    "HADIR_LIMIT_FRAME_BYTES",
    parse::whole::<usize, 128, 1_048_576>,
    "Largest message of a client. A larger one closes 1009.",
)
.default("4096")
.unit("bytes");
const WRITE_BUFFER_BYTES: Setting<usize> = Setting::new(
    "HADIR_LIMIT_WRITE_BUFFER_BYTES",
    parse::whole::<usize, 4096, 1_048_576>,
    "Backpressure: the most bytes that wait for one socket in this process, and the size of its send buffer in the kernel.",
)
.default("65536")
.unit("bytes");
const MESSAGES_PER_SECOND: Setting<u32> = Setting::new(
    "HADIR_LIMIT_MESSAGES_PER_SECOND",
    parse::whole::<u32, 1, 100_000>,
    "Rate limit of one socket's messages, sustained. Beyond it `rate_limited`, then close 4429.",
)
.default("20")
.unit("messages per second");
const BYTES_PER_SECOND: Setting<u32> = Setting::new(
    "HADIR_LIMIT_BYTES_PER_SECOND",
    parse::whole::<u32, 1024, 1_073_741_824>,
    "Rate limit of one socket's bytes, sustained, and the size of a burst. Beyond it `rate_limited`, then close 4429.",
)
.default("65536")
.unit("bytes per second");
const FRAGMENTS_PER_MESSAGE: Setting<u32> = Setting::new(
    "HADIR_LIMIT_FRAGMENTS_PER_MESSAGE",
    parse::whole::<u32, 1, 100_000>,
    "Most fragments of one message of a client. More close 1009.",
)
.default("64")
.unit("fragments");
const MESSAGE_TIMEOUT: Setting<Duration> = Setting::new(
    "HADIR_LIMIT_MESSAGE_SECONDS",
    parse::seconds,
    "Longest time from the first byte of a client's message to its last. Then close 1009.",
)
.default("10")
.unit("seconds");
const BAD_MESSAGES_PER_MINUTE: Setting<u32> = Setting::new(
    "HADIR_LIMIT_BAD_MESSAGES_PER_MINUTE",
    parse::whole::<u32, 1, 100_000>,
    "Bad messages of one socket; the last one closes 4500.",
)
.default("10")
.unit("messages per minute");
const JSON_DEPTH: Setting<u32> = Setting::new(
    "HADIR_LIMIT_JSON_DEPTH",
    parse::whole::<u32, 1, 64>,
    "Deepest nesting of arrays and objects in a frame of a client.",
)
.default("8")
.unit("levels");
const COMMAND_ID_BYTES: Setting<usize> =
    Setting::new("HADIR_LIMIT_COMMAND_ID_BYTES", parse::whole::<usize, 1, 1024>, "Longest `id` of a command.")
        .default("64")
        .unit("bytes");
const SOCKETS_PER_MITRA: Setting<usize> = Setting::new(
    "HADIR_LIMIT_SOCKETS_PER_MITRA",
    parse::whole::<usize, 1, 10_000>,
    "Most sockets of one mitra on a node. One more closes the longest-silent socket with 4509.",
)
.default("10")
.unit("sockets");
const SOCKETS_PER_CUSTOMER: Setting<usize> = Setting::new(
    "HADIR_LIMIT_SOCKETS_PER_CUSTOMER",
    parse::whole::<usize, 1, 100_000>,
    "Most sockets and event streams of one customer on a node. Beyond it 429.",
)
.default("20")
.unit("sockets");
const SOCKETS_PER_OPERATOR: Setting<usize> = Setting::new(
    "HADIR_LIMIT_SOCKETS_PER_OPERATOR",
    parse::whole::<usize, 1, 100_000>,
    "Most sockets and event streams of one service or dashboard subject on a node. Beyond it 429.",
)
.default("100")
.unit("sockets");
const UNAUTHENTICATED_PER_IP: Setting<usize> = Setting::new(
    "HADIR_LIMIT_UNAUTHENTICATED_SOCKETS_PER_IP",
    parse::whole::<usize, 1, 1_000_000>,
    "Most sockets of one address that have not authenticated. Beyond it 429.",
)
.default("50")
.unit("sockets");
const SOCKETS_PER_NODE: Setting<usize> = Setting::new(
    "HADIR_LIMIT_SOCKETS_PER_NODE",
    parse::whole::<usize, 1, 10_000_000>,
    "Most sockets of a node. Beyond it 503.",
)
.unset("what the limit of file descriptors allows")
.unit("sockets");
const HTTP_CONNECTIONS: Setting<usize> = Setting::new(
    "HADIR_LIMIT_HTTP_CONNECTIONS",
    parse::whole::<usize, 1, 1_000_000>,
    "Most connections of a listener that are no socket: in a handshake, in a request or idle. Beyond it Hadir closes the oldest of the address with most.",
)
.default("512")
.unit("connections");
const HTTP_CONNECTIONS_PER_ADDRESS: Setting<usize> = Setting::new(
    "HADIR_LIMIT_HTTP_CONNECTIONS_PER_ADDRESS",
    parse::whole::<usize, 1, 1_000_000>,
    "The same for one address, or one /64 of IPv6. HADIR_TRUSTED_PROXIES are exempt.",
)
.default("256")
.unit("connections");
const KEEP_ALIVE: Setting<Duration> = Setting::new(
    "HADIR_LIMIT_KEEP_ALIVE_SECONDS",
    parse::seconds,
    "How long a connection may idle between two requests. Use more than your load balancer's idle time, often 60 s.",
)
.default("75")
.unit("seconds");
const HEADER_READ: Setting<Duration> = Setting::new(
    "HADIR_LIMIT_HEADER_READ_SECONDS",
    parse::seconds,
    "Longest time for the headers of a request to arrive.",
)
.default("5")
.unit("seconds");
const HEADER_BYTES: Setting<usize> =
    Setting::new("HADIR_LIMIT_HEADER_BYTES", parse::whole::<usize, 8192, 1_048_576>, "Largest head of a request.")
        .default("16384")
        .unit("bytes");
const FIRST_MESSAGE: Setting<Duration> = Setting::new(
    "HADIR_LIMIT_FIRST_MESSAGE_SECONDS",
    parse::seconds,
    "Longest wait for the first `auth` message of a socket without a token. Then close 4408.",
)
.default("5")
.unit("seconds");
const STALLED_READER: Setting<Duration> = Setting::new(
    "HADIR_LIMIT_STALLED_READER_SECONDS",
    parse::seconds,
    "Close a client (4410) if it reads nothing for this long while data is queued.",
)
.default("30")
.unit("seconds");
const CLOSE_WAIT: Setting<Duration> = Setting::new(
    "HADIR_LIMIT_CLOSE_SECONDS",
    parse::seconds,
    "Longest wait for a client to answer a close. Then Hadir drops the connection.",
)
.default("2")
.unit("seconds");
const BODY_BYTES: Setting<usize> = Setting::new(
    "HADIR_LIMIT_BODY_BYTES",
    parse::whole::<usize, 1024, 16_777_216>,
    "Largest body of a request. A larger one gets 413.",
)
.default("65536")
.unit("bytes");
const BODY_TIMEOUT: Setting<Duration> =
    Setting::new("HADIR_LIMIT_BODY_SECONDS", parse::seconds, "Longest time for a request's body to arrive.")
        .default("10")
        .unit("seconds");

pub(super) const SETTINGS: &[&dyn AnySetting] = &[
    &FRAME_BYTES,
    &WRITE_BUFFER_BYTES,
    &MESSAGES_PER_SECOND,
    &BYTES_PER_SECOND,
    &FRAGMENTS_PER_MESSAGE,
    &MESSAGE_TIMEOUT,
    &BAD_MESSAGES_PER_MINUTE,
    &JSON_DEPTH,
    &COMMAND_ID_BYTES,
    &SOCKETS_PER_MITRA,
    &SOCKETS_PER_CUSTOMER,
    &SOCKETS_PER_OPERATOR,
    &UNAUTHENTICATED_PER_IP,
    &SOCKETS_PER_NODE,
    &HTTP_CONNECTIONS,
    &HTTP_CONNECTIONS_PER_ADDRESS,
    &KEEP_ALIVE,
    &HEADER_READ,
    &HEADER_BYTES,
    &FIRST_MESSAGE,
    &STALLED_READER,
    &CLOSE_WAIT,
    &BODY_BYTES,
    &BODY_TIMEOUT,
];

/// Bounds on what clients may do.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// Largest message of a client, bytes.
    pub frame_bytes: usize,
    /// Largest amount waiting to be written to one socket, bytes.
    pub write_buffer_bytes: usize,
    /// Messages of one socket per second, sustained.
    pub messages_per_second: u32,
    /// Bytes that one socket sends per second, sustained, and in a burst.
    pub bytes_per_second: u32,
    /// Fragments of one message of a client.
    pub fragments_per_message: u32,
    /// Longest time from the first byte of a client's message to its last.
    pub message_timeout: Duration,
    /// Bad messages of one socket per minute; this many close it.
    pub bad_messages_per_minute: u32,
    /// Deepest nesting of arrays and objects.
    pub json_depth: u32,
    /// Longest `id` of a command, bytes.
    pub command_id_bytes: usize,
    /// Sockets of one mitra on a node.
    pub sockets_per_mitra: usize,
    /// Sockets and event streams of one customer on a node.
    pub sockets_per_customer: usize,
    /// Sockets and event streams of one service or dashboard subject on a node.
    pub sockets_per_operator: usize,
    /// Sockets of one address that have not authenticated yet.
    pub unauthenticated_sockets_per_ip: usize,
    /// Sockets of a node; `None`: see [`LimitsConfig::node_cap`].
    pub sockets_per_node: Option<usize>,
    /// Connections of a listener that are no socket.
    pub http_connections: usize,
    /// The same of one address.
    pub http_connections_per_address: usize,
    /// How long a connection may idle between two requests.
    pub keep_alive: Duration,
    /// Longest time for the headers of a request.
    pub header_read_timeout: Duration,
    /// Largest head of a request, bytes.
    pub header_bytes: usize,
    /// Longest time for the first `auth` message.
    pub first_message_timeout: Duration,
    /// Longest time without progress of a reader.
    pub stalled_reader_timeout: Duration,
    /// Longest time for a client to answer a close.
    pub close_timeout: Duration,
    /// Largest body of a request, bytes.
    pub body_bytes: usize,
    /// Longest time for a request's body.
    pub body_timeout: Duration,
}

/// How many sockets a node takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCap {
    /// Beyond it: 503.
    pub sockets: usize,
    /// A sentence to log at start when the machine allows fewer than were asked for.
    pub warning: Option<String>,
}

impl LimitsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            frame_bytes: reader.required(&FRAME_BYTES),
            write_buffer_bytes: reader.required(&WRITE_BUFFER_BYTES),
            messages_per_second: reader.required(&MESSAGES_PER_SECOND),
            bytes_per_second: reader.required(&BYTES_PER_SECOND),
            fragments_per_message: reader.required(&FRAGMENTS_PER_MESSAGE),
            message_timeout: reader.required(&MESSAGE_TIMEOUT),
            bad_messages_per_minute: reader.required(&BAD_MESSAGES_PER_MINUTE),
            json_depth: reader.required(&JSON_DEPTH),
            command_id_bytes: reader.required(&COMMAND_ID_BYTES),
            sockets_per_mitra: reader.required(&SOCKETS_PER_MITRA),
            sockets_per_customer: reader.required(&SOCKETS_PER_CUSTOMER),
            sockets_per_operator: reader.required(&SOCKETS_PER_OPERATOR),
            unauthenticated_sockets_per_ip: reader.required(&UNAUTHENTICATED_PER_IP),
            sockets_per_node: reader.optional(&SOCKETS_PER_NODE),
            http_connections: reader.required(&HTTP_CONNECTIONS),
            http_connections_per_address: reader.required(&HTTP_CONNECTIONS_PER_ADDRESS),
            keep_alive: reader.required(&KEEP_ALIVE),
            header_read_timeout: reader.required(&HEADER_READ),
            header_bytes: reader.required(&HEADER_BYTES),
            first_message_timeout: reader.required(&FIRST_MESSAGE),
            stalled_reader_timeout: reader.required(&STALLED_READER),
            close_timeout: reader.required(&CLOSE_WAIT),
            body_bytes: reader.required(&BODY_BYTES),
            body_timeout: reader.required(&BODY_TIMEOUT),
        }
    }

    /// How many connections of one listener may be no socket, in a process with this limit of file descriptors.
    pub fn places(&self, descriptors: usize) -> usize {
        self.http_connections.min(descriptors / 8).max(1)
    }

    /// How many sockets a process with this limit of file descriptors takes.
    pub fn node_cap(&self, descriptors: usize) -> NodeCap {
        // Connections of both listeners that are no socket hold descriptors too: the last ones are theirs, to be
        // answered with 503.
        let elsewhere = RESERVED_DESCRIPTORS + 2 * self.places(descriptors);
        let possible = descriptors.saturating_sub(elsewhere).max(descriptors / 2).max(1);
        match self.sockets_per_node {
            None => NodeCap { sockets: possible, warning: None },
            Some(wanted) if wanted <= possible => NodeCap { sockets: wanted, warning: None },
            Some(wanted) => NodeCap {
                // Beyond the descriptors nobody could be answered, not even with 503.
                sockets: possible,
                warning: Some(format!(
                    "HADIR_LIMIT_SOCKETS_PER_NODE is {wanted}, but the limit of {descriptors} file descriptors allows about \
                     {possible} sockets, and so many are taken: raise the limit (`ulimit -n`, LimitNOFILE) or lower the setting"
                )),
            },
        }
    }
}

//! What each part takes from the configuration.

use crate::{
    api::ApiSettings,
    config::{Config, LimitsConfig},
    gateway::{AcceptLimits, GatewaySettings, PlaceLimits},
    hub::HubLimits,
    presence::PresenceSettings,
    protocol::MessageLimits,
    replication::ReplicationSettings,
};

fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

pub(super) fn hub_limits(limits: &LimitsConfig) -> HubLimits {
    let cap = limits.node_cap(descriptors());
    if let Some(warning) = &cap.warning {
        tracing::warn!("{warning}");
    }
    HubLimits {
        sockets_per_mitra: limits.sockets_per_mitra,
        sockets_per_customer: limits.sockets_per_customer,
        sockets_per_operator: limits.sockets_per_operator,
        sockets: cap.sockets as u64,
    }
}

pub(super) fn replication_settings(config: &Config) -> ReplicationSettings {
    ReplicationSettings {
        node_id: config.node_id.clone(),
        heartbeat_interval: config.timing.heartbeat_interval,
        suspect_after: config.timing.suspect_after,
        heartbeat_mirror_interval: config.timing.heartbeat_mirror_interval,
        breaker_failures: config.mirror.breaker_failures,
        breaker_retry: config.mirror.breaker_retry,
    }
}

pub(super) fn presence_settings(config: &Config) -> PresenceSettings {
    PresenceSettings {
        offline_after: config.timing.offline_after,
        auto_offline_interval: config.timing.auto_offline_interval,
        restraint_release: config.timing.restraint_release,
    }
}

pub(super) fn api_settings(config: &Config) -> ApiSettings {
    ApiSettings {
        allowed_origins: config.listen.allowed_origins.clone(),
        body_bytes: config.limits.body_bytes,
        body_timeout: config.limits.body_timeout,
        sse_comment_interval: config.timing.sse_comment_interval,
    }
}

pub(super) fn accept_limits(config: &Config) -> AcceptLimits {
    let limits = &config.limits;
    AcceptLimits {
        places: PlaceLimits {
            in_all: limits.places(descriptors()),
            per_address: limits.http_connections_per_address,
            exempt: config.listen.trusted_proxies.clone(),
        },
        header_read_timeout: limits.header_read_timeout,
        header_bytes: limits.header_bytes,
        keep_alive: limits.keep_alive,
        dead_peer_after: config.timing.suspect_after,
    }
}

pub(super) fn gateway_settings(config: &Config) -> GatewaySettings {
    let (timing, limits) = (&config.timing, &config.limits);
    GatewaySettings {
        node_id: config.node_id.clone(),
        allowed_origins: config.listen.allowed_origins.clone(),
        trusted_proxies: config.listen.trusted_proxies.clone(),
        heartbeat_interval: timing.heartbeat_interval,
        suspect_after: timing.suspect_after,
        offline_after: timing.offline_after,
        reconnect_window: timing.reconnect_window,
        max_silence: timing.max_silence,
        token_warning: timing.token_warning,
        first_message_timeout: limits.first_message_timeout,
        stalled_reader_timeout: limits.stalled_reader_timeout,
        close_timeout: limits.close_timeout,
        frame_bytes: limits.frame_bytes,
        write_buffer_bytes: limits.write_buffer_bytes,
        messages_per_second: limits.messages_per_second,
        bytes_per_second: limits.bytes_per_second,
        fragments_per_message: limits.fragments_per_message,
        message_timeout: limits.message_timeout,
        bad_messages_per_minute: limits.bad_messages_per_minute,
        unauthenticated_sockets_per_ip: limits.unauthenticated_sockets_per_ip,
        messages: MessageLimits { max_nesting: limits.json_depth, max_id_bytes: limits.command_id_bytes },
    }
}

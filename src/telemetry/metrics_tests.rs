//! Names of metrics, and what they show.

use super::*;

fn line<'a>(text: &'a str, beginning: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(beginning)).unwrap_or_else(|| panic!("no {beginning} in\n{text}"))
}

#[test]
fn every_metric_has_exactly_its_name() {
    let metrics = Metrics::new();
    for role in Role::ALL {
        metrics.socket_opened(role);
    }
    metrics.socket_closed(Role::Customer, 4410);
    metrics.unauthenticated_socket_closed(4408);
    metrics.connect_refused(None, "unauthorized");
    metrics.heartbeat();
    metrics.heartbeats_flushed(700, Duration::from_millis(3));
    metrics.mirror_command("beat", Outcome::Timeout);
    metrics.store_query("set_online", Outcome::Ok);
    metrics.read("availability", Source::Sqlite);
    metrics.set_mode(Mode::Live);
    metrics.set_mode(Mode::Fallback);
    metrics.mirror_epoch_changed();
    metrics.reseeded(Duration::from_millis(20), 5);
    metrics.sweep_ran("auto_offline", Outcome::Skipped);
    metrics.auto_offlined(2);
    metrics.snapshot_published();
    metrics.snapshot_delivered(Duration::from_millis(4));
    metrics.set_pubsub_loop_lag(Duration::from_micros(1500));
    metrics.watch_skipped(3);
    metrics.set_counts(&Counts { online: 50, suspect: 1, ..Counts::default() });
    metrics.set_sessions([("active", 6)].into_iter());
    let text = metrics.clone().render(Exposition::OpenMetrics);
    for expected in [
        r#"hadir_sockets{role="mitra"} 1"#,
        r#"hadir_sockets{role="customer"} 0"#,
        r#"hadir_socket_connects_total{role="mitra",result="ok"} 1"#,
        r#"hadir_socket_connects_total{role="none",result="unauthorized"} 1"#,
        r#"hadir_socket_closes_total{role="customer",code="4410"} 1"#,
        r#"hadir_socket_closes_total{role="none",code="4408"} 1"#,
        "hadir_heartbeats_total 1",
        "hadir_heartbeat_flush_size_sum 700.0",
        "hadir_heartbeat_flush_seconds_count 1",
        r#"hadir_mirror_commands_total{op="beat",result="timeout"} 1"#,
        r#"hadir_store_queries_total{op="set_online",result="ok"} 1"#,
        r#"hadir_reads_total{op="availability",source="sqlite"} 1"#,
        r#"hadir_mode{mode="live"} 0"#,
        r#"hadir_mode{mode="fallback"} 1"#,
        "hadir_mirror_epoch_changes_total 1",
        "hadir_reseed_seconds_count 1",
        "hadir_reseed_drift_total 5",
        r#"hadir_sweep_runs_total{sweep="auto_offline",result="skipped"} 1"#,
        "hadir_auto_offline_total 2",
        "hadir_snapshots_published_total 1",
        r#"hadir_snapshot_delivery_seconds_bucket{le="0.004"} 1"#,
        "hadir_pubsub_loop_lag_seconds 0.0015",
        "hadir_watch_skipped_total 3",
        r#"hadir_mitras{state="online"} 50"#,
        r#"hadir_mitras{state="available"} 0"#,
        r#"hadir_sessions{status="active"} 6"#,
    ] {
        assert_eq!(line(&text, expected), expected);
    }
    assert!(text.ends_with("# EOF\n"), "the content type promises OpenMetrics");
}

#[test]
fn sockets_are_at_zero_before_anything_happened_and_return_to_it() {
    let metrics = Metrics::new();
    for role in Role::ALL {
        let zero = format!("hadir_sockets{{role=\"{}\"}} 0", role.as_str());
        assert_eq!(line(&metrics.render(Exposition::OpenMetrics), &zero), zero);
        metrics.socket_opened(role);
        metrics.socket_closed(role, 1000);
        assert_eq!(line(&metrics.render(Exposition::OpenMetrics), &zero), zero);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_shows_what_it_uses() {
    let text = Metrics::new().render(Exposition::OpenMetrics);
    let value = |name: &str| -> f64 {
        line(&text, &format!("{name} ")).rsplit(' ').next().expect("a value").parse().expect("a number")
    };
    assert!(value("process_resident_memory_bytes") > 100_000.0);
    assert!(value("process_open_fds") >= 1.0);
    assert!(value("process_max_fds") > value("process_open_fds"));
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_threads") >= 1.0);
    let age = chrono::Utc::now().timestamp() as f64 - value("process_start_time_seconds");
    assert!((-5.0..86_400.0).contains(&age), "started {age} seconds ago");
}

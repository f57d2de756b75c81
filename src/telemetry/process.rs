//! What the operating system knows of this process, read at each scrape from `/proc/self`. Where that does not exist,
//! these metrics are missing.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rustix::{
    param::clock_ticks_per_second,
    process::{Resource, getrlimit},
};

/// Encodes the metrics that Prometheus' own client libraries have agreed on.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// One look at `/proc`.
#[derive(Debug, PartialEq)]
struct Sample {
    resident_bytes: u64,
    cpu_seconds: f64,
    start_time_seconds: f64,
    threads: u64,
    open_descriptors: u64,
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(sample) = sample() else { return Ok(()) };
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        let bytes = Some(&Unit::Bytes);
        let seconds = Some(&Unit::Seconds);
        gauge("process_resident_memory", "Resident memory", bytes, sample.resident_bytes as f64)?;
        gauge("process_start_time", "Start of the process since 1970", seconds, sample.start_time_seconds)?;
        gauge("process_threads", "Threads", None, sample.threads as f64)?;
        gauge("process_open_fds", "Open file descriptors", None, sample.open_descriptors as f64)?;
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            gauge("process_max_fds", "Limit of open file descriptors", None, limit as f64)?;
        }
        let cpu = ConstCounter::new(sample.cpu_seconds);
        cpu.encode(encoder.encode_descriptor("process_cpu", "User and system time", seconds, cpu.metric_type())?)
    }
}

fn sample() -> Option<Sample> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let boot = boot_time(&fs::read_to_string("/proc/stat").ok()?)?;
    // The listing opens a descriptor of its own.
    let descriptors = (fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1);
    parse(&stat, &status, boot, clock_ticks_per_second() as f64, descriptors)
}

/// Fields as numbered in proc(5); the second, the program's name in parentheses, may hold anything.
fn parse(stat: &str, status: &str, boot: f64, ticks: f64, open_descriptors: u64) -> Option<Sample> {
    let after_name: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| after_name.get(number - 3)?.parse::<f64>().ok();
    let resident_kb: u64 =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        resident_bytes: resident_kb * 1024,
        cpu_seconds: (field(14)? + field(15)?) / ticks,
        start_time_seconds: boot + field(22)? / ticks,
        threads: field(20)? as u64,
        open_descriptors,
    })
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 7 0 1000 999 88 1";
        let sample = parse(stat, "Name:\ta\nVmRSS:\t    2048 kB\n", 1_700_000_000.0, 100.0, 9);
        assert_eq!(
            sample,
            Some(Sample {
                resident_bytes: 2048 * 1024,
                cpu_seconds: 3.0,
                start_time_seconds: 1_700_000_010.0,
                threads: 7,
                open_descriptors: 9,
            })
        );
        assert_eq!(parse("garbage", "", 0.0, 100.0, 0), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
    }
}

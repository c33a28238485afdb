//! When the process started, and what it takes of the system, as far as Linux tells in `/proc`; elsewhere there is the start
//! alone.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Unit of times in `/proc`: Linux shows 100 ticks a second on all architectures that we build for.
const TICKS: f64 = 100.0;

/// Reads `/proc` at each scrape.
#[derive(Debug)]
pub(super) struct Process {
    /// Seconds since the Unix epoch.
    started: f64,
}

/// What there is to tell.
#[derive(Debug, Default, PartialEq)]
struct Usage {
    cpu_seconds: Option<f64>,
    threads: Option<i64>,
    resident: Option<i64>,
    virtual_size: Option<i64>,
    open_files: Option<i64>,
    max_files: Option<i64>,
}

impl Usage {
    fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let mut usage = Self::parse(&text("/proc/self/stat"), &text("/proc/self/status"), &text("/proc/self/limits"));
        // the folder that is being read is open too
        usage.open_files = fs::read_dir("/proc/self/fd").ok().map(|open| count(open.count().saturating_sub(1)));
        usage
    }

    fn parse(stat: &str, status: &str, limits: &str) -> Self {
        // the second field is the program's name in brackets, which may hold anything
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect()).unwrap_or_default();
        // proc(5) counts from 1 and the name is field 2
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_end_matches("kB").trim().parse::<i64>().ok().map(|size| size * 1024)
        };
        let max_files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS),
            threads: fields.get(20 - 3).and_then(|text| text.parse().ok()),
            resident: kilobytes("VmRSS:"),
            virtual_size: kilobytes("VmSize:"),
            open_files: None,
            max_files: max_files.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()),
        }
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Process {
    /// Of a process that has just started. The clock is asked once, so a step of it later is no restart; and it is the clock,
    /// since a confined service sees its own part of `/proc` and not the time of the boot.
    pub(super) fn starts_now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: since.as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let usage = Usage::read();
        if let Some(seconds) = usage.cpu_seconds {
            let counter = ConstCounter::new(seconds);
            let help = "User and system CPU time spent, in seconds.";
            counter.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?)?;
        }
        let gauge = ConstGauge::new(self.started);
        let help = "When the process started, in seconds since the Unix epoch.";
        gauge.encode(encoder.encode_descriptor("process_start_time_seconds", help, None, gauge.metric_type())?)?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory.", usage.resident),
            ("process_virtual_memory_bytes", "Virtual memory.", usage.virtual_size),
            ("process_open_fds", "Open file descriptors.", usage.open_files),
            ("process_max_fds", "The most file descriptors that may be open.", usage.max_files),
            ("process_threads", "Threads of the operating system.", usage.threads),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::Exposition;

    #[test]
    fn the_system_is_read_as_it_writes() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 5 0 1000 8192 3 18446744073709551615";
        let status = "Name:\tx\nVmSize:\t   2048 kB\nVmRSS:\t     512 kB\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024    4096    files\n";
        let usage = Usage::parse(stat, status, limits);
        assert_eq!(
            usage,
            Usage {
                cpu_seconds: Some(4.0),
                threads: Some(5),
                resident: Some(524_288),
                virtual_size: Some(2_097_152),
                open_files: None,
                max_files: Some(1024),
            }
        );
        assert_eq!(Usage::parse("", "", ""), Usage::default());
    }

    #[test]
    fn this_process_is_found() {
        let usage = Usage::read();
        assert!(usage.resident.is_some_and(|bytes| bytes > 1024 * 1024), "{usage:?}");
        assert!(usage.threads.is_some_and(|threads| threads > 0) && usage.open_files.is_some_and(|open| open > 2));
    }

    #[test]
    fn the_start_is_told_by_the_clock_and_stays() {
        let now = || f64::from(u32::try_from(chrono::Utc::now().timestamp()).expect("before 2106"));
        let before = now();
        let exposition = Exposition::new(Registry::default());
        let start = || -> f64 {
            let text = exposition.text(false);
            let line = text.lines().find_map(|line| line.strip_prefix("process_start_time_seconds "));
            line.unwrap_or_else(|| panic!("{text}")).parse().expect("a number")
        };
        let told = start();
        assert!((before..now() + 1.0).contains(&told), "{told}");
        // to the nanosecond, which the clock never is twice
        assert!((start() - told).abs() < f64::EPSILON);
    }
}

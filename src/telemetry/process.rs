//! Metrics of the process, under the names that every Prometheus client uses:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// Returns the current values. There are none on systems without `/proc`.
pub fn families() -> prometheus::Result<Vec<MetricFamily>> {
    let mut families = Vec::new();
    let Some(process) = Process::now() else { return Ok(families) };
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", process.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", process.virtual_bytes),
        ("process_threads", "Threads.", process.threads),
        ("process_open_fds", "Number of open file descriptors.", process.open_files),
        ("process_max_fds", "Maximum number of open file descriptors.", process.open_files_max),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            process.started_seconds,
        ),
    ] {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        families.extend(gauge.collect());
    }
    let cpu = Counter::new("process_cpu_seconds_total", "User and system time spent in seconds.")?;
    cpu.inc_by(process.cpu_seconds);
    families.extend(cpu.collect());
    Ok(families)
}

struct Process {
    resident_bytes: f64,
    virtual_bytes: f64,
    threads: f64,
    open_files: f64,
    open_files_max: f64,
    started_seconds: f64,
    cpu_seconds: f64,
}

impl Process {
    /// Reads `/proc`: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.
    fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program is in parentheses and may contain any character, so parsing starts
        // after the last `)`.
        let fields: Vec<f64> =
            stat.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
        // The manual numbers fields from 1. The first field after the name is number 3.
        let field = |number: usize| fields.get(number - 3).copied();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let booted = std::fs::read_to_string("/proc/stat").ok()?;
        let booted = booted.lines().find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok())?;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Some(Self {
            resident_bytes: field(24)? * rustix::param::page_size() as f64,
            virtual_bytes: field(23)?,
            threads: field(20)?,
            open_files: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            open_files_max: limit.map_or(f64::INFINITY, |limit| limit as f64),
            started_seconds: booted + field(22)? / ticks,
            cpu_seconds: (field(14)? + field(15)?) / ticks,
        })
    }
}

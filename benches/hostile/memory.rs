//! Measures the memory of a process, and its peak.
//!
//! The kernel's high-water mark (`VmHWM`, reset through `/proc/PID/clear_refs`) misses nothing, but it is
//! lost when the process ends. So `VmRSS` is read every 10 ms as well, and the larger value counts.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

const PERIOD: Duration = Duration::from_millis(10);

/// Resets `VmHWM` (proc(5), `clear_refs`).
const RESET_PEAK: &str = "5";

/// Returns the bytes that `process` holds, or `None` if it has ended.
pub fn held(process: u32) -> Option<u64> {
    of_status(process, "VmRSS:")
}

fn of_status(process: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    kibibytes_of(&status, name).map(|kibibytes| kibibytes * 1024)
}

fn kibibytes_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The bytes at which a process is killed to protect its machine.
const GUARD_BYTES: u64 = 8_000_000_000;

/// Returns the bytes at which a process is killed on this machine: at most half of the free memory.
fn guard() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = kibibytes_of(&meminfo, "MemAvailable:").map(|kibibytes| kibibytes * 1024 / 2);
    available.unwrap_or(GUARD_BYTES).min(GUARD_BYTES)
}

/// Watches the memory of a process, and kills it if it threatens the machine.
pub struct Watch {
    process: u32,
    has_high_water: bool,
    stop: Arc<AtomicBool>,
    sampled: Arc<AtomicU64>,
    sampler: JoinHandle<End>,
}

/// How a process ended under a [`Watch`].
#[derive(Clone, Copy, Debug, Default)]
pub struct End {
    /// Time since the beginning of the watch.
    pub after: Option<Duration>,
    /// The bytes at which the watch killed it.
    pub killed_at: Option<u64>,
}

/// The result of a [`Watch`].
pub struct Seen {
    /// The peak in bytes.
    pub peak: u64,
    pub end: End,
    /// Whether the kernel's high-water mark could be reset. If not, a peak of a few milliseconds may be
    /// missed.
    pub has_high_water: bool,
}

impl Watch {
    pub fn begin(process: u32) -> Self {
        let has_high_water = fs::write(format!("/proc/{process}/clear_refs"), RESET_PEAK).is_ok();
        let (stop, sampled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let sampler = {
            let (stop, sampled, begun) = (Arc::clone(&stop), Arc::clone(&sampled), Instant::now());
            thread::spawn(move || {
                let guard = guard();
                let mut end = End::default();
                while !stop.load(Ordering::Relaxed) {
                    let Some(bytes) = held(process) else {
                        end.after = Some(begun.elapsed());
                        return end;
                    };
                    sampled.fetch_max(bytes, Ordering::Relaxed);
                    if bytes > guard {
                        // The process id is not reused until this process, its parent, has waited for it.
                        let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
                        let _ = pid.map(|pid| rustix::process::kill_process(pid, Signal::KILL));
                        end.killed_at.get_or_insert(bytes);
                    }
                    thread::sleep(PERIOD);
                }
                end
            })
        };
        Self { process, has_high_water, stop, sampled, sampler }
    }

    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let end = self.sampler.join().unwrap_or_default();
        let high_water = if self.has_high_water { of_status(self.process, "VmHWM:") } else { None };
        let peak = self.sampled.load(Ordering::Relaxed).max(high_water.unwrap_or(0));
        Seen { peak, end, has_high_water: self.has_high_water }
    }
}

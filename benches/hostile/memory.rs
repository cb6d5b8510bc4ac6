//! How much memory a process holds, and held at most.
//!
//! The kernel's own high-water mark (`VmHWM`, set back through `/proc/PID/clear_refs`) misses nothing, but goes with the
//! process: so `VmRSS` is read every 10 ms as well, and the larger of both counts.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_millis(10);

/// Sets `VmHWM` to what is held (proc(5), `clear_refs`).
const RESET_PEAK: &str = "5";

/// Bytes that `process` holds; none once it has ended.
pub fn held(process: u32) -> Option<u64> {
    of_status(process, "VmRSS:")
}

fn of_status(process: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Watches the memory of a process until it is asked.
pub struct Watch {
    process: u32,
    has_high_water: bool,
    stop: Arc<AtomicBool>,
    sampled: Arc<AtomicU64>,
    sampler: JoinHandle<Option<Duration>>,
}

/// What a [`Watch`] saw.
pub struct Seen {
    /// Bytes held at most.
    pub peak: u64,
    /// When the process ended, from the beginning of the watch.
    pub died_after: Option<Duration>,
    /// Whether the kernel's high-water mark could be set back: without it a peak of some milliseconds may be missed.
    pub has_high_water: bool,
}

impl Watch {
    pub fn begin(process: u32) -> Self {
        let has_high_water = fs::write(format!("/proc/{process}/clear_refs"), RESET_PEAK).is_ok();
        let (stop, sampled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let sampler = {
            let (stop, sampled, begun) = (Arc::clone(&stop), Arc::clone(&sampled), Instant::now());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match held(process) {
                        Some(bytes) => sampled.fetch_max(bytes, Ordering::Relaxed),
                        None => return Some(begun.elapsed()),
                    };
                    thread::sleep(PERIOD);
                }
                None
            })
        };
        Self { process, has_high_water, stop, sampled, sampler }
    }

    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let died_after = self.sampler.join().ok().flatten();
        let high_water = if self.has_high_water { of_status(self.process, "VmHWM:") } else { None };
        let peak = self.sampled.load(Ordering::Relaxed).max(high_water.unwrap_or(0));
        Seen { peak, died_after, has_high_water: self.has_high_water }
    }
}

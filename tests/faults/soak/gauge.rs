//! The resources of a server as the system reports them.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::checker::files_under;
use crate::process::Client;

/// One sample of a server.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    memory_bytes: f64,
    open_files: f64,
    threads: f64,
    jobs: f64,
    versions: f64,
    folder_bytes: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory_bytes, open_files, threads, jobs, versions, folder_bytes } = self;
        write!(
            f,
            "memory_bytes={memory_bytes:.0} open_files={open_files:.0} threads={threads:.0} jobs={jobs:.0} \
             versions={versions:.0} folder_bytes={folder_bytes:.0}"
        )
    }
}

impl Sample {
    /// Returns whether there are at most this many rows.
    pub fn has_at_most(&self, jobs: usize, versions: usize) -> bool {
        self.jobs <= jobs as f64 && self.versions <= versions as f64
    }

    /// Returns `None` if the server does not respond now.
    pub fn of(pid: u32, client: &Client, folder: &Path) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let models = client.all("/v1/models", "models").ok()?;
        let versions = models.iter().filter_map(|model| model["version_count"].as_u64());
        // A file may be deleted while it is measured.
        let bytes = |name: &String| fs::metadata(folder.join(name)).map_or(0, |file| file.len());
        Some(Self {
            memory_bytes: field("VmRSS:")? * 1024.0,
            open_files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as f64,
            threads: field("Threads:")?,
            jobs: client.jobs().ok()?.len() as f64,
            versions: versions.sum::<u64>() as f64,
            folder_bytes: files_under(folder).ok()?.iter().map(bytes).sum::<u64>() as f64,
        })
    }
}

/// The limit of a figure: its name, its value in a sample, and the factor and amount by which it may grow.
type Limit = (&'static str, fn(&Sample) -> f64, f64, f64);

/// Asserts that the mean of the last quarter does not exceed the mean of the third quarter by more than a
/// limit. Numbers of rows are not compared, because they follow the pace of the clients.
pub fn assert_flat(samples: &[Sample]) {
    let quarter = samples.len() / 4;
    assert!(quarter > 0, "{} samples are too few", samples.len());
    let (third, last) = (&samples[2 * quarter..3 * quarter], &samples[samples.len() - quarter..]);
    let mean = |samples: &[Sample], what: fn(&Sample) -> f64| {
        samples.iter().map(what).sum::<f64>() / samples.len() as f64
    };
    let mebibytes = f64::from(1 << 20);
    let limits: [Limit; 4] = [
        ("memory_bytes", |sample| sample.memory_bytes, 1.1, 8.0 * mebibytes),
        ("open_files", |sample| sample.open_files, 1.0, 2.0),
        ("threads", |sample| sample.threads, 1.0, 2.0),
        ("folder_bytes", |sample| sample.folder_bytes, 1.1, 8.0 * mebibytes),
    ];
    let mut grown = Vec::new();
    for (name, what, factor, more) in limits {
        let (before, after) = (mean(third, what), mean(last, what));
        println!("figures: soak_{name} third_quarter={before:.0} last_quarter={after:.0}");
        if after > before * factor + more {
            grown.push(format!("{name} grew from {before:.0} to {after:.0}"));
        }
    }
    assert!(grown.is_empty(), "{}", grown.join(", "));
}

mod tests {
    use super::*;

    /// Returns a hundred samples of a server whose memory grows by `bytes` from one to the next.
    fn growing_by(bytes: f64) -> Vec<Sample> {
        let of = |number: u32| Sample {
            memory_bytes: 1e8 + f64::from(number) * bytes,
            open_files: 20.0,
            threads: 10.0,
            jobs: 50.0,
            versions: 15.0,
            folder_bytes: 1e7,
        };
        (0..100).map(of).collect()
    }

    #[test]
    fn a_steady_server_is_flat() {
        assert_flat(&growing_by(0.0));
    }

    /// The known-bad twin: the memory of this server grows.
    #[test]
    #[should_panic(expected = "memory_bytes grew")]
    fn a_server_that_grows_is_found() {
        assert_flat(&growing_by(2e6));
    }
}

//! The settings of a server, from flags and environment variables.

mod color;
mod keep;
mod limits;
mod log;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::Targets;

pub use self::color::ColorChoice;
pub use self::keep::Keep;
pub use self::limits::Limits;

use self::limits::cores;
use self::log::log_filter;
use self::value::{address, host, lease_seconds, seconds, upkeep_seconds};

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// All settings. Each flag has an environment variable; the flag takes precedence.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Address to listen on; port 0 takes a free port
    #[arg(long, env = "CHAINRULE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS", value_parser = address)]
    pub listen: SocketAddr,

    /// Host names that requests may be addressed to, such as example.org; IP addresses and localhost are always allowed
    #[arg(long, env = "CHAINRULE_ALLOWED_HOSTS", value_name = "NAME", value_delimiter = ',', value_parser = host)]
    pub allowed_hosts: Vec<String>,

    /// Folder for the database, checkpoints and models; created if missing
    #[arg(long, env = "CHAINRULE_DATA_DIR", default_value = "./chainrule-data", value_name = "FOLDER")]
    pub data_dir: PathBuf,

    /// Maximum number of jobs that train at the same time
    #[arg(long, env = "CHAINRULE_WORKERS", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,

    /// Threads of each job, and of a prediction of many images; 0 divides all cores among the workers, and
    /// gives such a prediction all of them
    #[arg(long, env = "CHAINRULE_THREADS", default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=256))]
    pub threads: u16,

    /// Form of the logs on standard error
    #[arg(long, env = "CHAINRULE_LOG_FORMAT", default_value = "human", value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Which logs to write, such as `info`, `warn` or `chainrule=debug,warn`
    #[arg(long, env = "CHAINRULE_LOG", default_value = "info", value_name = "FILTER", value_parser = log_filter)]
    pub log: Targets,

    /// Most log lines per second for requests that succeed, and as many for requests with errors; the next line counts
    /// those left out
    #[arg(
        long,
        env = "CHAINRULE_LOG_REQUESTS_MAX",
        default_value_t = 100,
        value_name = "N",
        hide_short_help = true
    )]
    pub log_requests_max: u32,

    /// Ended jobs to keep: the newest N, those younger than an age (30d, 12h, 30m, 90s), or all
    ///
    /// A job keeps 3 checkpoints unless its request says otherwise. They take 7 MB with the preset mlp and 4 MB with
    /// cnn-best, so 1000 jobs of mlp take 7 GB.
    #[arg(long, env = "CHAINRULE_KEEP_JOBS", default_value_t = Keep::Newest(1_000), value_name = "N|AGE|all")]
    pub keep_jobs: Keep,

    /// Versions of each model to keep; the newest version and those that an alias or a job needs always stay
    #[arg(long, env = "CHAINRULE_KEEP_VERSIONS", default_value_t = Keep::All, value_name = "N|AGE|all")]
    pub keep_versions: Keep,

    /// Longest time that a job trains between two checkpoints, in seconds
    #[arg(long, env = "CHAINRULE_CHECKPOINT_SECONDS", default_value_t = 30.0, value_name = "N", hide_short_help = true, value_parser = seconds)]
    pub checkpoint_seconds: f64,

    /// Time without a sign of life after which a worker loses its job to another server, in seconds
    #[arg(long, env = "CHAINRULE_LEASE_SECONDS", default_value_t = 30.0, value_name = "N", hide_short_help = true, value_parser = lease_seconds)]
    pub lease_seconds: f64,

    /// Time between two runs of retention and of the search for orphaned files, in seconds
    #[arg(long, env = "CHAINRULE_UPKEEP_SECONDS", default_value_t = 3600.0, value_name = "N", hide_short_help = true, value_parser = upkeep_seconds)]
    pub upkeep_seconds: f64,

    /// A fault to inject, for tests: see `chainrule faults`
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, value_name = "FAULT")]
    pub fault: Vec<crate::failpoint::InjectedFault>,

    /// The limits of what clients can ask of the server
    #[command(flatten)]
    pub limits: Limits,
}

impl Config {
    /// Returns a warning that there is no authentication, if other machines can reach the server.
    pub fn exposure(&self) -> Option<String> {
        let is_reachable = !self.listen.ip().to_canonical().is_loopback();
        is_reachable.then(|| {
            format!(
                "anyone who reaches {} may train, predict, cancel and delete: there is no authentication",
                self.listen
            )
        })
    }

    /// Returns the number of threads that a job trains with.
    pub fn threads_per_worker(&self) -> usize {
        self.threads_or((cores() / usize::from(self.workers)).max(1))
    }

    /// Returns the number of threads that share a prediction of many images.
    pub fn threads_per_prediction(&self) -> usize {
        self.threads_or(cores())
    }

    /// Returns the number of threads asked for, or `all` if it is 0.
    fn threads_or(&self, all: usize) -> usize {
        match usize::from(self.threads) {
            0 => all,
            threads => threads,
        }
    }
}

//! What the server is told at its start: the only reader of flags and environment.

mod color;
mod keep;
mod limits;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub use self::color::ColorChoice;
pub use self::keep::Keep;
pub use self::limits::Limits;

use self::limits::cores;
use self::value::{address, host, lease_seconds, seconds, upkeep_seconds};

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Human,
    /// A JSON object a line.
    Json,
}

/// Everything that can be set; each flag has an environment variable, the flag wins.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "CHAINRULE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS", value_parser = address)]
    pub listen: SocketAddr,

    /// Names, as example.org, under which clients may ask for this server, besides addresses and localhost
    #[arg(long, env = "CHAINRULE_ALLOWED_HOSTS", value_name = "NAME", value_delimiter = ',', value_parser = host)]
    pub allowed_hosts: Vec<String>,

    /// Folder for the database, checkpoints and models; made when missing
    #[arg(long, env = "CHAINRULE_DATA_DIR", default_value = "./chainrule-data", value_name = "FOLDER")]
    pub data_dir: PathBuf,

    /// Jobs that train at the same time
    #[arg(long, env = "CHAINRULE_WORKERS", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,

    /// Threads of each job; 0 shares all cores among the workers
    #[arg(long, env = "CHAINRULE_THREADS", default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=256))]
    pub threads: u16,

    /// How logs are written to standard error
    #[arg(long, env = "CHAINRULE_LOG_FORMAT", default_value = "human", value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Which logs are written, as `info`, `warn` or `chainrule=debug,warn`
    #[arg(long, env = "CHAINRULE_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// Ended jobs that are kept: the newest N, those younger than an age (30d, 12h, 30m, 90s), or all
    ///
    /// A job keeps 3 checkpoints, unless its request says otherwise: with the preset mlp they take 7 MB, with cnn-best 4 MB.
    /// 1000 jobs of mlp take 7 GB.
    #[arg(long, env = "CHAINRULE_KEEP_JOBS", default_value_t = Keep::Newest(1_000), value_name = "N|AGE|all")]
    pub keep_jobs: Keep,

    /// Versions of each model that are kept; the newest stays, and what an alias or a job needs
    #[arg(long, env = "CHAINRULE_KEEP_VERSIONS", default_value_t = Keep::All, value_name = "N|AGE|all")]
    pub keep_versions: Keep,

    /// Seconds that a job runs at most without a checkpoint
    #[arg(long, env = "CHAINRULE_CHECKPOINT_SECONDS", default_value_t = 30.0, value_name = "N", hide_short_help = true, value_parser = seconds)]
    pub checkpoint_seconds: f64,

    /// Seconds after which a worker that shows no sign of life has lost its job to another server
    #[arg(long, env = "CHAINRULE_LEASE_SECONDS", default_value_t = 30.0, value_name = "N", hide_short_help = true, value_parser = lease_seconds)]
    pub lease_seconds: f64,

    /// Seconds from one look for orphaned files and expired jobs to the next
    #[arg(long, env = "CHAINRULE_UPKEEP_SECONDS", default_value_t = 3600.0, value_name = "N", hide_short_help = true, value_parser = upkeep_seconds)]
    pub upkeep_seconds: f64,

    /// What shall go wrong, for tests: see `chainrule faults`
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, value_name = "FAULT")]
    pub fault: Vec<crate::fault::InjectedFault>,

    /// What the server takes on at most
    #[command(flatten)]
    pub limits: Limits,
}

impl Config {
    /// What is to be said of who may ask, where others than this machine can reach the server.
    pub fn exposure(&self) -> Option<String> {
        let is_reachable = !self.listen.ip().to_canonical().is_loopback();
        is_reachable.then(|| {
            format!(
                "whoever reaches {} may train, predict, cancel and delete: there is no authentication",
                self.listen
            )
        })
    }

    /// Threads a job trains with.
    pub fn threads_per_worker(&self) -> usize {
        self.threads_or((cores() / usize::from(self.workers)).max(1))
    }

    /// Threads that share a prediction of many images.
    pub fn threads_per_prediction(&self) -> usize {
        self.threads_or(cores())
    }

    /// As many as asked for, or `all`.
    fn threads_or(&self, all: usize) -> usize {
        match usize::from(self.threads) {
            0 => all,
            threads => threads,
        }
    }
}

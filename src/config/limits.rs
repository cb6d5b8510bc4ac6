use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::value::{amount, count, memory, seconds};
use crate::admission::{AdmissionLimits, Lane, LaneLimits};
use crate::data::picture::PictureLimits;
use crate::lab::LabLimits;
use crate::service::ServiceLimits;
use crate::train::SpecLimits;

/// The limits of what clients can ask of the server
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Largest body of a request, in bytes
    #[arg(long, env = "CHAINRULE_BODY_BYTES_MAX", default_value_t = 16 << 20, value_name = "N", hide_short_help = true)]
    pub body_bytes_max: usize,

    /// Largest body of a request for a job, in bytes
    #[arg(long, env = "CHAINRULE_JOB_REQUEST_BYTES_MAX", default_value_t = 256 << 10, value_name = "N", hide_short_help = true)]
    pub job_request_bytes_max: usize,

    /// Longest time for a body to arrive, in seconds
    #[arg(
        long,
        env = "CHAINRULE_BODY_TIMEOUT_SECONDS",
        default_value_t = 30,
        value_name = "N",
        hide_short_help = true
    )]
    pub body_timeout_seconds: u32,

    /// Longest time for the head of a request to arrive, including the idle time before it, in seconds
    #[arg(
        long,
        env = "CHAINRULE_HEADER_TIMEOUT_SECONDS",
        default_value_t = 20,
        value_name = "N",
        hide_short_help = true
    )]
    pub header_timeout_seconds: u32,

    /// Maximum number of open connections
    #[arg(
        long,
        env = "CHAINRULE_CONNECTIONS_MAX",
        default_value_t = 2_048,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub connections_max: usize,

    /// Maximum number of open connections of one client: an IPv4 address, or the first 64 bits of an IPv6
    /// address
    #[arg(
        long,
        env = "CHAINRULE_CONNECTIONS_PER_CLIENT_MAX",
        default_value_t = 512,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub connections_per_client_max: usize,

    /// Time in which a client must read at least 16 KiB of a response, in seconds
    #[arg(
        long,
        env = "CHAINRULE_WRITE_TIMEOUT_SECONDS",
        default_value_t = 20,
        value_name = "N",
        hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub write_timeout_seconds: u32,

    /// Memory that all requests together may hold, in bytes: connections, bodies, working memory, responses
    #[arg(long, env = "CHAINRULE_MEMORY_BYTES_MAX", default_value_t = 320 << 20, value_name = "N", hide_short_help = true, value_parser = memory())]
    pub memory_bytes_max: usize,

    /// Maximum number of requests that read or change rows at the same time
    #[arg(
        long,
        env = "CHAINRULE_REQUESTS_MAX",
        default_value_t = 64,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub requests_max: usize,

    /// Maximum number of requests that wait for a place, for each kind of work
    #[arg(
        long,
        env = "CHAINRULE_WAITING_MAX",
        default_value_t = 1_024,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub waiting_max: usize,

    /// Longest time a request waits for a place before it is refused, in seconds
    #[arg(long, env = "CHAINRULE_WAITING_SECONDS_MAX", default_value_t = 5.0, value_name = "N", hide_short_help = true, value_parser = seconds)]
    pub waiting_seconds_max: f64,

    /// Maximum number of requests that wait because of wait_seconds
    #[arg(
        long,
        env = "CHAINRULE_WAITS_MAX",
        default_value_t = 1_024,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub waits_max: usize,

    /// Maximum number of open event streams
    #[arg(
        long,
        env = "CHAINRULE_STREAMS_MAX",
        default_value_t = 512,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub streams_max: usize,

    /// Largest value of wait_seconds
    #[arg(
        long,
        env = "CHAINRULE_WAIT_SECONDS_MAX",
        default_value_t = 60,
        value_name = "N",
        hide_short_help = true
    )]
    pub wait_seconds_max: u32,

    /// Maximum number of jobs that wait for a worker
    #[arg(
        long,
        env = "CHAINRULE_QUEUE_MAX",
        default_value_t = 1_000,
        value_name = "N",
        hide_short_help = true
    )]
    pub queue_max: u32,

    /// Maximum number of images of a prediction
    #[arg(
        long,
        env = "CHAINRULE_IMAGES_MAX",
        default_value_t = 10_000,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub images_max: usize,

    /// Maximum number of pictures of a form
    #[arg(
        long,
        env = "CHAINRULE_PICTURES_MAX",
        default_value_t = 64,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub pictures_max: usize,

    /// Largest width and height of a picture, in pixels
    #[arg(
        long,
        env = "CHAINRULE_PICTURE_SIDE_MAX",
        default_value_t = 8_192,
        value_name = "N",
        hide_short_help = true
    )]
    pub picture_side_max: u32,

    /// Maximum number of pixels of all pictures of a request together
    #[arg(long, env = "CHAINRULE_PICTURES_PIXELS_MAX", default_value_t = 1 << 27, value_name = "N", hide_short_help = true)]
    pub pictures_pixels_max: u64,

    /// Memory to decode and prepare a picture, in bytes
    #[arg(long, env = "CHAINRULE_PICTURE_BYTES_MAX", default_value_t = 192 << 20, value_name = "N", hide_short_help = true)]
    pub picture_bytes_max: u64,

    /// Maximum number of predictions of one or a few images at the same time
    #[arg(
        long,
        env = "CHAINRULE_PREDICTIONS_MAX",
        default_value_t = 8,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub predictions_max: usize,

    /// Maximum number of pieces of long work at the same time, for each kind (batches of images, pictures, the
    /// lab, long JSON); 0 takes half of the cores, at least 2
    #[arg(
        long,
        env = "CHAINRULE_LONG_WORK_MAX",
        default_value_t = 0,
        value_name = "N",
        hide_short_help = true,
        value_parser = RangedU64ValueParser::<usize>::new().range(0..=256)
    )]
    pub long_work_max: usize,

    /// Memory for the weights of models that predict, in bytes
    #[arg(long, env = "CHAINRULE_MODEL_BYTES_MAX", default_value_t = 256 << 20, value_name = "N", hide_short_help = true)]
    pub model_bytes_max: u64,

    /// Maximum number of aliases of a model
    #[arg(
        long,
        env = "CHAINRULE_ALIASES_MAX",
        default_value_t = 64,
        value_name = "N",
        hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub aliases_max: u32,

    /// Maximum number of versions of all models together. Beyond, no file is imported; jobs still publish
    #[arg(
        long,
        env = "CHAINRULE_VERSIONS_MAX",
        default_value_t = 20_000,
        value_name = "N",
        hide_short_help = true
    )]
    pub versions_max: usize,

    /// Maximum number of epochs of a job
    #[arg(
        long,
        env = "CHAINRULE_EPOCHS_MAX",
        default_value_t = 10_000,
        value_name = "N",
        hide_short_help = true
    )]
    pub epochs_max: u32,

    /// Maximum number of layers of a network
    #[arg(
        long,
        env = "CHAINRULE_LAYERS_MAX",
        default_value_t = 64,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub layers_max: usize,

    /// Maximum number of units of a layer
    #[arg(
        long,
        env = "CHAINRULE_UNITS_MAX",
        default_value_t = 16_384,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub units_max: usize,

    /// Maximum number of floating-point operations of a job
    #[arg(
        long,
        env = "CHAINRULE_JOB_FLOPS_MAX",
        default_value_t = 1e16,
        value_name = "N",
        hide_short_help = true,
        value_parser = amount
    )]
    pub job_flops_max: f64,

    /// Memory of a job, in bytes
    #[arg(
        long,
        env = "CHAINRULE_JOB_BYTES_MAX",
        default_value_t = 4e9,
        value_name = "N",
        hide_short_help = true,
        value_parser = amount
    )]
    pub job_bytes_max: f64,

    /// Maximum number of floating-point operations of a prediction, an evaluation or a comparison, all its images together
    #[arg(
        long,
        env = "CHAINRULE_PREDICT_FLOPS_MAX",
        default_value_t = 1e13,
        value_name = "N",
        hide_short_help = true,
        value_parser = amount
    )]
    pub predict_flops_max: f64,

    /// Maximum number of floating-point operations of a request to the lab
    #[arg(
        long,
        env = "CHAINRULE_LAB_FLOPS_MAX",
        default_value_t = LabLimits::default().flops_max,
        value_name = "N",
        hide_short_help = true,
        value_parser = amount
    )]
    pub lab_flops_max: f64,

    /// Memory of a request to the lab, in bytes
    #[arg(
        long,
        env = "CHAINRULE_LAB_BYTES_MAX",
        default_value_t = LabLimits::default().memory_bytes_max,
        value_name = "N",
        hide_short_help = true,
        value_parser = amount
    )]
    pub lab_bytes_max: f64,

    /// Free disk space that the server needs to accept a job, in bytes
    #[arg(long, env = "CHAINRULE_MIN_FREE_BYTES", default_value_t = 64 << 20, value_name = "N", hide_short_help = true)]
    pub min_free_bytes: u64,

    /// Crashes of the server during a job, with no new checkpoint in between, after which the job fails
    #[arg(
        long,
        env = "CHAINRULE_CRASHES_MAX",
        default_value_t = 3,
        value_name = "N",
        hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub crashes_max: u32,

    /// Time that running requests have to end when the server stops, in seconds
    #[arg(long, env = "CHAINRULE_DRAIN_SECONDS", default_value_t = 3.0, value_name = "N", hide_short_help = true, value_parser = seconds)]
    pub drain_seconds: f64,
}

/// Requests of one client that may read or change rows at the same time. All clients share the few connections to the
/// database.
const ROWS_PER_CLIENT: usize = 8;

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Limits {
    /// The limits of a job's specification.
    pub fn spec(&self) -> SpecLimits {
        SpecLimits {
            epochs_max: self.epochs_max,
            layers_max: self.layers_max,
            units_max: self.units_max,
            flops_max: self.job_flops_max,
            memory_bytes_max: self.job_bytes_max,
        }
    }

    /// The limits that operations check.
    pub fn service(&self) -> ServiceLimits {
        ServiceLimits {
            spec: self.spec(),
            queue_max: self.queue_max,
            aliases_max: self.aliases_max,
            versions_max: self.versions_max,
            min_free_bytes: self.min_free_bytes,
            waits_max: self.waits_max,
            streams_max: self.streams_max,
            picture: self.pictures(),
            pictures_pixels_max: self.pictures_pixels_max,
            images_max: self.images_max,
            predict_flops_max: self.predict_flops_max,
            lab: self.lab(),
        }
    }

    /// The limits of one request to the lab. Its memory is also bounded by what one request can be charged.
    pub fn lab(&self) -> LabLimits {
        LabLimits {
            spec: self.spec(),
            flops_max: self.lab_flops_max,
            memory_bytes_max: self.lab_bytes_max.min(self.charge_max() as f64),
        }
    }

    /// Bytes of memory that one request can be charged.
    fn charge_max(&self) -> usize {
        AdmissionLimits::charge_max(self.memory_bytes_max)
    }

    /// The capacity that requests share.
    pub fn admission(&self) -> AdmissionLimits {
        let long_work = match self.long_work_max {
            0 => (cores() / 2).max(2),
            places => places,
        };
        let lane = |lane: Lane| {
            let running = match lane {
                Lane::Predict => self.predictions_max,
                Lane::Other => self.requests_max,
                Lane::Batch | Lane::Pictures | Lane::Lab | Lane::Text => long_work,
            };
            let running_per_peer = match lane {
                // Batches and pictures make way for other clients. Predictions and texts are short.
                Lane::Predict | Lane::Batch | Lane::Pictures | Lane::Text => running,
                Lane::Lab => running.div_ceil(2),
                Lane::Other => running.min(ROWS_PER_CLIENT),
            };
            let wait = Duration::from_secs_f64(self.waiting_seconds_max);
            LaneLimits { running, running_per_peer, waiting: self.waiting_max, wait }
        };
        AdmissionLimits {
            connections_max: self.connections_max,
            connections_per_peer_max: self.connections_per_client_max,
            memory_bytes_max: self.memory_bytes_max,
            waits_max: self.waits_max,
            streams_max: self.streams_max,
            lanes: Lane::ALL.map(lane),
        }
    }

    /// The limits of one picture. Decoding is also bounded by what one request can be charged.
    pub fn pictures(&self) -> PictureLimits {
        PictureLimits {
            width_max: self.picture_side_max,
            height_max: self.picture_side_max,
            alloc_bytes_max: self.picture_bytes_max.min(self.charge_max() as u64),
        }
    }
}

use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::value::{amount, count, memory, seconds};
use crate::admission::{AdmissionLimits, Lane, LaneLimits};
use crate::data::picture::PictureLimits;
use crate::lab::LabLimits;
use crate::service::ServiceLimits;
use crate::train::SpecLimits;

/// What the server takes on at most.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Bytes of a request's body
    #[arg(long, env = "CHAINRULE_BODY_BYTES_MAX", default_value_t = 16 << 20, value_name = "N", hide_short_help = true)]
    pub body_bytes_max: usize,

    /// Bytes of a request for a job
    #[arg(long, env = "CHAINRULE_JOB_REQUEST_BYTES_MAX", default_value_t = 256 << 10, value_name = "N", hide_short_help = true)]
    pub job_request_bytes_max: usize,

    /// Seconds a body may take to arrive
    #[arg(
        long,
        env = "CHAINRULE_BODY_TIMEOUT_SECONDS",
        default_value_t = 30,
        value_name = "N",
        hide_short_help = true
    )]
    pub body_timeout_seconds: u32,

    /// Seconds a connection may be silent before and between requests
    #[arg(
        long,
        env = "CHAINRULE_HEADER_TIMEOUT_SECONDS",
        default_value_t = 20,
        value_name = "N",
        hide_short_help = true
    )]
    pub header_timeout_seconds: u32,

    /// Open connections
    #[arg(
        long,
        env = "CHAINRULE_CONNECTIONS_MAX",
        default_value_t = 2_048,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub connections_max: usize,

    /// Open connections of one client: an IPv4 address, or 64 bits of an IPv6 address
    #[arg(
        long,
        env = "CHAINRULE_CONNECTIONS_PER_CLIENT_MAX",
        default_value_t = 512,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub connections_per_client_max: usize,

    /// Seconds of waiting in which a client must take at least 16 KiB of an answer
    #[arg(
        long,
        env = "CHAINRULE_WRITE_TIMEOUT_SECONDS",
        default_value_t = 20,
        value_name = "N",
        hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub write_timeout_seconds: u32,

    /// Bytes of memory that all requests together may hold: connections, bodies, working memory, answers
    #[arg(long, env = "CHAINRULE_MEMORY_BYTES_MAX", default_value_t = 320 << 20, value_name = "N", hide_short_help = true, value_parser = memory())]
    pub memory_bytes_max: usize,

    /// Requests that read and change rows, worked on at the same time
    #[arg(
        long,
        env = "CHAINRULE_REQUESTS_MAX",
        default_value_t = 64,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub requests_max: usize,

    /// Requests that wait for a place, of each kind of work
    #[arg(
        long,
        env = "CHAINRULE_WAITING_MAX",
        default_value_t = 1_024,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub waiting_max: usize,

    /// Seconds that a request waits for a place at most
    #[arg(long, env = "CHAINRULE_WAITING_SECONDS_MAX", default_value_t = 5.0, value_name = "N", hide_short_help = true, value_parser = seconds)]
    pub waiting_seconds_max: f64,

    /// Requests with wait_seconds that wait
    #[arg(
        long,
        env = "CHAINRULE_WAITS_MAX",
        default_value_t = 1_024,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub waits_max: usize,

    /// Open event streams
    #[arg(
        long,
        env = "CHAINRULE_STREAMS_MAX",
        default_value_t = 512,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub streams_max: usize,

    /// Seconds that wait_seconds may ask for
    #[arg(
        long,
        env = "CHAINRULE_WAIT_SECONDS_MAX",
        default_value_t = 60,
        value_name = "N",
        hide_short_help = true
    )]
    pub wait_seconds_max: u32,

    /// Jobs that wait for a worker
    #[arg(
        long,
        env = "CHAINRULE_QUEUE_MAX",
        default_value_t = 1_000,
        value_name = "N",
        hide_short_help = true
    )]
    pub queue_max: u32,

    /// Images of a prediction
    #[arg(
        long,
        env = "CHAINRULE_IMAGES_MAX",
        default_value_t = 10_000,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub images_max: usize,

    /// Pictures of a form
    #[arg(
        long,
        env = "CHAINRULE_PICTURES_MAX",
        default_value_t = 64,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub pictures_max: usize,

    /// Width and height of a picture in pixels
    #[arg(
        long,
        env = "CHAINRULE_PICTURE_SIDE_MAX",
        default_value_t = 8_192,
        value_name = "N",
        hide_short_help = true
    )]
    pub picture_side_max: u32,

    /// Pixels of all pictures of a request
    #[arg(long, env = "CHAINRULE_PICTURES_PIXELS_MAX", default_value_t = 1 << 27, value_name = "N", hide_short_help = true)]
    pub pictures_pixels_max: u64,

    /// Bytes a picture may take while it is decoded and prepared
    #[arg(long, env = "CHAINRULE_PICTURE_BYTES_MAX", default_value_t = 192 << 20, value_name = "N", hide_short_help = true)]
    pub picture_bytes_max: u64,

    /// Predictions of one image or few, computed at the same time
    #[arg(
        long,
        env = "CHAINRULE_PREDICTIONS_MAX",
        default_value_t = 8,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub predictions_max: usize,

    /// Pieces of long work done at the same time, of each kind: batches of images, pictures, the lab, long texts; 0 is half of the cores, two at least
    #[arg(
        long,
        env = "CHAINRULE_LONG_WORK_MAX",
        default_value_t = 0,
        value_name = "N",
        hide_short_help = true,
        value_parser = RangedU64ValueParser::<usize>::new().range(0..=256)
    )]
    pub long_work_max: usize,

    /// Bytes of weights held in memory to predict
    #[arg(long, env = "CHAINRULE_MODEL_BYTES_MAX", default_value_t = 256 << 20, value_name = "N", hide_short_help = true)]
    pub model_bytes_max: u64,

    /// Aliases of a model
    #[arg(
        long,
        env = "CHAINRULE_ALIASES_MAX",
        default_value_t = 64,
        value_name = "N",
        hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub aliases_max: u32,

    /// Epochs of a job
    #[arg(
        long,
        env = "CHAINRULE_EPOCHS_MAX",
        default_value_t = 10_000,
        value_name = "N",
        hide_short_help = true
    )]
    pub epochs_max: u32,

    /// Layers of a network
    #[arg(
        long,
        env = "CHAINRULE_LAYERS_MAX",
        default_value_t = 64,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub layers_max: usize,

    /// Units of a layer
    #[arg(
        long,
        env = "CHAINRULE_UNITS_MAX",
        default_value_t = 16_384,
        value_name = "N",
        hide_short_help = true,
        value_parser = count()
    )]
    pub units_max: usize,

    /// Floating-point operations of a job
    #[arg(
        long,
        env = "CHAINRULE_JOB_FLOPS_MAX",
        default_value_t = 1e16,
        value_name = "N",
        hide_short_help = true,
        value_parser = amount
    )]
    pub job_flops_max: f64,

    /// Bytes of memory of a job
    #[arg(
        long,
        env = "CHAINRULE_JOB_BYTES_MAX",
        default_value_t = 4e9,
        value_name = "N",
        hide_short_help = true,
        value_parser = amount
    )]
    pub job_bytes_max: f64,

    /// Floating-point operations of a prediction, all its images together
    #[arg(
        long,
        env = "CHAINRULE_PREDICT_FLOPS_MAX",
        default_value_t = 1e13,
        value_name = "N",
        hide_short_help = true,
        value_parser = amount
    )]
    pub predict_flops_max: f64,

    /// Floating-point operations of an answer of the lab
    #[arg(
        long,
        env = "CHAINRULE_LAB_FLOPS_MAX",
        default_value_t = LabLimits::default().flops_max,
        value_name = "N",
        hide_short_help = true,
        value_parser = amount
    )]
    pub lab_flops_max: f64,

    /// Bytes of memory of an answer of the lab
    #[arg(
        long,
        env = "CHAINRULE_LAB_BYTES_MAX",
        default_value_t = LabLimits::default().memory_bytes_max,
        value_name = "N",
        hide_short_help = true,
        value_parser = amount
    )]
    pub lab_bytes_max: f64,

    /// Bytes that must be free on the disk for a job to be accepted
    #[arg(long, env = "CHAINRULE_MIN_FREE_BYTES", default_value_t = 64 << 20, value_name = "N", hide_short_help = true)]
    pub min_free_bytes: u64,

    /// Deaths of the server, with no checkpoint between, at which a job fails
    #[arg(
        long,
        env = "CHAINRULE_CRASHES_MAX",
        default_value_t = 3,
        value_name = "N",
        hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub crashes_max: u32,

    /// Seconds that requests under way have to end when the server stops
    #[arg(long, env = "CHAINRULE_DRAIN_SECONDS", default_value_t = 3.0, value_name = "N", hide_short_help = true, value_parser = seconds)]
    pub drain_seconds: f64,
}

/// Requests of one client that read and change rows at the same time.
const ROWS_PER_CLIENT: usize = 8;

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Limits {
    /// What a job may ask for.
    pub fn spec(&self) -> SpecLimits {
        SpecLimits {
            epochs_max: self.epochs_max,
            layers_max: self.layers_max,
            units_max: self.units_max,
            flops_max: self.job_flops_max,
            memory_bytes_max: self.job_bytes_max,
        }
    }

    /// What operations are bounded by.
    pub fn service(&self) -> ServiceLimits {
        ServiceLimits {
            queue_max: self.queue_max,
            aliases_max: self.aliases_max,
            min_free_bytes: self.min_free_bytes,
            images_max: self.images_max,
            predict_flops_max: self.predict_flops_max,
            lab: self.lab(),
        }
    }

    /// What an answer of the lab may take.
    pub fn lab(&self) -> LabLimits {
        LabLimits {
            spec: self.spec(),
            flops_max: self.lab_flops_max,
            memory_bytes_max: self.lab_bytes_max.min(self.charge_max() as f64),
        }
    }

    /// Bytes of memory that a request can have at most.
    fn charge_max(&self) -> usize {
        AdmissionLimits::charge_max(self.memory_bytes_max)
    }

    /// What requests share.
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
                // Batches and pictures make way to others, predictions and texts are short.
                Lane::Predict | Lane::Batch | Lane::Pictures | Lane::Text => running,
                Lane::Lab => running.div_ceil(2),
                // What reads and writes rows shares a few connections to the database.
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

    /// What a picture may be.
    pub fn pictures(&self) -> PictureLimits {
        PictureLimits {
            width_max: self.picture_side_max,
            height_max: self.picture_side_max,
            alloc_bytes_max: self.picture_bytes_max.min(self.charge_max() as u64),
        }
    }
}

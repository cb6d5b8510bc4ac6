//! What the server reports about itself: metrics for Prometheus, and logs for people or machines.

mod process;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::admission::Admission;
use crate::config::LogFormat;
use crate::job::{EpochRecord, JobState};

/// Upper bounds of the latency histogram's buckets, in seconds.
const LATENCY_BUCKETS: [f64; 12] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The shortest time between two log lines about refusals for the same reason.
const REFUSALS_LOGGED_EVERY: Duration = Duration::from_secs(1);

type FloatGauge = Gauge<f64, AtomicU64>;

/// Every metric of the server. The values of labels are routes, methods, states, workers and names of
/// published models. These sets are bounded, so clients can't add series without limit.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Family<RouteLabels, Histogram>,
    predictions: Family<ModelLabels, Counter>,
    jobs: Family<StateLabels, Gauge>,
    queue_length: Gauge,
    images_per_second: Family<WorkerLabels, FloatGauge>,
    epochs: Counter,
    train_loss: Family<WorkerLabels, FloatGauge>,
    train_accuracy: Family<WorkerLabels, FloatGauge>,
    validation_loss: Family<WorkerLabels, FloatGauge>,
    validation_accuracy: Family<WorkerLabels, FloatGauge>,
    checkpoints_damaged: Counter,
    jobs_rescued: Counter,
    under_way: Gauge,
    refusals: Family<ReasonLabels, Counter>,
    /// When a refusal was last logged, by reason.
    refusals_logged: Mutex<HashMap<String, Instant>>,
    open: Family<KindLabels, Gauge>,
    lanes_running: Family<LaneLabels, Gauge>,
    lanes_waiting: Family<LaneLabels, Gauge>,
    memory_charged: Gauge,
}

/// Counts one request as under way until it is dropped.
pub struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LaneLabels {
    lane: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WorkerLabels {
    worker: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("chainrule"),
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            predictions: Family::default(),
            jobs: Family::default(),
            queue_length: Gauge::default(),
            images_per_second: Family::default(),
            epochs: Counter::default(),
            train_loss: Family::default(),
            train_accuracy: Family::default(),
            validation_loss: Family::default(),
            validation_accuracy: Family::default(),
            checkpoints_damaged: Counter::default(),
            jobs_rescued: Counter::default(),
            under_way: Gauge::default(),
            refusals: Family::default(),
            refusals_logged: Mutex::default(),
            open: Family::default(),
            lanes_running: Family::default(),
            lanes_waiting: Family::default(),
            memory_charged: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests that got a response", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time until the response head was sent",
            Unit::Seconds,
            self.latency.clone(),
        );
        registry.register("predictions", "Images read", self.predictions.clone());
        registry.register("jobs", "Jobs by state", self.jobs.clone());
        registry.register("queue_length", "Jobs that wait for a worker", self.queue_length.clone());
        registry.register(
            "training_images_per_second",
            "Training rate of the running job, 0 when idle",
            self.images_per_second.clone(),
        );
        registry.register("training_epochs", "Epochs completed", self.epochs.clone());
        registry.register(
            "checkpoints_damaged",
            "Checkpoints that were set aside because their bytes had changed",
            self.checkpoints_damaged.clone(),
        );
        registry.register(
            "jobs_rescued",
            "Jobs taken from a worker that was gone",
            self.jobs_rescued.clone(),
        );
        registry.register(
            "requests_under_way",
            "Requests whose response is not sent yet",
            self.under_way.clone(),
        );
        registry.register("refusals", "Requests and connections refused", self.refusals.clone());
        registry.register(
            "open",
            "Connections, long polls and event streams that are open",
            self.open.clone(),
        );
        registry.register("lane_running", "Requests in a place of a lane", self.lanes_running.clone());
        registry.register("lane_waiting", "Requests that wait for a place", self.lanes_waiting.clone());
        registry.register_with_unit(
            "memory_charged",
            "Memory that is charged to requests",
            Unit::Bytes,
            self.memory_charged.clone(),
        );
        let build = vec![("version", env!("CARGO_PKG_VERSION")), ("target", std::env::consts::ARCH)];
        registry.register("build", "The program", Info::new(build));
        for (name, help, gauge) in [
            ("epoch_train_loss", "Mean training loss of the newest epoch", &self.train_loss),
            ("epoch_train_accuracy", "Training accuracy of the newest epoch", &self.train_accuracy),
            ("epoch_validation_loss", "Mean validation loss of the newest epoch", &self.validation_loss),
            (
                "epoch_validation_accuracy",
                "Validation accuracy of the newest epoch",
                &self.validation_accuracy,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    /// Counts a request that got a response. `duration` is the time until the response head was sent.
    pub fn request(&self, method: &str, route: &str, status: u16, duration: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        self.latency
            .get_or_create(&RouteLabels { method: method.clone(), route: route.clone() })
            .observe(duration.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    }

    /// Counts a request as under way until the returned value is dropped.
    pub fn request_under_way(&self) -> UnderWay {
        self.under_way.inc();
        UnderWay(self.under_way.clone())
    }

    /// Counts a refusal. Returns whether to log it: once a second for each reason.
    pub fn refused(&self, reason: &str) -> bool {
        self.refusals.get_or_create(&ReasonLabels { reason: reason.to_owned() }).inc();
        let mut logged = self.refusals_logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = logged.get(reason).is_none_or(|last| last.elapsed() >= REFUSALS_LOGGED_EVERY);
        if is_due {
            logged.insert(reason.to_owned(), Instant::now());
        }
        is_due
    }

    /// Counts images that a model has classified.
    pub fn predictions(&self, model: &str, images: usize) {
        self.predictions.get_or_create(&ModelLabels { model: model.to_owned() }).inc_by(images as u64);
    }

    /// Removes the series of a deleted model.
    pub fn forget_model(&self, model: &str) {
        self.predictions.remove(&ModelLabels { model: model.to_owned() });
    }

    /// Sets the training rate of a worker; 0 means idle.
    pub fn training_images_per_second(&self, worker: usize, rate: f64) {
        self.images_per_second.get_or_create(&labels(worker)).set(rate);
    }

    /// Counts a checkpoint that was set aside as damaged.
    pub fn checkpoint_damaged(&self) {
        self.checkpoints_damaged.inc();
    }

    /// Counts a job that was taken from a dead worker.
    pub fn job_rescued(&self) {
        self.jobs_rescued.inc();
    }

    /// Sets the metrics of a worker's newest epoch. A missing validation metric is shown as NaN.
    pub fn epoch(&self, worker: usize, record: &EpochRecord) {
        self.epochs.inc();
        self.training_images_per_second(worker, record.images_per_second);
        let metrics = &record.metrics;
        for (gauge, value) in [
            (&self.train_loss, Some(metrics.train_loss)),
            (&self.train_accuracy, Some(metrics.train_accuracy)),
            (&self.validation_loss, metrics.validation_loss),
            (&self.validation_accuracy, metrics.validation_accuracy),
        ] {
            gauge.get_or_create(&labels(worker)).set(value.unwrap_or(f64::NAN));
        }
    }

    /// Returns the metrics as OpenMetrics text, with the given counts of jobs and the current use of
    /// `admission`.
    ///
    /// # Errors
    /// Returns an error if a metric can't be encoded.
    pub fn render(&self, jobs: &[(JobState, u64)], admission: &Admission) -> Result<String, std::fmt::Error> {
        for &(state, count) in jobs {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.jobs.get_or_create(&StateLabels { state: state.as_str() }).set(count);
            if state == JobState::Queued {
                self.queue_length.set(count);
            }
        }
        for (kind, count) in admission.open() {
            self.open.get_or_create(&KindLabels { kind }).set(count as i64);
        }
        for lane in admission.lanes() {
            let labels = LaneLabels { lane: lane.lane.name() };
            self.lanes_running.get_or_create(&labels).set(lane.running as i64);
            self.lanes_waiting.get_or_create(&labels).set(lane.waiting as i64);
        }
        self.memory_charged.set(admission.memory_bytes() as i64);
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        text::encode_registry(&mut text, &process::registry())?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }
}

fn labels(worker: usize) -> WorkerLabels {
    WorkerLabels { worker: worker as u64 }
}

/// Sends logs that pass `filter` (such as `info` or `chainrule=debug,warn`) to standard error.
///
/// # Errors
/// Returns an error if `filter` can't be parsed, or a logger is set already.
pub fn log(format: LogFormat, filter: &str, is_colored: bool) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_colored);
    let result = match format {
        LogFormat::Human => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| anyhow::anyhow!(error))
}

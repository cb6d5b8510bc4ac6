//! What the server says of itself: metrics for Prometheus, logs for people or machines.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::job::{EpochRecord, JobState};

/// Upper ends of the latency histogram's buckets, in seconds.
const LATENCY_BUCKETS: [f64; 12] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

type FloatGauge = Gauge<f64, AtomicU64>;

/// Every metric of the server. Labels come from closed sets: routes, methods, states, workers, and
/// the models that are published.
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
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time until the head of the answer",
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

    /// Counts an answered request.
    pub fn request(&self, method: &str, route: &str, status: u16, duration: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        self.latency
            .get_or_create(&RouteLabels { method: method.clone(), route: route.clone() })
            .observe(duration.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    }

    /// Counts images read by a model.
    pub fn predictions(&self, model: &str, images: usize) {
        self.predictions.get_or_create(&ModelLabels { model: model.to_owned() }).inc_by(images as u64);
    }

    /// Sets the training rate of a worker.
    pub fn training_images_per_second(&self, worker: usize, rate: f64) {
        self.images_per_second.get_or_create(&labels(worker)).set(rate);
    }

    /// Counts a damaged checkpoint.
    pub fn checkpoint_damaged(&self) {
        self.checkpoints_damaged.inc();
    }

    /// Counts a job that was taken from a worker that was gone.
    pub fn job_rescued(&self) {
        self.jobs_rescued.inc();
    }

    /// Sets the figures of a worker's newest epoch.
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

    /// The metrics as text, with the jobs counted now.
    ///
    /// # Errors
    /// Where the text can't be written.
    pub fn render(&self, jobs: &[(JobState, u64)]) -> Result<String, std::fmt::Error> {
        for &(state, count) in jobs {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.jobs.get_or_create(&StateLabels { state: state.as_str() }).set(count);
            if state == JobState::Queued {
                self.queue_length.set(count);
            }
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn labels(worker: usize) -> WorkerLabels {
    WorkerLabels { worker: worker as u64 }
}

/// Sends logs to standard error, from `filter` up (as `info` or `chainrule=debug,warn`).
///
/// # Errors
/// Where `filter` can't be read, or logs go somewhere already.
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

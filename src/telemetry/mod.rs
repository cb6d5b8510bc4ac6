//! What the server reports about itself: metrics for Prometheus, and logs for people or machines.

mod lines;
mod openmetrics;
mod process;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub use self::lines::LineLimit;

use crate::admission::Admission;
use crate::config::LogFormat;
use crate::job::{EpochRecord, JobState};

/// Upper bounds of the latency histogram's buckets, in seconds.
const LATENCY_BUCKETS: [f64; 12] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The shortest time between two log lines about refusals for the same reason.
const REFUSALS_LOGGED_EVERY: Duration = Duration::from_secs(1);

/// The formats in which metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// Prometheus text 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    Prometheus,
    /// OpenMetrics 1.0: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
    OpenMetrics,
}

/// The error of a metric that can't be encoded.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct MetricsError(#[from] prometheus::Error);

/// Every metric of the server. The values of labels come from fixed sets, such as routes, methods, states and
/// workers. Only `predictions_total` grows with use: it has a series for each published model that has
/// predicted. Before they are shown, and every hour, the series of models without a version are removed.
pub struct Metrics {
    requests: IntCounterVec,
    latency: HistogramVec,
    predictions: IntCounterVec,
    jobs: IntGaugeVec,
    queue_length: IntGauge,
    images_per_second: GaugeVec,
    epochs: IntCounter,
    train_loss: GaugeVec,
    train_accuracy: GaugeVec,
    validation_loss: GaugeVec,
    validation_accuracy: GaugeVec,
    checkpoints_damaged: IntCounter,
    jobs_rescued: IntCounter,
    under_way: IntGauge,
    refusals: IntCounterVec,
    /// When a refusal was last logged, by reason.
    refusals_logged: Mutex<HashMap<String, Instant>>,
    open: IntGaugeVec,
    lanes_running: IntGaugeVec,
    lanes_waiting: IntGaugeVec,
    memory_charged: IntGauge,
    registry: Registry,
}

/// Counts one request as under way until it is dropped.
pub struct UnderWay(IntGauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new().expect("valid names, each used once")
    }
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("chainrule".to_owned()), None)?;
        let counter = |name, help| registered(&registry, IntCounter::new(name, help));
        let counters = |name, help, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name, help| registered(&registry, IntGauge::new(name, help));
        let gauges =
            |name, help, label| registered(&registry, IntGaugeVec::new(Opts::new(name, help), &[label]));
        let of_worker = |name, help| registered(&registry, GaugeVec::new(Opts::new(name, help), &["worker"]));
        let latency = HistogramOpts::new(
            "http_request_duration_seconds",
            "Time until the response was ready to be sent.",
        )
        .buckets(LATENCY_BUCKETS.to_vec());
        let build = Opts::new("build_info", "The program.")
            .const_label("version", env!("CARGO_PKG_VERSION"))
            .const_label("target", std::env::consts::ARCH);
        registered(&registry, IntGauge::with_opts(build))?.set(1);
        Ok(Self {
            requests: counters(
                "http_requests_total",
                "Requests that got a response.",
                &["method", "route", "status"],
            )?,
            latency: registered(&registry, HistogramVec::new(latency, &["method", "route"]))?,
            predictions: counters("predictions_total", "Images read.", &["model"])?,
            jobs: gauges("jobs", "Jobs by state.", "state")?,
            queue_length: gauge("queue_length", "Jobs that wait for a worker.")?,
            images_per_second: of_worker(
                "training_images_per_second",
                "Training rate of the running job, 0 when idle.",
            )?,
            epochs: counter("training_epochs_total", "Epochs completed.")?,
            train_loss: of_worker("epoch_train_loss", "Mean training loss of the newest epoch.")?,
            train_accuracy: of_worker("epoch_train_accuracy", "Training accuracy of the newest epoch.")?,
            validation_loss: of_worker("epoch_validation_loss", "Mean validation loss of the newest epoch.")?,
            validation_accuracy: of_worker(
                "epoch_validation_accuracy",
                "Validation accuracy of the newest epoch.",
            )?,
            checkpoints_damaged: counter(
                "checkpoints_damaged_total",
                "Checkpoints that were set aside because their bytes had changed.",
            )?,
            jobs_rescued: counter("jobs_rescued_total", "Jobs taken from a worker that was gone.")?,
            under_way: gauge("requests_under_way", "Requests whose response is not sent yet.")?,
            refusals: counters("refusals_total", "Requests and connections refused.", &["reason"])?,
            refusals_logged: Mutex::default(),
            open: gauges("open", "Connections, long polls and event streams that are open.", "kind")?,
            lanes_running: gauges("lane_running", "Requests in a place of a lane.", "lane")?,
            lanes_waiting: gauges("lane_waiting", "Requests that wait for a place.", "lane")?,
            memory_charged: gauge("memory_charged_bytes", "Memory that is charged to requests.")?,
            registry,
        })
    }

    /// Counts a request that got a response. `duration` is the time until the response was ready to be
    /// sent.
    pub fn request(&self, method: &str, route: &str, status: u16, duration: Duration) {
        self.latency.with_label_values(&[method, route]).observe(duration.as_secs_f64());
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
    }

    /// Counts a request as under way until the returned value is dropped.
    pub fn request_under_way(&self) -> UnderWay {
        self.under_way.inc();
        UnderWay(self.under_way.clone())
    }

    /// Counts a refusal. Returns whether to log it: once a second for each reason.
    pub fn refused(&self, reason: &str) -> bool {
        self.refusals.with_label_values(&[reason]).inc();
        let mut logged = self.refusals_logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = logged.get(reason).is_none_or(|last| last.elapsed() >= REFUSALS_LOGGED_EVERY);
        if is_due {
            logged.insert(reason.to_owned(), Instant::now());
        }
        is_due
    }

    /// Counts images that a model has classified.
    pub fn predictions(&self, model: &str, images: usize) {
        self.predictions.with_label_values(&[model]).inc_by(images as u64);
    }

    /// Removes the series of the models for which `is_known` is false.
    pub fn retain_models(&self, is_known: impl Fn(&str) -> bool) {
        for family in self.predictions.collect() {
            for series in family.get_metric() {
                let labels: Vec<&str> = series.get_label().iter().map(|label| label.value()).collect();
                if !labels.iter().all(|name| is_known(name)) {
                    // It fails if another thread has removed the series.
                    let _ = self.predictions.remove_label_values(&labels);
                }
            }
        }
    }

    /// Sets the training rate of a worker; 0 means idle.
    pub fn training_images_per_second(&self, worker: usize, rate: f64) {
        self.images_per_second.with_label_values(&[worker.to_string()]).set(rate);
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
            gauge.with_label_values(&[worker.to_string()]).set(value.unwrap_or(f64::NAN));
        }
    }

    /// Returns the metrics as text, with the given counts of jobs and the current use of `admission`.
    ///
    /// # Errors
    /// Returns an error if a metric can't be encoded.
    pub fn render(
        &self,
        format: MetricsFormat,
        jobs: &[(JobState, u64)],
        admission: &Admission,
    ) -> Result<String, MetricsError> {
        for &(state, count) in jobs {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.jobs.with_label_values(&[state.as_str()]).set(count);
            if state == JobState::Queued {
                self.queue_length.set(count);
            }
        }
        for (kind, count) in admission.open() {
            self.open.with_label_values(&[kind]).set(count as i64);
        }
        for lane in admission.lanes() {
            let name = lane.lane.name();
            self.lanes_running.with_label_values(&[name]).set(lane.running as i64);
            self.lanes_waiting.with_label_values(&[name]).set(lane.waiting as i64);
        }
        self.memory_charged.set(admission.memory_bytes() as i64);
        let mut families = self.registry.gather();
        families.extend(process::families()?);
        match format {
            MetricsFormat::Prometheus => Ok(TextEncoder::new().encode_to_string(&families)?),
            MetricsFormat::OpenMetrics => Ok(openmetrics::encode(&families)),
        }
    }
}

/// Adds a metric to the registry.
fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> prometheus::Result<M> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Sends logs that pass `filter` to standard error.
///
/// # Errors
/// Returns an error if a logger is set already.
pub fn log(format: LogFormat, filter: Targets, is_colored: bool) -> anyhow::Result<()> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(is_colored);
    let lines = match format {
        LogFormat::Human => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?)
}

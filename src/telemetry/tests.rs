use super::*;
use crate::admission::{AdmissionLimits, Lane, LaneLimits};

fn lines(metrics: &Metrics, format: MetricsFormat) -> Vec<String> {
    let lane = LaneLimits { running: 1, running_per_peer: 1, waiting: 1, wait: Duration::from_secs(1) };
    let limits = AdmissionLimits {
        connections_max: 1,
        connections_per_peer_max: 1,
        memory_bytes_max: 16 << 20,
        waits_max: 1,
        streams_max: 1,
        lanes: [lane; Lane::ALL.len()],
    };
    let admission = Admission::new(&limits).expect("threads");
    let text = metrics.render(format, &[(JobState::Queued, 2)], &admission).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn both_formats_have_the_same_metrics_and_each_its_own_spelling() {
    let metrics = Metrics::default();
    metrics.request("GET", "/v1/jobs", 200, Duration::from_millis(750));
    metrics.predictions("a\"b\\", 3);
    metrics.training_images_per_second(0, f64::NAN);
    let both = [
        r#"chainrule_http_requests_total{method="GET",route="/v1/jobs",status="200"} 1"#,
        r#"chainrule_http_request_duration_seconds_bucket{method="GET",route="/v1/jobs",le="0.25"} 0"#,
        r#"chainrule_http_request_duration_seconds_bucket{method="GET",route="/v1/jobs",le="+Inf"} 1"#,
        r#"chainrule_http_request_duration_seconds_sum{method="GET",route="/v1/jobs"} 0.75"#,
        r#"chainrule_http_request_duration_seconds_count{method="GET",route="/v1/jobs"} 1"#,
        r#"chainrule_predictions_total{model="a\"b\\"} 3"#,
        r#"chainrule_training_images_per_second{worker="0"} NaN"#,
        "# TYPE chainrule_http_request_duration_seconds histogram",
        "# TYPE chainrule_build_info gauge",
        "# TYPE chainrule_queue_length gauge",
        "chainrule_queue_length 2",
    ];
    let prometheus = [
        "# HELP chainrule_http_requests_total Requests that got a response.",
        "# TYPE chainrule_http_requests_total counter",
        r#"chainrule_http_request_duration_seconds_bucket{method="GET",route="/v1/jobs",le="1"} 1"#,
    ];
    let openmetrics = [
        "# HELP chainrule_http_requests Requests that got a response.",
        "# TYPE chainrule_http_requests counter",
        r#"chainrule_http_request_duration_seconds_bucket{method="GET",route="/v1/jobs",le="1.0"} 1"#,
    ];
    for (format, own) in [(MetricsFormat::Prometheus, prometheus), (MetricsFormat::OpenMetrics, openmetrics)]
    {
        let text = lines(&metrics, format);
        for line in both.iter().chain(&own) {
            assert!(text.iter().any(|found| found == line), "{line} is not in {text:#?}");
        }
        let is_ended = text.last().is_some_and(|line| line == "# EOF");
        assert_eq!(is_ended, format == MetricsFormat::OpenMetrics);
    }
}

#[test]
fn a_deleted_model_has_no_series() {
    let metrics = Metrics::default();
    let of = |model: &str| {
        let label = format!("{{model=\"{model}\"}}");
        lines(&metrics, MetricsFormat::Prometheus).iter().any(|line| line.contains(&label))
    };
    metrics.predictions("digits", 1);
    metrics.predictions("letters", 1);
    metrics.retain_models(|name| name != "digits");
    assert!(!of("digits") && of("letters"));
    // A prediction can end after its model was deleted.
    metrics.predictions("digits", 1);
    metrics.retain_models(|name| name != "digits");
    assert!(!of("digits"));
}

//! OpenMetrics 1.0: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use prometheus::proto::{MetricFamily, MetricType};

/// Writes counters, gauges and histograms.
pub fn encode(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families {
        let kind = family.get_field_type();
        // A counter is described without the suffix of its sample.
        let suffix = if kind == MetricType::COUNTER { "_total" } else { "" };
        let name = family.name().strip_suffix(suffix).unwrap_or(family.name());
        let word = format!("{kind:?}").to_lowercase();
        text += &format!("# TYPE {name} {word}\n# HELP {name} {}\n", escape(family.help()));
        for metric in family.get_metric() {
            let mut sample = |suffix: &str, bound: Option<&str>, value: f64| {
                let labels = metric.get_label().iter().map(|label| (label.name(), label.value()));
                let labels = labels.chain(bound.map(|bound| ("le", bound)));
                let labels: Vec<String> =
                    labels.map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
                let labels =
                    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                text += &format!("{name}{suffix}{labels} {value}\n");
            };
            match kind {
                MetricType::COUNTER => sample(suffix, None, metric.get_counter().get_value()),
                MetricType::GAUGE => sample(suffix, None, metric.get_gauge().get_value()),
                MetricType::HISTOGRAM => {
                    let histogram = metric.get_histogram();
                    for bucket in histogram.get_bucket() {
                        // A bound is written as a float, even if it is whole.
                        let bound = format!("{:?}", bucket.upper_bound());
                        sample("_bucket", Some(&bound), bucket.cumulative_count() as f64);
                    }
                    let count = histogram.get_sample_count() as f64;
                    sample("_bucket", Some("+Inf"), count);
                    sample("_count", None, count);
                    sample("_sum", None, histogram.get_sample_sum());
                }
                MetricType::SUMMARY | MetricType::UNTYPED => {}
            }
        }
    }
    text + "# EOF\n"
}

fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('\n', r"\n").replace('"', r#"\""#)
}

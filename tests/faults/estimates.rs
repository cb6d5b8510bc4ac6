//! Compares the estimated time of gradient checks with the measured time.

use std::time::Instant;

use chainrule::data::{self, mnist};
use chainrule::lab::{CheckRequest, LabLimits, check};
use serde_json::{Value, json};

use crate::random::Random;

/// How many random networks are tested.
const NETWORKS: u64 = 60;

/// How often a check is repeated. The fastest run counts, because other processes may use the machine too.
const RUNS: usize = 5;

/// The largest allowed ratio between estimate and measurement.
const OFF_MAX: f64 = 2.0;

/// Checks faster than this are skipped.
const SECONDS_MIN: f64 = 2e-3;

/// Returns a network of random layers and sizes.
fn network(random: &mut Random) -> Value {
    let mut layers = Vec::new();
    let (mut side, has_images) = (28, random.below(3) > 0);
    let activations = ["relu", "leaky_relu", "gelu", "sigmoid", "tanh"];
    let finish = |layers: &mut Vec<Value>, random: &mut Random| {
        if random.below(3) == 0 {
            layers.push(json!({ "type": "batch_norm" }));
        }
        let activation = activations[random.below(activations.len())];
        layers.push(json!({ "type": activation }));
    };
    for _ in 0..if has_images { 1 + random.below(3) } else { 0 } {
        let filters = [1, 4, 8, 17, 32, 48][random.below(6)];
        let kernel = 1 + random.below(5).min(side - 1);
        let (padding, stride) = (["same", "valid"][random.below(2)], 1 + random.below(2).min(side / 8));
        layers.push(json!({
            "type": "conv2d", "filters": filters, "kernel": kernel, "padding": padding, "stride": stride,
        }));
        side = if padding == "same" { side.div_ceil(stride) } else { (side - kernel) / stride + 1 };
        finish(&mut layers, random);
        if side > 4 && random.below(2) == 0 {
            let kind = ["max_pool2d", "avg_pool2d"][random.below(2)];
            layers.push(json!({ "type": kind }));
            side /= 2;
        }
    }
    for _ in 0..random.below(3) {
        let units = [10, 64, 300, 1_000, 3_000][random.below(5)];
        layers.push(json!({ "type": "dense", "units": units }));
        finish(&mut layers, random);
        if random.below(5) == 0 {
            layers.push(json!({ "type": "dropout", "rate": 0.3 }));
        }
    }
    layers.push(json!({ "type": "dense", "units": 10 }));
    json!({ "layers": layers })
}

fn in_words(layers: &Value) -> String {
    let layer = |layer: &Value| match &layer["units"] {
        Value::Null => match (&layer["filters"], layer["type"].as_str().unwrap_or_default()) {
            (Value::Null, name) => name.to_owned(),
            (filters, _) => {
                let [kernel, stride, padding] = ["kernel", "stride", "padding"].map(|name| &layer[name]);
                format!("conv {filters}×{kernel}×{kernel}/{stride} {}", padding.as_str().unwrap_or_default())
            }
        },
        units => format!("dense {units}"),
    };
    layers["layers"].as_array().into_iter().flatten().map(layer).collect::<Vec<_>>().join(" ")
}

/// Returns the time of the fastest run of a check, in seconds.
fn seconds(request: &CheckRequest) -> f64 {
    let once = |_| {
        let started = Instant::now();
        let network = request.draw().expect("layers that fit");
        check(network, request, &mnist::dataset(), &|| started.elapsed(), &|| true).expect("nobody stops it");
        started.elapsed().as_secs_f64()
    };
    (0..RUNS).map(once).fold(f64::INFINITY, f64::min)
}

/// Returns the speed of this machine in operations of [`CheckRequest::cost`] per second, measured with a dense and a convolutional
/// network.
fn flops_per_second(limits: &LabLimits) -> f64 {
    let (mut flops, mut time) = (0.0, 0.0);
    for network in ["mlp", "cnn-fast"] {
        let asked = json!({ "network": network, "samples": 16 });
        let request = CheckRequest::parse(&asked, &data::shapes(), limits).expect("a valid request");
        flops += request.cost(request.layers.as_deref().expect("layers")).flops;
        time += seconds(&request);
    }
    flops / time
}

#[test]
#[ignore = "measures gradient checks, which needs an idle machine"]
fn a_gradient_check_takes_the_estimated_time() {
    let limits = LabLimits::default();
    let flops_per_second = flops_per_second(&limits);
    let mut ratios = Vec::new();
    println!("{:>9} {:>9} {:>6}   samples, parameters, network", "estimated", "measured", "ratio");
    let widest = json!({ "layers": [
        { "type": "dense", "units": 16_384 }, { "type": "relu" }, { "type": "dense", "units": 10 },
    ] });
    let drawn = (0..NETWORKS).map(|seed| {
        let mut random = Random::new(seed);
        let network = network(&mut random);
        (network, [1, 2, 8, 30, 64, 128, 256][random.below(7)], [1, 5, 20, 100][random.below(4)], seed)
    });
    let wide = [(widest.clone(), 1, 5, 0), (widest.clone(), 4, 20, 1), (widest, 1, 230, 2)];
    for (network, samples, parameters, seed) in wide.into_iter().chain(drawn) {
        let asked = json!({ "network": network, "samples": samples, "parameters": parameters, "seed": seed });
        let request = CheckRequest::parse(&asked, &data::shapes(), &limits).expect("a valid request");
        let cost = request.cost(request.layers.as_deref().expect("layers"));
        if limits.check(cost).is_err() {
            println!(
                "refused: {:.1e} operations   {samples}, {parameters}, {}",
                cost.flops,
                in_words(&network)
            );
            continue;
        }
        let (estimated, measured) = (cost.flops / flops_per_second, seconds(&request));
        if measured < SECONDS_MIN {
            continue;
        }
        let ratio = estimated / measured;
        println!(
            "{estimated:>9.4} {measured:>9.4} {ratio:>6.2}   {samples}, {parameters}, {}",
            in_words(&network)
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let (least, largest) = (ratios[0], ratios[ratios.len() - 1]);
    println!("figures: estimates networks={} least={least:.2} largest={largest:.2}", ratios.len());
    assert!(
        least > 1.0 / OFF_MAX && largest < OFF_MAX,
        "estimates are {least:.2} to {largest:.2} of the time"
    );
}

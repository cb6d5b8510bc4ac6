//! The cost of a lab result is known before the work begins, and the work stops on request.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chainrule::data::{self, mnist};
use chainrule::fields::Fault;
use chainrule::graph::{self, GraphCost};
use chainrule::lab::{
    self, AffineRequest, AnswerCost, Check, CheckRequest, ConvolutionRequest, CurveRequest, LabLimits,
    NetworkRequest, ParameterPlace, Question, SoftmaxRequest,
};
use chainrule::nn::{Activation, LayerSpec, LossKind, Network, Stopped};
use serde::Serialize;
use serde_json::{Value, json};

use crate::lab::refused;
use crate::server::TestServer;

/// A clock for a check.
fn clock() -> impl Fn() -> Duration {
    let begin = Instant::now();
    move || begin.elapsed()
}

/// Returns the most bytes that this thread held while `work` ran, and the result of `work`.
fn most_held<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let (held, found) = crate::counting::most_held(work);
    (held as f64, found)
}

/// The price of a small result may be this many bytes too high.
const SMALL: f64 = 100_000.0;

/// The largest allowed ratio of price to use. Pictures are compressed, most numbers are shorter than the
/// longest, and buffers do not always reach their worst case.
const TIMES_MAX: f64 = 6.0;

/// Asserts that `cost` covers the bytes that `answer` allocates and returns, and that it is not far above
/// them.
fn priced(what: &str, cost: AnswerCost, answer: impl FnOnce() -> Vec<u8>) {
    let (held, body) = most_held(answer);
    let (memory, length) = (cost.memory_bytes, body.len() as f64);
    assert!(held <= memory, "{what}: {held} bytes held, {memory} estimated");
    assert!(memory <= TIMES_MAX * held + SMALL, "{what}: {held} bytes held, {memory} estimated");
    assert!(length <= cost.answer_bytes, "{what}: {length} bytes, {} estimated", cost.answer_bytes);
}

fn json_of(answer: impl Serialize) -> Vec<u8> {
    serde_json::to_vec(&answer).expect("JSON")
}

fn matrix(rows: usize, columns: usize) -> Value {
    let row = |row: usize| -> Vec<f64> { (0..columns).map(|at| 0.1 + (row + at) as f64 / 7.0).collect() };
    (0..rows).map(row).collect::<Vec<_>>().into()
}

fn question<Q: Question>(parsed: Result<Q, Vec<Fault>>) {
    let question = parsed.expect("a request that fits");
    // The parsed request is already in memory, and it counts as well.
    priced(std::any::type_name::<Q>(), question.cost(), || {
        json_of(question.answer().expect("finite numbers"))
    });
}

#[test]
fn a_single_layer_takes_the_memory_of_its_price() {
    for (rows, inputs, units) in
        [(1, 1, 1), (200, 300, 100), (1, 2_000, 300), (3_000, 1, 90), (300, 2_000, 1)]
    {
        let (x, w, dy) = (matrix(rows, inputs), matrix(inputs, units), matrix(rows, units));
        question(AffineRequest::parse(&json!({ "x": x, "w": w })));
        question(AffineRequest::parse(&json!({ "x": x, "w": w, "b": vec![1.5; units], "dy": dy })));
    }
    for (side, kernel, padding) in [(40, 3, 0), (9, 3, 60), (64, 7, 64)] {
        let out = side + 2 * padding - kernel + 1;
        let (input, filter) = (matrix(side, side), matrix(kernel, kernel));
        let request = json!({ "input": input, "filter": filter, "padding": padding });
        question(ConvolutionRequest::parse(&request));
        let mut request = request;
        request["dy"] = matrix(out, out);
        question(ConvolutionRequest::parse(&request));
    }
    let channels: Vec<Vec<Value>> = vec![vec![matrix(1, 20)[0].clone(); 12]; 12];
    let filter: Vec<Vec<Value>> = vec![vec![matrix(20, 40); 3]; 3];
    question(ConvolutionRequest::parse(&json!({ "input": channels, "filter": filter, "padding": "same" })));
    question(SoftmaxRequest::parse(&json!({ "logits": matrix(500, 30), "target": vec![3; 500] })));
}

/// Half a megabyte of request asks for two billion numbers. Without the check, the process would run out of
/// memory.
#[tokio::test]
async fn single_layers_that_are_too_expensive_are_refused_before_memory_is_allocated() {
    let (x, w) = (json!(vec![[1]; 32_500]), json!([vec![1; 64_500]]));
    let question = AffineRequest::parse(&json!({ "x": x, "w": w })).expect("shapes that fit");
    let (held, refusal) = most_held(|| LabLimits::default().check(question.cost()));
    assert!(refusal.is_err() && held < SMALL, "{held} bytes");
    let server = TestServer::start(&[]).await;
    let body = json!({ "x": vec![[1]; 15_000], "w": [vec![1; 15_000]] });
    let text = refused(&server, "/v1/affine", body, &[""]).await;
    assert!(text.contains("bytes of memory, this server gives"), "{text}");
    server.stop().await;
    let filters = vec![vec![vec![vec![1; 64]]]];
    let input = vec![vec![[0.5]; 64]; 64];
    let wide = json!({ "input": input, "filter": filters, "padding": 64 });
    let wide = ConvolutionRequest::parse(&wide).expect("shapes that fit").cost();
    assert!(wide.answer_bytes > 45e6 && wide.memory_bytes > wide.answer_bytes, "{wide:?}");
    let few = LabLimits { memory_bytes_max: 100e6, ..LabLimits::default() };
    assert!(few.check(wide).is_err(), "{wide:?}");
}

fn layers(request: Value) -> Vec<LayerSpec> {
    crate::reproducible::spec(request).network.layers
}

/// A network of many weights, and networks of many values.
fn networks() -> Vec<Vec<LayerSpec>> {
    let wide = json!({ "layers": [{ "type": "dense", "units": 3_000 }, { "type": "relu" }, { "type": "dense", "units": 10 }] });
    let odd = json!({ "layers": [{ "type": "conv2d", "filters": 20, "kernel": 5, "padding": "same" }, { "type": "batch_norm" },
        { "type": "gelu" }, { "type": "avg_pool2d" }, { "type": "conv2d", "filters": 40, "kernel": 3, "stride": 2 },
        { "type": "dropout" }, { "type": "flatten" }, { "type": "dense", "units": 70 }, { "type": "tanh" }, { "type": "dense", "units": 10 }] });
    [json!("lesson"), json!("cnn"), json!("cnn-best"), wide, odd]
        .map(|network| layers(json!({ "network": network })))
        .into()
}

fn image() -> Vec<f32> {
    mnist::dataset().test.image(0).iter().map(|&pixel| f32::from(pixel) / 255.0).collect()
}

#[test]
fn an_inspection_of_a_network_takes_the_memory_of_its_price() {
    let image = image();
    let go_on = || true;
    for layers in networks() {
        let network = Network::<f32>::new(mnist::shape().input, &layers, 1).expect("layers that fit");
        let shown = (image.as_slice(), 7);
        for arrays in [false, true] {
            priced("trace", lab::trace_cost(mnist::shape().input, &layers, arrays), || {
                json_of(
                    lab::trace(&network, LossKind::CrossEntropy, shown, 0.1, arrays, &go_on)
                        .expect("a trace"),
                )
            });
        }
        for index in 0..layers.len() {
            priced("feature maps", lab::feature_maps_cost(mnist::shape().input, &layers, index), || {
                lab::feature_maps(&network, &image, index)
            });
            if network.layers()[index].parameters().is_none() {
                continue;
            }
            priced("weights", lab::weights_cost(&network, index, false), || {
                json_of(lab::layer_weights(&network, index).expect("weights"))
            });
            priced("a picture of weights", lab::weights_cost(&network, index, true), || {
                lab::weight_picture(&network, index).expect("weights")
            });
            let place = ParameterPlace::new(&network, index, false, &[0]).expect("a weight");
            priced("microscope", lab::microscope_cost(mnist::shape().input, &layers, &place), || {
                json_of(
                    lab::microscope(&network, LossKind::CrossEntropy, shown, &place, &go_on)
                        .expect("an answer"),
                )
            });
        }
        let images = [image.as_slice(); 2];
        let explained = || lab::explain(&network, &images, None, &go_on).expect("explanations");
        priced(
            "explain",
            lab::explain_cost(mnist::shape().input, &layers, 2, false),
            || json_of(explained()),
        );
        priced(
            "a picture of an explanation",
            lab::explain_cost(mnist::shape().input, &layers, 2, true),
            || lab::pictures(&images, &explained()),
        );
        question(Ok(NetworkRequest { input: mnist::shape().input, layers, batch_size: 100 }));
    }
    for points in [2, 10_000] {
        let request = CurveRequest::new(Activation::Gelu, None, None, Some(points)).expect("an interval");
        let curve = || request.answer().expect("a curve");
        priced("a curve", request.cost(), || json_of(curve()));
        priced("a drawn curve", request.cost(), || curve().svg().into_bytes());
    }
}

fn check_request(request: &Value) -> CheckRequest {
    CheckRequest::parse(request, &data::shapes(), &LabLimits::default()).expect("a valid request")
}

fn checked(request: &CheckRequest) -> Check {
    let network = request.draw().expect("layers that fit");
    lab::check(network, request, &mnist::dataset(), &clock(), &|| true).expect("nobody stops it")
}

fn checks() -> Vec<CheckRequest> {
    let dense = |units: usize| json!({ "type": "dense", "units": units });
    let wide = json!({ "layers": [dense(2_000), { "type": "relu" }, dense(10)] });
    let norm = json!({ "layers": [{ "type": "conv2d", "filters": 9, "kernel": 3 }, { "type": "batch_norm" }, { "type": "relu" },
        { "type": "max_pool2d" }, { "type": "dropout" }, dense(10)] });
    [
        json!({}),
        json!({ "network": "lesson", "samples": 1 }),
        json!({ "network": "cnn", "samples": 20, "parameters": 3 }),
        json!({ "network": "cnn-best", "samples": 2, "parameters": 2 }),
        json!({ "network": wide, "samples": 100, "parameters": 2 }),
        json!({ "network": norm, "samples": 16, "parameters": 300 }),
    ]
    .iter()
    .map(check_request)
    .collect()
}

#[test]
fn a_gradient_check_takes_the_estimated_passes_and_bytes() {
    mnist::dataset();
    for request in checks() {
        let layers = request.layers.clone().expect("layers");
        let (held, check) = most_held(|| checked(&request));
        let ratio = request.passes(&layers) / check.passes as f64;
        assert!(
            (0.5..2.0).contains(&ratio),
            "{} passes, {ratio:.2} of them estimated: {layers:?}",
            check.passes
        );
        let memory = request.cost(&layers).memory_bytes;
        assert!((held..1.5 * held + SMALL).contains(&memory), "{held} bytes, {memory} estimated: {layers:?}");
    }
}

/// The largest layer that is allowed. The check holds its weights twice and its gradient in parts.
#[test]
fn a_check_of_the_widest_layer_fits_into_the_default_limits() {
    let network = json!({ "layers": [{ "type": "dense", "units": 16_384 }, { "type": "relu" }, { "type": "dense", "units": 10 }] });
    let request = check_request(&json!({ "network": network }));
    let cost = request.cost(request.layers.as_deref().expect("layers"));
    LabLimits::default().check(cost).expect("room for it");
}

#[test]
fn large_seeds_choose_different_examples_and_parameters() {
    let network = check_request(&json!({ "network": "lesson" })).draw().expect("layers that fit");
    let worst = |seed: u64| {
        let request = check_request(&json!({ "network": "lesson", "samples": 4, "seed": seed }));
        let check =
            lab::check(network.clone(), &request, &mnist::dataset(), &clock(), &|| true).expect("a check");
        check.layers[0].worst.as_ref().map(|worst| (worst.index, worst.backpropagation))
    };
    let found: Vec<_> = [0, 1, 2, 3].map(|more| worst((1 << 60) + 1_000 * more)).into();
    for (place, one) in found.iter().enumerate() {
        assert!(!found[..place].contains(one), "{found:?}");
    }
}

/// Returns true a given number of times, and counts the calls.
struct Patience {
    left: Cell<usize>,
    asked: Cell<usize>,
}

impl Patience {
    fn of(times: usize) -> Self {
        Self { left: Cell::new(times), asked: Cell::new(0) }
    }

    fn goes_on(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

/// Asserts that `work` stops at the first false, whenever it comes, and otherwise completes.
fn stops<T>(what: &str, least: usize, work: impl Fn(&dyn Fn() -> bool) -> Result<T, Stopped>) {
    let all = Patience::of(usize::MAX);
    assert!(work(&|| all.goes_on()).is_ok(), "{what}");
    let asks = all.asked.get();
    assert!(asks >= least, "{what} asks {asks} times");
    for times in [0, 1, asks / 2, asks - 1] {
        let some = Patience::of(times);
        assert!(work(&|| some.goes_on()).is_err(), "{what} after {times} of {asks}");
        assert_eq!(some.asked.get(), times + 1, "{what} is asked once more after a no");
    }
}

#[test]
fn long_work_stops_when_it_is_first_asked_to() {
    let layers = layers(json!({ "network": "cnn-fast" }));
    let network = Network::<f32>::new(mnist::shape().input, &layers, 1).expect("layers that fit");
    let (image, loss) = (image(), LossKind::CrossEntropy);
    let shown = (image.as_slice(), 7);
    stops("trace", 3, |go_on| lab::trace(&network, loss, shown, 0.1, false, go_on));
    let place = ParameterPlace::new(&network, 0, false, &[3]).expect("a weight");
    stops("microscope", 5, |go_on| lab::microscope(&network, loss, shown, &place, go_on));
    stops("explain", 12, |go_on| lab::explain(&network, &[&image, &image], None, go_on));
    let request = check_request(&json!({ "network": "cnn-fast", "samples": 2, "parameters": 2 }));
    let drawn = request.draw().expect("layers that fit");
    stops("a gradient check", 20, |go_on| {
        lab::check(drawn.clone(), &request, &mnist::dataset(), &clock(), go_on)
    });
}

/// Expressions that produce the most output for their length.
#[test]
fn an_expression_takes_no_more_than_its_bounds() {
    let many = |unit: &str, times: usize, between: &str| vec![unit; times].join(between);
    let names: Vec<String> = (0..99).map(|name| format!("n{name}")).collect();
    let long = "o".repeat(1_900);
    let expressions = [
        "a".to_owned(),
        many("a", 2_000, "+"),
        many("a", 2_000, "*"),
        format!("max({})", many("a", 1_990, ",")),
        format!("max({})", many("a+n1", 790, ",")),
        format!("b={};c={};c{}", many("a", 31, "+"), many("b", 31, "+"), "+0".repeat(900)),
        format!("b={};b{}", many("a", 1_000, "+"), "+0".repeat(980)),
        format!("{long}={}", many("a", 1_000, "+")),
        format!("{}a{}", "sin(".repeat(190), ")".repeat(190)),
        format!("({})*({})", names.join("+"), many("n1", 900, "+")),
        format!(
            "b={};c=a*b;d={};e={};e{}",
            names.join("+"),
            many("c", 30, "+"),
            many("d", 33, "+"),
            "+0".repeat(1_000)
        ),
    ];
    for expression in &expressions {
        let inputs = names.iter().map(String::as_str).chain(["a"]).filter(|name| expression.contains(name));
        let inputs: BTreeMap<String, f64> = inputs.take(100).map(|name| (name.to_owned(), 1.0)).collect();
        let bounds = GraphCost::of(expression, &inputs);
        let (held, graph) = most_held(|| graph::differentiate(expression, &inputs));
        let Ok(graph) = graph else { panic!("{expression}: {graph:?}") };
        let shown: String = expression.chars().take(40).collect();
        assert!(held <= bounds.held_bytes, "{shown}: {held} bytes held, {bounds:?}");
        for (form, body) in
            [json_of(&graph), graph.text().into(), graph.svg().into(), graph.dot().into()].iter().enumerate()
        {
            assert!(
                (body.len() as f64) <= bounds.answer_bytes,
                "{shown}, form {form}: {} bytes, {bounds:?}",
                body.len()
            );
        }
    }
    let longest = "a".repeat(graph::EXPRESSION_CHARS_MAX);
    let all = names.iter().map(|name| (name.clone(), 1.0)).collect();
    let GraphCost { operations, held_bytes, answer_bytes } = GraphCost::of(&longest, &all);
    let cost = AnswerCost { flops: operations, memory_bytes: held_bytes + 3.0 * answer_bytes, answer_bytes };
    LabLimits::default().check(cost).expect("room for the longest");
}

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CheckpointSpec, EarlyStopping, NetworkSpec, Preset, SpecLimits, TrainSpec};
use crate::data::DatasetShape;
use crate::nn::{Init, LayerSpec, LossKind, OptimizerSpec, Schedule};

/// One thing wrong with a request, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// JSON pointer (RFC 6901) of the field.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// Turns a request into a spec.
///
/// # Errors
/// All faults at once, each with its pointer.
pub fn parse(
    request: &Value,
    datasets: &[DatasetShape],
    limits: &SpecLimits,
) -> Result<TrainSpec, Vec<Fault>> {
    let mut faults = Vec::new();
    let spec = Fields::of(request, String::new(), &mut faults)
        .and_then(|fields| train_spec(fields, datasets, limits));
    match spec {
        Some(spec) if faults.is_empty() => Ok(spec),
        _ => Err(faults),
    }
}

const MODEL_NAME: &str = "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit";

fn train_spec(mut fields: Fields, datasets: &[DatasetShape], limits: &SpecLimits) -> Option<TrainSpec> {
    let dataset_name = fields.string("dataset").unwrap_or_else(|| "mnist".to_owned());
    let dataset = datasets.iter().find(|dataset| dataset.name == dataset_name);
    if dataset.is_none() {
        let known: Vec<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        fields.fault("dataset", unknown("dataset", &dataset_name, &known));
    }
    let classes = dataset.map_or(10, |dataset| dataset.classes);
    let (preset, layers) = network(&mut fields, classes, limits);
    let mut spec = preset.recipe(&dataset_name, classes);
    if let Some(layers) = layers {
        spec.network = NetworkSpec { layers };
    }
    if let Some(model) = fields.string("model") {
        if !super::spec::is_name(&model) {
            fields.fault("model", format!("{model:?} {MODEL_NAME}"));
        }
        spec.model = model;
    }
    if let Some(loss) = fields.one_of(
        "loss",
        &[("cross_entropy", LossKind::CrossEntropy), ("mean_squared_error", LossKind::MeanSquaredError)],
    ) {
        spec.loss = loss;
    }
    spec.optimizer = optimizer(&mut fields, spec.optimizer);
    if let Some(epochs) = fields.integer("epochs", 1..=u64::from(limits.epochs_max)) {
        spec.epochs = epochs as u32;
    }
    spec.schedule = schedule(&mut fields, spec.schedule, spec.epochs);
    if let Some(seed) = fields.integer("seed", 0..=i64::MAX as u64) {
        spec.seed = seed;
    }
    if let Some(fraction) = fields.number("validation_fraction", Bounds::from(0.0).below(1.0)) {
        spec.validation_fraction = fraction;
    }
    let examples = dataset.map_or(usize::MAX / 2, |dataset| dataset.train);
    spec.train_samples = fields.integer("train_samples", 1..=examples as u64).map(|n| n as usize);
    let training = spec.training_samples(examples);
    if training == 0 {
        fields.fault(
            "validation_fraction",
            format!("{} leaves no example to train on", spec.validation_fraction),
        );
    }
    match fields.integer("batch_size", 1..=training.max(1) as u64) {
        Some(batch_size) => spec.batch_size = batch_size as usize,
        None => spec.batch_size = spec.batch_size.min(training.max(1)),
    }
    if let Some(smoothing) = fields.number("label_smoothing", Bounds::from(0.0).below(1.0)) {
        spec.label_smoothing = smoothing;
    }
    spec.gradient_clip_norm = fields.number("gradient_clip_norm", Bounds::above(0.0));
    spec.target_accuracy = fields.number("target_accuracy", Bounds::above(0.0).to(1.0));
    if let Some(mut early) = fields.object("early_stopping") {
        let patience = early.integer("patience", 1..=u64::from(limits.epochs_max)).unwrap_or(3);
        spec.early_stopping = Some(EarlyStopping { patience: patience as u32 });
        early.refuse_unknown();
    }
    if let Some(mut checkpoint) = fields.object("checkpoint") {
        let every = checkpoint.integer("every_epochs", 1..=u64::from(limits.epochs_max));
        let keep = checkpoint.integer("keep", 1..=100);
        let default = spec.checkpoint;
        spec.checkpoint = CheckpointSpec {
            every_epochs: every.map_or(default.every_epochs, |every| every as u32),
            keep: keep.map_or(default.keep, |keep| keep as u32),
        };
        checkpoint.refuse_unknown();
    }
    let validates = spec.validation_samples(examples) > 0;
    for (name, is_set) in [
        ("target_accuracy", spec.target_accuracy.is_some()),
        ("early_stopping", spec.early_stopping.is_some()),
    ] {
        if is_set && !validates {
            fields.fault(name, "needs validation examples: validation_fraction holds out none".to_owned());
        }
    }
    for name in ["augment", "ema_decay", "initial_model"] {
        if fields.take(name).is_some() {
            fields.fault(name, "is not offered by this version; leave it out or send null".to_owned());
        }
    }
    fields.refuse_unknown();

    if let (true, Some(dataset)) = (fields.faults.is_empty(), dataset) {
        let cost = spec.cost(dataset);
        if cost.flops > limits.flops_max {
            fields.fault(
                "",
                format!(
                    "the job would take about {:.1e} floating-point operations, this server accepts {:.1e}",
                    cost.flops, limits.flops_max,
                ),
            );
        }
        if cost.memory_bytes > limits.memory_bytes_max {
            fields.fault(
                "",
                format!(
                    "the job would take about {:.1e} bytes of memory, this server accepts {:.1e}",
                    cost.memory_bytes, limits.memory_bytes_max,
                ),
            );
        }
    }
    Some(spec)
}

/// The preset, and the layers where the request brings its own.
fn network(fields: &mut Fields, classes: usize, limits: &SpecLimits) -> (Preset, Option<Vec<LayerSpec>>) {
    let names = Preset::ALL.map(Preset::name);
    match fields.take("network") {
        None => (Preset::Mlp, None),
        Some(Value::String(name)) => match Preset::named(name) {
            Some(preset) => (preset, None),
            None => {
                fields.fault("network", unknown("network", name, &names));
                (Preset::Mlp, None)
            }
        },
        Some(Value::Object(_)) => {
            let layers = fields.object("network").and_then(|mut network| {
                let layers = layers(&mut network, classes, limits);
                network.refuse_unknown();
                layers
            });
            (Preset::Mlp, layers)
        }
        Some(other) => {
            fields.fault(
                "network",
                format!("must be the name of a preset or an object with layers, not {}", kind(other)),
            );
            (Preset::Mlp, None)
        }
    }
}

fn layers(network: &mut Fields, classes: usize, limits: &SpecLimits) -> Option<Vec<LayerSpec>> {
    let values = match network.take("layers") {
        Some(Value::Array(values)) => values,
        Some(other) => {
            network.fault("layers", format!("must be an array of layers, not {}", kind(other)));
            return None;
        }
        None => {
            network.fault("layers", "is missing".to_owned());
            return None;
        }
    };
    if values.is_empty() || values.len() > limits.layers_max {
        network.fault("layers", format!("must hold 1 to {} layers, not {}", limits.layers_max, values.len()));
        return None;
    }
    let pointer = network.pointer_of("layers");
    let layers: Vec<LayerSpec> = values
        .iter()
        .enumerate()
        .filter_map(|(index, value)| {
            let fields = Fields::of(value, format!("{pointer}/{index}"), network.faults)?;
            layer(fields, limits)
        })
        .collect();
    if layers.len() < values.len() {
        return None;
    }
    let (last, at) = (values.len() - 1, |index: usize| format!("layers/{index}"));
    match layers[last] {
        LayerSpec::Dense { units, .. } if units == classes => {}
        LayerSpec::Dense { units, .. } => network.fault(
            &format!("{}/units", at(last)),
            format!("the last layer has {units} units, but the dataset has {classes} classes"),
        ),
        other => network.fault(
            &at(last),
            format!(
                "the last layer must be dense with {classes} units, not {}: softmax belongs to the loss",
                other.name()
            ),
        ),
    }
    Some(layers)
}

const LAYER_TYPES: [&str; 4] = ["dense", "relu", "sigmoid", "tanh"];

fn layer(mut fields: Fields, limits: &SpecLimits) -> Option<LayerSpec> {
    let kind = fields.required_string("type")?;
    let layer = match kind.as_str() {
        "dense" => {
            let init = fields
                .one_of("init", &[("he", Init::He), ("xavier", Init::Xavier), ("normal", Init::Normal)]);
            let units = match fields.take("units") {
                None => {
                    fields.fault("units", "is missing".to_owned());
                    None
                }
                Some(_) => fields.integer("units", 1..=limits.units_max as u64),
            };
            LayerSpec::Dense { units: units? as usize, init: init.unwrap_or(Init::He) }
        }
        "relu" => LayerSpec::Relu,
        "sigmoid" => LayerSpec::Sigmoid,
        "tanh" => LayerSpec::Tanh,
        other => {
            fields.fault("type", unknown("layer type", other, &LAYER_TYPES));
            return None;
        }
    };
    fields.refuse_unknown();
    Some(layer)
}

const OPTIMIZER_TYPES: [&str; 3] = ["sgd", "momentum", "adam"];

/// The optimiser named, with PyTorch's defaults, or the preset's with what is named changed.
fn optimizer(fields: &mut Fields, preset: OptimizerSpec) -> OptimizerSpec {
    let Some(mut fields) = fields.object("optimizer") else { return preset };
    let rate = 0.001;
    let default = match fields.string("type").as_deref() {
        None => preset,
        Some("sgd") => OptimizerSpec::Sgd { learning_rate: rate, weight_decay: 0.0 },
        Some("momentum") => OptimizerSpec::Momentum { learning_rate: rate, momentum: 0.9, weight_decay: 0.0 },
        Some("adam") => {
            OptimizerSpec::Adam { learning_rate: rate, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }
        }
        Some(other) => {
            fields.fault("type", unknown("optimizer", other, &OPTIMIZER_TYPES));
            return preset;
        }
    };
    let rate = fields.number("learning_rate", Bounds::above(0.0).to(1e6));
    let decay = fields.number("weight_decay", Bounds::from(0.0).to(1e6));
    let optimizer = match default {
        OptimizerSpec::Sgd { learning_rate, weight_decay } => OptimizerSpec::Sgd {
            learning_rate: rate.unwrap_or(learning_rate),
            weight_decay: decay.unwrap_or(weight_decay),
        },
        OptimizerSpec::Momentum { learning_rate, momentum, weight_decay } => OptimizerSpec::Momentum {
            learning_rate: rate.unwrap_or(learning_rate),
            momentum: fields.number("momentum", Bounds::from(0.0).below(1.0)).unwrap_or(momentum),
            weight_decay: decay.unwrap_or(weight_decay),
        },
        OptimizerSpec::Adam { learning_rate, betas, eps, weight_decay } => OptimizerSpec::Adam {
            learning_rate: rate.unwrap_or(learning_rate),
            betas: fields.betas().unwrap_or(betas),
            eps: fields.number("eps", Bounds::above(0.0).to(1.0)).unwrap_or(eps),
            weight_decay: decay.unwrap_or(weight_decay),
        },
    };
    fields.refuse_unknown();
    optimizer
}

const SCHEDULE_TYPES: [&str; 3] = ["constant", "cosine", "one_cycle"];

fn schedule(fields: &mut Fields, preset: Schedule, epochs: u32) -> Schedule {
    let Some(mut fields) = fields.object("schedule") else { return preset };
    let warmup_epochs = 0.0;
    let default = match fields.string("type").as_deref() {
        None => preset,
        Some("constant") => Schedule::Constant { warmup_epochs },
        Some("cosine") => Schedule::Cosine { warmup_epochs },
        Some("one_cycle") => {
            Schedule::OneCycle { warmup_epochs, pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 }
        }
        Some(other) => {
            fields.fault("type", unknown("schedule", other, &SCHEDULE_TYPES));
            return preset;
        }
    };
    let warmup = fields.number("warmup_epochs", Bounds::from(0.0).to(f64::from(epochs)));
    let schedule = match default {
        Schedule::Constant { warmup_epochs } => {
            Schedule::Constant { warmup_epochs: warmup.unwrap_or(warmup_epochs) }
        }
        Schedule::Cosine { warmup_epochs } => {
            Schedule::Cosine { warmup_epochs: warmup.unwrap_or(warmup_epochs) }
        }
        Schedule::OneCycle { warmup_epochs, pct_start, div_factor, final_div_factor } => Schedule::OneCycle {
            warmup_epochs: warmup.unwrap_or(warmup_epochs),
            pct_start: fields.number("pct_start", Bounds::from(0.0).to(1.0)).unwrap_or(pct_start),
            div_factor: fields.number("div_factor", Bounds::from(1.0).to(1e12)).unwrap_or(div_factor),
            final_div_factor: fields
                .number("final_div_factor", Bounds::from(1.0).to(1e12))
                .unwrap_or(final_div_factor),
        },
    };
    fields.refuse_unknown();
    schedule
}

/// `unknown dataset "mnits", did you mean "mnist"?`, or the list of what there is.
fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let shown: String = name.chars().take(64).collect();
    match nearest(name, known) {
        Some(nearest) => format!("unknown {what} {shown:?}, did you mean {nearest:?}?"),
        None => format!("unknown {what} {shown:?}, there are: {}", known.join(", ")),
    }
}

/// The known name that `name` most likely stands for.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let short: String = name.chars().take(64).collect();
    let likeness = |known: &&str| strsim::jaro_winkler(&short, known);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.8).then_some(*best)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// An interval of finite numbers, open or closed at either end.
#[derive(Clone, Copy)]
struct Bounds {
    least: f64,
    least_included: bool,
    most: f64,
    most_included: bool,
}

impl Bounds {
    fn from(least: f64) -> Self {
        Self { least, least_included: true, most: f64::from(f32::MAX), most_included: true }
    }

    fn above(least: f64) -> Self {
        Self { least_included: false, ..Self::from(least) }
    }

    fn to(self, most: f64) -> Self {
        Self { most, ..self }
    }

    fn below(self, most: f64) -> Self {
        Self { most, most_included: false, ..self }
    }

    fn hold(&self, value: f64) -> bool {
        (value > self.least || self.least_included && value == self.least)
            && (value < self.most || self.most_included && value == self.most)
    }

    fn describe(&self) -> String {
        let least = if self.least_included { "at least" } else { "above" };
        let most = if self.most_included { "at most" } else { "below" };
        format!("{least} {} and {most} {}", self.least, self.most)
    }
}

/// The fields of an object, taken one by one; every fault is noted with its pointer.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Fields<'a> {
    fn of(value: &'a Value, pointer: String, faults: &'a mut Vec<Fault>) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { map, pointer, known: Vec::new(), faults }),
            other => {
                faults.push(Fault { pointer, detail: format!("must be an object, not {}", kind(other)) });
                None
            }
        }
    }

    fn pointer_of(&self, name: &str) -> String {
        if name.is_empty() { self.pointer.clone() } else { format!("{}/{name}", self.pointer) }
    }

    fn fault(&mut self, name: &str, detail: String) {
        let pointer = self.pointer_of(name);
        self.faults.push(Fault { pointer, detail });
    }

    /// The value, unless it is absent or null.
    fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn string(&mut self, name: &'static str) -> Option<String> {
        match self.take(name)? {
            Value::String(value) => Some(value.clone()),
            other => {
                self.fault(name, format!("must be a string, not {}", kind(other)));
                None
            }
        }
    }

    fn required_string(&mut self, name: &'static str) -> Option<String> {
        if self.take(name).is_none() {
            self.fault(name, "is missing".to_owned());
        }
        self.string(name)
    }

    fn one_of<T: Copy>(&mut self, name: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let value = self.string(name)?;
        let choice = choices.iter().find(|(choice, _)| *choice == value).map(|(_, choice)| *choice);
        if choice.is_none() {
            let known: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            self.fault(name, unknown(name, &value, &known));
        }
        choice
    }

    fn integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(name)?;
        let integer = value.as_u64().filter(|integer| range.contains(integer));
        if integer.is_none() {
            let (least, most) = range.into_inner();
            let found = if value.is_number() { value.to_string() } else { kind(value).to_owned() };
            self.fault(name, format!("must be a whole number from {least} to {most}, not {found}"));
        }
        integer
    }

    fn number(&mut self, name: &'static str, bounds: Bounds) -> Option<f64> {
        let value = self.take(name)?;
        let number = value.as_f64().filter(|&number| bounds.hold(number));
        if number.is_none() {
            let found = if value.is_number() { value.to_string() } else { kind(value).to_owned() };
            self.fault(name, format!("must be a number {}, not {found}", bounds.describe()));
        }
        number
    }

    fn betas(&mut self) -> Option<[f64; 2]> {
        let value = self.take("betas")?;
        let bounds = Bounds::from(0.0).below(1.0);
        let betas = value.as_array().and_then(|values| match values.as_slice() {
            [first, second] => Some([first.as_f64()?, second.as_f64()?]),
            _ => None,
        });
        let betas = betas.filter(|betas| betas.iter().all(|&beta| bounds.hold(beta)));
        if betas.is_none() {
            self.fault("betas", format!("must be two numbers, each {}", bounds.describe()));
        }
        betas
    }

    fn object(&mut self, name: &'static str) -> Option<Fields<'_>> {
        let value = self.take(name)?;
        Fields::of(value, self.pointer_of(name), self.faults)
    }

    fn refuse_unknown(&mut self) {
        for name in self.map.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let detail = match nearest(name, &self.known) {
                Some(nearest) => format!("unknown field, did you mean {nearest:?}?"),
                None => format!("unknown field, there are: {}", self.known.join(", ")),
            };
            let token: String =
                name.chars().take(64).collect::<String>().replace('~', "~0").replace('/', "~1");
            self.faults.push(Fault { pointer: format!("{}/{token}", self.pointer), detail });
        }
    }
}

use serde_json::Value;

use super::fields::{Bounds, Fault, Fields, kind, shown, unknown};
use super::{CheckpointSpec, EarlyStopping, NetworkSpec, Preset, SpecLimits, TrainSpec};
use crate::data::DatasetShape;
use crate::nn::{Init, LayerSpec, LossKind, OptimizerSpec, Schedule};

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
            fields.fault("model", format!("{:?} {MODEL_NAME}", shown(&model)));
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

mod layers;
mod rules;

use serde_json::Value;

use self::layers::layers;
use self::rules::{augment, optimizer, schedule};
use super::{CheckpointSpec, Cost, EarlyStopping, NetworkSpec, Preset, SpecLimits, TrainSpec};
use crate::data::{DatasetShape, mnist};
use crate::fields::{Fault, Fields, Interval, kind, parsed, shown, unknown};
use crate::nn::{LayerSpec, LossKind};

/// Parses and validates a request.
///
/// # Errors
/// Every fault of the request, each with its pointer.
pub fn parse(
    request: &Value,
    datasets: &[DatasetShape],
    limits: &SpecLimits,
) -> Result<TrainSpec, Vec<Fault>> {
    parsed(request, |fields| train_spec(fields, datasets, limits))
}

const MODEL_NAME: &str = "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit";

fn train_spec(mut fields: Fields, datasets: &[DatasetShape], limits: &SpecLimits) -> Option<TrainSpec> {
    let dataset_name = fields.string("dataset").unwrap_or_else(|| "mnist".to_owned());
    let dataset = datasets.iter().find(|dataset| dataset.name == dataset_name);
    if dataset.is_none() {
        let known: Vec<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        fields.fault("dataset", unknown("dataset", &dataset_name, &known));
    }
    // If the data set is unknown, the rest of the request is checked as if it were MNIST.
    let shape = dataset.cloned().unwrap_or_else(mnist::shape);
    let (preset, layers) = network(&mut fields, &shape, limits);
    let mut spec = preset.recipe(&dataset_name, shape.classes);
    if let Some(layers) = layers {
        spec.network = NetworkSpec { layers };
    }
    model(&mut fields, &mut spec);
    if let Some(loss) = fields.one_of("loss", &LossKind::NAMED) {
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
    let examples = dataset.map_or(usize::MAX / 2, |dataset| dataset.train);
    samples(&mut fields, &mut spec, examples);
    if let Some(smoothing) = fields.number("label_smoothing", Interval::from(0.0).below(1.0)) {
        spec.label_smoothing = smoothing;
    }
    spec.gradient_clip_norm = fields.number("gradient_clip_norm", Interval::above(0.0));
    end_and_checkpoints(&mut fields, &mut spec, limits, examples);
    spec.augment = augment(&mut fields, spec.augment);
    let no_average = fields.is_null("ema_decay");
    spec.ema_decay = match fields.number("ema_decay", Interval::from(0.0).to(0.999_999)) {
        None if no_average => None,
        decay => decay.or(spec.ema_decay),
    };
    spec.initial_model = fields.string("initial_model");
    if let Some(priority) = fields.signed("priority", -100..=100) {
        spec.priority = priority as i32;
    }
    fields.refuse_unknown();
    if let (true, Some(dataset)) = (fields.faults.is_empty(), dataset) {
        check_cost(&mut fields, spec.cost(dataset), limits);
    }
    Some(spec)
}

/// The name of the model.
fn model(fields: &mut Fields, spec: &mut TrainSpec) {
    if let Some(model) = fields.string("model") {
        if !super::spec::is_name(&model) {
            fields.fault("model", format!("{:?} {MODEL_NAME}", shown(&model)));
        }
        spec.model = model;
    }
}

/// How many of the `examples` of the data set are held out, trained on, and in a batch.
fn samples(fields: &mut Fields, spec: &mut TrainSpec, examples: usize) {
    if let Some(fraction) = fields.number("validation_fraction", Interval::from(0.0).below(1.0)) {
        spec.validation_fraction = fraction;
    }
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
}

/// When the job ends before its last epoch, and which checkpoints it keeps.
fn end_and_checkpoints(fields: &mut Fields, spec: &mut TrainSpec, limits: &SpecLimits, examples: usize) {
    spec.target_accuracy = fields.number("target_accuracy", Interval::above(0.0).to(1.0));
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
}

/// Reports a fault for each part of the cost that exceeds its limit.
fn check_cost(fields: &mut Fields, cost: Cost, limits: &SpecLimits) {
    for (estimate, most, what) in [
        (cost.flops, limits.flops_max, "floating-point operations"),
        (cost.memory_bytes, limits.memory_bytes_max, "bytes of memory"),
    ] {
        if estimate > most {
            fields.fault(
                "",
                format!("the job would take about {estimate:.1e} {what}, this server accepts {most:.1e}"),
            );
        }
    }
}

/// The layers in the field `network`, which is the name of a preset or an object with layers. Without the field, the
/// layers of the default preset.
pub fn network_layers(
    fields: &mut Fields,
    dataset: &DatasetShape,
    limits: &SpecLimits,
) -> Option<Vec<LayerSpec>> {
    let faults = fields.faults.len();
    let (preset, layers) = network(fields, dataset, limits);
    let layers = layers.unwrap_or_else(|| preset.recipe(&dataset.name, dataset.classes).network.layers);
    (fields.faults.len() == faults).then_some(layers)
}

/// The preset, and the layers if the request contains its own.
fn network(
    fields: &mut Fields,
    dataset: &DatasetShape,
    limits: &SpecLimits,
) -> (Preset, Option<Vec<LayerSpec>>) {
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
                let layers = layers(&mut network, dataset, limits);
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

use serde_json::Value;

use crate::data::DatasetShape;
use crate::fields::{Fields, Interval, kind, unknown};
use crate::nn::{Init, LayerSpec, Padding, Shape, ShapeError, shapes};
use crate::train::SpecLimits;

/// Parses the layers of a request. They must fit each other, and the images and classes of `dataset`.
pub(super) fn layers(
    network: &mut Fields,
    dataset: &DatasetShape,
    limits: &SpecLimits,
) -> Option<Vec<LayerSpec>> {
    let DatasetShape { input, classes, .. } = *dataset;
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
            layer(fields, input, limits)
        })
        .collect();
    if layers.len() < values.len() {
        return None;
    }
    if let Err(ShapeError { layer, detail }) = shapes(input, &layers) {
        network.fault(&format!("layers/{layer}"), detail);
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

fn layer(mut fields: Fields, image: Shape, limits: &SpecLimits) -> Option<LayerSpec> {
    // Largest filter size, pooling size and stride.
    let window_max = image.height.max(image.width) as u64;
    let kind = fields.required_string("type")?;
    let layer = match kind.as_str() {
        "dense" => {
            let init = init(&mut fields);
            let units = required(&mut fields, "units", limits.units_max as u64);
            units.map(|units| LayerSpec::Dense { units, init })
        }
        "conv2d" => {
            let init = init(&mut fields);
            let filters = required(&mut fields, "filters", limits.units_max as u64);
            let kernel = required(&mut fields, "kernel", window_max);
            let padding = [("valid", Padding::Valid), ("same", Padding::Same)];
            let padding = fields.one_of("padding", &padding).unwrap_or_default();
            let stride = fields.integer("stride", 1..=window_max).unwrap_or(1) as usize;
            let sizes = filters.zip(kernel);
            sizes.map(|(filters, kernel)| LayerSpec::Conv2d { filters, kernel, padding, stride, init })
        }
        "max_pool2d" => Some(LayerSpec::MaxPool2d { size: size(&mut fields, window_max) }),
        "avg_pool2d" => Some(LayerSpec::AvgPool2d { size: size(&mut fields, window_max) }),
        "batch_norm" => Some(LayerSpec::BatchNorm),
        "dropout" => Some(LayerSpec::Dropout {
            rate: fields.number("rate", Interval::from(0.0).below(1.0)).unwrap_or(0.5),
        }),
        "flatten" => Some(LayerSpec::Flatten),
        "relu" => Some(LayerSpec::Relu),
        "leaky_relu" => Some(LayerSpec::LeakyRelu),
        "gelu" => Some(LayerSpec::Gelu),
        "sigmoid" => Some(LayerSpec::Sigmoid),
        "tanh" => Some(LayerSpec::Tanh),
        other => {
            fields.fault("type", unknown("layer type", other, &LayerSpec::NAMES));
            return None;
        }
    };
    fields.refuse_unknown();
    layer
}

fn init(fields: &mut Fields) -> Init {
    let choices = [("he", Init::He), ("xavier", Init::Xavier), ("normal", Init::Normal)];
    fields.one_of("init", &choices).unwrap_or(Init::He)
}

/// The field `size`, which defaults to 2.
fn size(fields: &mut Fields, window_max: u64) -> usize {
    fields.integer("size", 1..=window_max).unwrap_or(2) as usize
}

fn required(fields: &mut Fields, name: &'static str, most: u64) -> Option<usize> {
    if fields.take(name).is_none() {
        fields.fault(name, "is missing".to_owned());
        return None;
    }
    fields.integer(name, 1..=most).map(|value| value as usize)
}

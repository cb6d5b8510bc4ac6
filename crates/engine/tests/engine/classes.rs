//! Shape and classes of a network come from the data set.

use chainrule_engine::data::{Dataset, IMAGE_PIXELS, Split, shapes};
use chainrule_engine::nn::ThreadPool;
use chainrule_engine::train::{Outcome, SpecLimits, TrainState, parse, run};
use ndarray::Array2;
use serde_json::json;

/// A picture for each class, which lights one pixel of its own.
fn lights(classes: u16) -> Split {
    let light = |(row, pixel): (usize, usize)| if row == pixel { 255 } else { 0 };
    let images = Array2::from_shape_fn((usize::from(classes), IMAGE_PIXELS), light);
    Split::new(images, (0..classes).collect()).expect("as many labels as images")
}

#[test]
fn more_classes_than_a_byte_counts_are_told_apart() {
    let classes = 300;
    let names = (0..classes).map(|class| format!("light {class}")).collect();
    let dataset =
        Dataset::new("lights".to_owned(), names, lights(classes), lights(classes)).expect("a data set");
    let request = json!({
        "dataset": "lights",
        "network": {"layers": [{"type": "dense", "units": classes}]},
        "optimizer": {"type": "adam", "learning_rate": 0.05},
        "schedule": {"type": "constant"},
        "epochs": 20, "batch_size": 50, "validation_fraction": 0,
    });
    let known = [shapes(), vec![dataset.shape()]].concat();
    let spec = parse(&request, &known, &SpecLimits::default()).expect("a valid request");
    let state = TrainState::new(&spec, dataset.shape().input).expect("layers that fit");
    let Ok(Outcome::Finished { test, .. }) = run(&spec, &dataset, state, &ThreadPool::new(1), &mut ()) else {
        panic!("the run ends");
    };
    assert_eq!(test.accuracy, 1.0);
}

#[test]
fn a_network_has_as_many_outputs_as_its_data_set_has_classes() {
    let names = (0..300).map(|class| class.to_string()).collect();
    let dataset = Dataset::new("lights".to_owned(), names, lights(300), lights(300)).expect("a data set");
    let of = |request| parse(&request, &[dataset.shape()], &SpecLimits::default());
    let preset = of(json!({"dataset": "lights", "batch_size": 100})).expect("a preset fits every data set");
    let last = serde_json::to_value(preset.network.layers.last()).expect("JSON");
    assert_eq!(last["units"], 300);
    let ten = of(json!({
        "dataset": "lights", "batch_size": 100,
        "network": {"layers": [{"type": "dense", "units": 10}]},
    }));
    let faults = ten.expect_err("ten outputs for 300 classes");
    assert!(faults.iter().any(|fault| fault.detail.contains("300 classes")), "{faults:?}");
}

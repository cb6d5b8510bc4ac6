//! Rows as earlier versions wrote them. These texts never change: each new format adds its own.

use std::fmt::Debug;

use serde_json::{Value, json};

use super::{Column, read, write};
use crate::data::{Augment, Elastic};
use crate::job::{EpochRecord, JobError, JobMetrics, JobResult, Progress, StepMemory};
use crate::nn::{Init, LayerSpec, LossKind, OptimizerSpec, Padding, Schedule};
use crate::train::{CheckpointSpec, EarlyStopping, EpochMetrics, LayerMetrics, NetworkSpec, TrainSpec};

/// Asserts that each of `texts` is read as `value`, and that `written` is written for it.
fn holds<T: Column + PartialEq + Debug>(value: &T, texts: &[&str], written: &str) {
    for text in texts.iter().chain([&written]) {
        assert_eq!(read::<T>("a row", text).expect("a row"), *value, "{text}");
    }
    assert_eq!(write("a row", value).expect("JSON"), written);
    let mut newer: Value = serde_json::from_str(written).expect("JSON");
    newer["format"] = json!(T::FORMAT + 1);
    let refused = read::<T>("a row", &newer.to_string()).expect_err("a later format").to_string();
    assert!(refused.contains(&format!("its format {} is unknown", T::FORMAT + 1)), "{refused}");
}

fn spec(layers: Vec<LayerSpec>) -> TrainSpec {
    TrainSpec {
        model: "digits".to_owned(),
        dataset: "mnist".to_owned(),
        network: NetworkSpec { layers },
        loss: LossKind::CrossEntropy,
        optimizer: OptimizerSpec::Adam {
            learning_rate: 0.006,
            betas: [0.9, 0.99],
            eps: 1e-8,
            weight_decay: 0.0,
        },
        schedule: Schedule::OneCycle {
            warmup_epochs: 0.0,
            pct_start: 0.3,
            div_factor: 25.0,
            final_div_factor: 10_000.0,
        },
        epochs: 2,
        batch_size: 128,
        seed: 5,
        validation_fraction: 0.0833,
        train_samples: Some(500),
        augment: None,
        label_smoothing: 0.0,
        gradient_clip_norm: None,
        ema_decay: None,
        target_accuracy: None,
        early_stopping: None,
        checkpoint: CheckpointSpec { every_epochs: 1, keep: 3 },
        initial_model: None,
        priority: 0,
    }
}

#[test]
fn a_spec_is_read_as_version_1_wrote_it() {
    let text = r#"{"model":"digits","dataset":"mnist","network":{"layers":[{"type":"dense","units":4,"init":"he"},{"type":"relu"},{"type":"dense","units":10,"init":"he"}]},"loss":"cross_entropy","optimizer":{"type":"adam","learning_rate":0.006,"betas":[0.9,0.99],"eps":1e-8,"weight_decay":0.0},"schedule":{"type":"one_cycle","warmup_epochs":0.0,"pct_start":0.3,"div_factor":25.0,"final_div_factor":10000.0},"epochs":2,"batch_size":128,"seed":5,"validation_fraction":0.0833,"train_samples":500,"augment":null,"label_smoothing":0.0,"gradient_clip_norm":null,"ema_decay":null,"target_accuracy":null,"early_stopping":null,"checkpoint":{"every_epochs":1,"keep":3},"initial_model":null}"#;
    let dense = |units| LayerSpec::Dense { units, init: Init::He };
    let expected = spec(vec![dense(4), LayerSpec::Relu, dense(10)]);
    assert_eq!(read::<TrainSpec>("a row", text).expect("a row"), expected);
    let with_priority = text.replace(r#""initial_model":null}"#, r#""initial_model":null,"priority":0}"#);
    let numbered = with_priority.replace(r#"{"model""#, r#"{"format":1,"model""#);
    holds(&expected, &[text, &with_priority], &numbered);
}

#[test]
fn every_field_of_a_spec_has_the_name_that_it_had() {
    let text = r#"{"format":1,"model":"tuned","dataset":"mnist","network":{"layers":[{"type":"conv2d","filters":8,"kernel":3,"padding":"same","stride":2,"init":"xavier"},{"type":"batch_norm"},{"type":"leaky_relu"},{"type":"max_pool2d","size":2},{"type":"avg_pool2d","size":2},{"type":"gelu"},{"type":"flatten"},{"type":"dropout","rate":0.25},{"type":"tanh"},{"type":"sigmoid"},{"type":"dense","units":10,"init":"normal"}]},"loss":"mean_squared_error","optimizer":{"type":"rmsprop","learning_rate":0.01,"alpha":0.99,"eps":1e-8,"momentum":0.5,"centered":true,"weight_decay":0.001},"schedule":{"type":"step","warmup_epochs":1.0,"step_size":4,"gamma":0.5},"epochs":2,"batch_size":128,"seed":18446744073709551615,"validation_fraction":0.0833,"train_samples":500,"augment":{"shift_pixels":2.0,"rotate_degrees":10.0,"scale":0.1,"shear":0.2,"elastic":{"alpha":34.0,"sigma":4.0}},"label_smoothing":0.1,"gradient_clip_norm":1.0,"ema_decay":0.99,"target_accuracy":0.98,"early_stopping":{"patience":5},"checkpoint":{"every_epochs":1,"keep":3},"initial_model":"digits@1","priority":-3}"#;
    let expected = TrainSpec {
        model: "tuned".to_owned(),
        loss: LossKind::MeanSquaredError,
        optimizer: OptimizerSpec::Rmsprop {
            learning_rate: 0.01,
            alpha: 0.99,
            eps: 1e-8,
            momentum: 0.5,
            centered: true,
            weight_decay: 0.001,
        },
        schedule: Schedule::Step { warmup_epochs: 1.0, step_size: 4, gamma: 0.5 },
        seed: u64::MAX,
        augment: Some(Augment {
            shift_pixels: 2.0,
            rotate_degrees: 10.0,
            scale: 0.1,
            shear: 0.2,
            elastic: Some(Elastic { alpha: 34.0, sigma: 4.0 }),
        }),
        label_smoothing: 0.1,
        gradient_clip_norm: Some(1.0),
        ema_decay: Some(0.99),
        target_accuracy: Some(0.98),
        early_stopping: Some(EarlyStopping { patience: 5 }),
        initial_model: Some("digits@1".to_owned()),
        priority: -3,
        ..spec(vec![
            LayerSpec::Conv2d {
                filters: 8,
                kernel: 3,
                padding: Padding::Same,
                stride: 2,
                init: Init::Xavier,
            },
            LayerSpec::BatchNorm,
            LayerSpec::LeakyRelu,
            LayerSpec::MaxPool2d { size: 2 },
            LayerSpec::AvgPool2d { size: 2 },
            LayerSpec::Gelu,
            LayerSpec::Flatten,
            LayerSpec::Dropout { rate: 0.25 },
            LayerSpec::Tanh,
            LayerSpec::Sigmoid,
            LayerSpec::Dense { units: 10, init: Init::Normal },
        ])
    };
    holds(&expected, &[], text);
}

#[test]
fn every_optimizer_and_schedule_has_the_name_that_it_had() {
    let with = |optimizer: &str, schedule: &str| {
        let text = write("a row", &spec(Vec::new())).expect("JSON");
        let mut row: Value = serde_json::from_str(&text).expect("JSON");
        row["optimizer"] = serde_json::from_str(optimizer).expect("JSON");
        row["schedule"] = serde_json::from_str(schedule).expect("JSON");
        let read = read::<TrainSpec>("a row", &row.to_string()).expect("a row");
        (read.optimizer, read.schedule)
    };
    let cosine = r#"{"type":"cosine","warmup_epochs":1.0}"#;
    let constant = r#"{"type":"constant","warmup_epochs":1.0}"#;
    let (learning_rate, momentum, weight_decay, eps, betas) = (0.1, 0.9, 0.01, 1e-8, [0.9, 0.99]);
    for (text, expected) in [
        (
            r#"{"type":"sgd","learning_rate":0.1,"weight_decay":0.01}"#,
            OptimizerSpec::Sgd { learning_rate, weight_decay },
        ),
        (
            r#"{"type":"momentum","learning_rate":0.1,"momentum":0.9,"weight_decay":0.01}"#,
            OptimizerSpec::Momentum { learning_rate, momentum, weight_decay },
        ),
        (
            r#"{"type":"nesterov","learning_rate":0.1,"momentum":0.9,"weight_decay":0.01}"#,
            OptimizerSpec::Nesterov { learning_rate, momentum, weight_decay },
        ),
        (
            r#"{"type":"adagrad","learning_rate":0.1,"lr_decay":0.5,"eps":1e-8,"weight_decay":0.01}"#,
            OptimizerSpec::Adagrad { learning_rate, lr_decay: 0.5, eps, weight_decay },
        ),
        (
            r#"{"type":"adamw","learning_rate":0.1,"betas":[0.9,0.99],"eps":1e-8,"weight_decay":0.01}"#,
            OptimizerSpec::Adamw { learning_rate, betas, eps, weight_decay },
        ),
    ] {
        assert_eq!(with(text, cosine), (expected, Schedule::Cosine { warmup_epochs: 1.0 }));
        assert_eq!(with(text, constant), (expected, Schedule::Constant { warmup_epochs: 1.0 }));
    }
}

#[test]
fn the_progress_of_a_job_is_read_as_each_version_wrote_it() {
    let mut expected = Progress {
        epoch: 2,
        epochs: 2,
        step: 8,
        steps: 8,
        fraction: 1.0,
        images_per_second: Some(156_381.989_984_723_74),
        elapsed_seconds: 0.142_393_795,
        eta_seconds: None,
        memory: None,
        waiting_for_disk: false,
    };
    let first = r#"{"epoch":2,"epochs":2,"step":8,"steps":8,"fraction":1.0,"images_per_second":156381.98998472374,"elapsed_seconds":0.142393795,"eta_seconds":null}"#;
    holds(
        &expected,
        &[first],
        r#"{"format":1,"epoch":2,"epochs":2,"step":8,"steps":8,"fraction":1.0,"images_per_second":156381.98998472374,"elapsed_seconds":0.142393795,"eta_seconds":null,"memory":null,"waiting_for_disk":false}"#,
    );
    expected.memory = Some(StepMemory { estimated_bytes: 805_120, measured_bytes: 806_688 });
    expected.waiting_for_disk = true;
    holds(
        &expected,
        &[],
        r#"{"format":1,"epoch":2,"epochs":2,"step":8,"steps":8,"fraction":1.0,"images_per_second":156381.98998472374,"elapsed_seconds":0.142393795,"eta_seconds":null,"memory":{"estimated_bytes":805120,"measured_bytes":806688},"waiting_for_disk":true}"#,
    );
}

#[test]
fn what_came_of_a_job_is_read_as_version_1_wrote_it() {
    holds(
        &JobMetrics {
            train_loss: 2.137_450_508_596_182_4,
            train_accuracy: 0.25,
            validation_loss: None,
            validation_accuracy: Some(0.5),
            test_loss: Some(2.0),
            test_accuracy: Some(0.2098),
        },
        &[
            r#"{"train_loss":2.1374505085961824,"train_accuracy":0.25,"validation_loss":null,"validation_accuracy":0.5,"test_loss":2.0,"test_accuracy":0.2098}"#,
        ],
        r#"{"format":1,"train_loss":2.1374505085961824,"train_accuracy":0.25,"validation_loss":null,"validation_accuracy":0.5,"test_loss":2.0,"test_accuracy":0.2098}"#,
    );
    holds(
        &JobResult {
            model: "digits".to_owned(),
            version: 1,
            test_accuracy: 0.2098,
            test_loss: 2.5,
            train_seconds: 0.125,
        },
        &[r#"{"model":"digits","version":1,"test_accuracy":0.2098,"test_loss":2.5,"train_seconds":0.125}"#],
        r#"{"format":1,"model":"digits","version":1,"test_accuracy":0.2098,"test_loss":2.5,"train_seconds":0.125}"#,
    );
    holds(
        &JobError { code: "diverged".to_owned(), detail: "the loss is NaN".to_owned() },
        &[r#"{"code":"diverged","detail":"the loss is NaN"}"#],
        r#"{"format":1,"code":"diverged","detail":"the loss is NaN"}"#,
    );
}

#[test]
fn an_epoch_is_read_as_version_1_wrote_it() {
    let layer = |layer: &str, gradient_norm, dead_fraction| LayerMetrics {
        layer: layer.to_owned(),
        gradient_norm,
        weight_norm: gradient_norm,
        update_ratio: gradient_norm,
        dead_fraction,
    };
    let expected = EpochRecord {
        metrics: EpochMetrics {
            epoch: 1,
            train_loss: 2.5,
            train_accuracy: 0.125,
            validation_loss: Some(2.25),
            validation_accuracy: None,
            learning_rate: 2.4e-8,
            layers: vec![layer("0.dense", Some(0.5), None), layer("1.relu", None, Some(0.75))],
        },
        images_per_second: 4_508.25,
        duration_seconds: 0.5,
    };
    let layers = r#"[{"layer":"0.dense","gradient_norm":0.5,"weight_norm":0.5,"update_ratio":0.5,"dead_fraction":null},{"layer":"1.relu","gradient_norm":null,"weight_norm":null,"update_ratio":null,"dead_fraction":0.75}]"#;
    let bare = format!(
        r#"{{"epoch":1,"train_loss":2.5,"train_accuracy":0.125,"validation_loss":2.25,"validation_accuracy":null,"learning_rate":2.4e-8,"layers":{layers},"images_per_second":4508.25,"duration_seconds":0.5}}"#
    );
    holds(&expected, &[&bare], &bare.replace(r#"{"epoch""#, r#"{"format":1,"epoch""#));
}

#[test]
fn layers_and_classes_of_a_model_are_read_as_each_version_wrote_them() {
    holds(
        &vec![LayerSpec::Flatten, LayerSpec::Dense { units: 10, init: Init::He }],
        &[r#"[{"type":"flatten"},{"type":"dense","units":10,"init":"he"}]"#],
        r#"{"format":2,"layers":[{"type":"flatten"},{"type":"dense","units":10,"init":"he"}]}"#,
    );
    holds(&vec!["0".to_owned(), "1".to_owned()], &[r#"["0","1"]"#], r#"{"format":2,"classes":["0","1"]}"#);
}

//! Backpropagation for small image classifiers: exact, fast on a CPU, and open to inspection.
//!
//! This is the engine of the chainrule server. It needs no async runtime and no database, and reads no files and no
//! clock. Its functions take arrays and return arrays. The same request and the same data give the same weights, byte for
//! byte, at any number of threads.
//!
//! Training a network on the built-in MNIST, and reading a digit with it:
//!
//! ```
//! use chainrule_engine::data::{self, mnist};
//! use chainrule_engine::nn::{ThreadPool, Predictor, argmax};
//! use chainrule_engine::train::{Outcome, SpecLimits, TrainState, parse, run};
//! use chainrule_engine::{ndarray::Axis, serde_json::json};
//!
//! let request = json!({ "network": "mlp", "epochs": 1, "train_samples": 6_000 });
//! let spec = parse(&request, &data::shapes(), &SpecLimits::default()).expect("a valid request");
//! let mnist = mnist::dataset();
//! let outcome = run(&spec, &mnist, TrainState::new(&spec, mnist.shape().input)?, &ThreadPool::new(2), &mut ())?;
//! let Outcome::Finished { state, test } = outcome else { unreachable!("no observer stops the run") };
//! assert!(test.accuracy > 0.9);
//!
//! let pixels = mnist.test.images().row(0).mapv(|pixel| f32::from(pixel) / 255.0);
//! let probabilities = Predictor::new(state.network).probabilities(pixels.insert_axis(Axis(0)).view());
//! assert_eq!(argmax(probabilities.iter()), 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The arrays are those of [`ndarray`] and a request is a value of [`serde_json`], which this crate re-exports.
//!
//! # Modules
//!
//! - [`nn`]: layers with their gradients, losses, initialisers, optimisers, schedules, and the kernels they use.
//! - [`graph`]: the chain rule on scalar expressions, as text, SVG and DOT.
//! - [`data`]: IDX files, pictures and MNIST as arrays, seeded order, and augmentation.
//! - [`train`]: validated requests, their cost, and the training loop as one function.
//! - [`lab`]: backpropagation in detail: gradient checks, and one image or one weight in a whole network.
//! - [`evaluation`]: accuracy, confusion and calibration of a classifier, and the comparison of two.
//! - [`artifact`]: networks as bytes: safetensors, and ONNX for other programs.
//! - [`fields`]: JSON requests, parsed field by field, with every error reported.
//!
//! # Comparison
//!
//! PyTorch, candle and burn train any network on any device. This crate trains small dense and convolutional
//! classifiers on a CPU only, but several times as fast. `BENCHMARKS.md` in the repository contains the figures and
//! describes how they were measured. Each layer has its derivative as a formula next to its forward pass. Elementary
//! operations are not recorded and differentiated automatically. The code therefore reads like a textbook, but it can't
//! differentiate a layer that it doesn't know.

pub use {ndarray, serde_json};

pub mod artifact;
pub mod data;
pub mod evaluation;
pub mod fields;
pub mod graph;
pub mod lab;
pub mod nn;
pub mod train;

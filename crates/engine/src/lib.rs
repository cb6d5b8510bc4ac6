//! Backpropagation for small image classifiers: exact, fast on a CPU, and open to be looked into.
//!
//! This is the engine of the chainrule server, and it needs nothing of it: no async runtime, no database, no file and no clock.
//! Arrays go in, arrays come out. The same request and the same data give the same bytes of weights at any number of threads.
//!
//! Training a network on the built-in MNIST and reading a digit with it:
//!
//! ```
//! use chainrule_engine::data::{self, mnist};
//! use chainrule_engine::nn::{Pool, Predictor, argmax};
//! use chainrule_engine::train::{Outcome, SpecLimits, TrainState, parse, run};
//!
//! let request = serde_json::json!({ "network": "mlp", "epochs": 1, "train_samples": 6_000 });
//! let spec = parse(&request, &data::shapes(), &SpecLimits::default()).expect("a valid request");
//! let mnist = mnist::dataset();
//! let outcome = run(&spec, &mnist, TrainState::new(&spec, mnist.shape().input)?, &Pool::new(2), &mut ())?;
//! let Outcome::Finished { state, test } = outcome else { unreachable!("nobody stops it") };
//! assert!(test.accuracy > 0.9);
//!
//! let pixels = mnist.test.images().row(0).mapv(|pixel| f32::from(pixel) / 255.0);
//! let probabilities = Predictor::new(state.network).probabilities(pixels.insert_axis(ndarray::Axis(0)).view());
//! assert_eq!(argmax(probabilities.iter()), 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rooms
//!
//! - [`nn`]: layers with their gradients, losses, initialisers, optimisers, schedules, and the kernels below them.
//! - [`graph`]: the chain rule on scalar expressions, as text, SVG and DOT.
//! - [`data`]: bytes to arrays: IDX, pictures, MNIST, seeded order and augmentation.
//! - [`train`]: a checked request, its cost, and the training loop as one function.
//! - [`lab`]: a look into backpropagation: gradient checks, one image or one weight in a whole network.
//! - [`artifact`]: a network as bytes (safetensors).
//! - [`fields`]: a request in JSON, read field by field with every fault reported.
//!
//! # How it compares
//!
//! PyTorch, candle and burn train any network on any device. This crate trains small dense and convolutional classifiers on a
//! CPU, and does that several times as fast as they do; `BENCHMARKS.md` of the repository has the figures and how they were
//! measured. It differentiates whole layers by formulas that stand beside the forward pass, not by a tape of operations, so
//! the code reads like the textbook; what it can't do is differentiate a layer that it does not know.

pub mod artifact;
pub mod data;
pub mod fields;
pub mod graph;
pub mod lab;
pub mod nn;
pub mod train;

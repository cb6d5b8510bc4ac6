//! The Open Inference Protocol v2, whatever carries it: tensors, their conversion to images, the tensors of a response,
//! and errors. The types have the fields of the protocol's messages
//! (<https://github.com/kserve/open-inference-protocol>). An adapter translates them to its transport.
//!
//! Each model takes one input, [`INPUT`], and has two outputs, [`PROBABILITIES`] and [`LABEL`].

mod answer;
mod check;
mod datatype;
mod error;
mod flat;
mod images;
mod interface;
mod pictures;
mod tensor;
#[cfg(test)]
mod tests;

pub use self::answer::{InferResponse, OutputTensor, Values, answer, byte_elements};
pub use self::check::{InferLimits, Inference, Output, check};
pub use self::datatype::Datatype;
pub use self::error::InferError;
pub use self::images::{ImageTensor, ReadyImages};
pub use self::interface::{Interface, TensorMetadata};
pub use self::tensor::{Contents, InferInput, InferRequest, Parameter, Parameters, RequestedOutput};

/// The name of every model's input: one image, or several.
pub const INPUT: &str = "image";

/// The output with the probability of each class.
pub const PROBABILITIES: &str = "probabilities";

/// The output with the number of the most probable class.
pub const LABEL: &str = "label";

/// The platform of every model, as `project_format`.
pub const PLATFORM: &str = "chainrule_safetensors";

/// The extensions of the protocol that the server has.
pub const EXTENSIONS: [&str; 6] = [
    "classification",
    "model_repository",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
];

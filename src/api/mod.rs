//! The types of requests and responses of the API with their OpenAPI schemas, one file per resource. They are separate
//! from the domain types and from the types of the rows, so a field can be renamed in one place without a change in the
//! others.

mod activation;
mod card;
mod dataset;
mod evaluation;
mod graph;
mod history;
mod image;
mod inference;
mod inside;
mod job;
mod model;
mod network;
mod operating;
mod prediction;
mod problem;
mod single_layer;
mod spec;
mod train_request;

pub use activation::{Activation, ActivationCurve, ActivationList, CurvePoint, Saturation};
pub use card::ModelCard;
pub use dataset::{Dataset, DatasetEntry, DatasetList, Example, Split, SplitCounts, Splits};
pub use evaluation::{
    AccuracyInterval, AllReadings, Calibration, CalibrationBin, ClassFigures, ComparedModel, ComparedReading,
    Comparison, ConfidentlyWrong, Difference, Evaluation, EvaluationRequest, McNemar, Reading,
};
pub use graph::{Graph, GraphNode, GraphOperation, GraphPath, GraphRequest, GraphStep};
pub use history::{Epoch, Finding, JobHistory, LayerMetrics, StateEvent, Step};
pub use image::{Image, Picture, PicturesRequest, Pixels, Scale, example as example_image, example_bytes};
pub use inference::{
    IndexEntry, IndexRequest, InferRequest, InferResponse, InferenceError, ModelConfig, ModelMetadata,
    ModelReady, ModelStatistics, RepositoryRequest, ServerLive, ServerMetadata, ServerReady, StatisticsList,
    Tensors, example as example_inference,
};
pub use inside::{
    About, ArrayFigures, Completeness, ExampleRequest, Explanation, Explanations, Histogram, LayerTrace,
    LayerWeights, Microscope, MicroscopeRequest, ParameterIndex, ParameterName, PathStep, PathTrace, Term,
    Trace, TraceRequest,
};
pub use job::{
    Checkpoint, CheckpointList, Job, JobError, JobList, JobMetrics, JobResult, JobState, Progress, StepMemory,
};
pub use model::{AliasRequest, Model, ModelEntry, ModelList, ModelVersion, NetworkFile};
pub use network::{
    GradientCheck, GradientCheckRequest, LayerCheck, LayerSummary, Network, NetworkList, NetworkSummary,
    SummaryRequest, WorstParameter,
};
pub use operating::{Health, Ready};
pub use prediction::{ImagesRequest, Prediction, Predictions};
pub use problem::{Code, Fault, Problem};
pub use single_layer::{
    Affine, AffineRequest, AffineShapes, Border, Convolution, ConvolutionRequest, SoftmaxCrossEntropy,
    SoftmaxRequest, Target, Tensor,
};
pub use spec::{
    Augment, CheckpointSpec, EarlyStopping, Elastic, Init, Layer, Loss, NetworkSpec, Optimizer, Padding,
    Schedule, TrainSpec,
};
pub use train_request::{
    AugmentRequest, CheckpointRequest, EarlyStoppingRequest, ElasticRequest, JobRequest, LayerRequest,
    LayersRequest, NetworkChoice, OptimizerKind, OptimizerRequest, Preset, ScheduleKind, ScheduleRequest,
};

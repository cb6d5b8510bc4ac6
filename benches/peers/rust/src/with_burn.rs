use anyhow::Result;
use burn::module::Module;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Linear, LinearConfig, Relu};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::mnist::{PIXELS, Split};
use crate::train::{self, CLASSES, HIDDEN, LEARNING_RATE};

#[derive(Module, Debug)]
struct Network {
    hidden: Linear,
    relu: Relu,
    output: Linear,
}

impl Network {
    fn scores(&self, images: Tensor<2>) -> Tensor<2> {
        self.output.forward(self.relu.forward(self.hidden.forward(images)))
    }
}

pub struct Training {
    device: Device,
    images: Tensor<2>,
    labels: Tensor<1, Int>,
    test: Split,
    /// `None` only within a step, which takes the network and puts it back.
    network: Option<Network>,
    loss: CrossEntropyLoss,
    optimizer: ModuleOptimizer,
}

impl Training {
    pub fn new(train: Split, test: Split) -> Self {
        let device = Device::flex().autodiff();
        let network = Network {
            hidden: LinearConfig::new(PIXELS, HIDDEN).init(&device),
            relu: Relu::new(),
            output: LinearConfig::new(HIDDEN, CLASSES).init(&device),
        };
        let labels: Vec<i64> = train.labels.iter().map(|&label| label.into()).collect();
        Self {
            images: matrix(train.images, &device),
            labels: vector(labels, &device),
            test,
            network: Some(network),
            loss: CrossEntropyLossConfig::new().init(&device),
            optimizer: SgdConfig::new().init(),
            device,
        }
    }

    fn network(&self) -> &Network {
        self.network.as_ref().expect("a network between two steps")
    }
}

impl train::Training for Training {
    fn step(&mut self, rows: &[u32]) -> Result<()> {
        let rows = vector(rows.iter().map(|&row| row.into()).collect(), &self.device);
        let scores = self.network().scores(self.images.clone().select(0, rows.clone()));
        let loss = self.loss.forward(scores, self.labels.clone().select(0, rows));
        let gradients = GradientsParams::from_grads(loss.backward(), self.network());
        self.network =
            self.network.take().map(|network| self.optimizer.step(LEARNING_RATE, network, gradients));
        Ok(())
    }

    fn test_accuracy(&self) -> Result<f64> {
        let labels: Vec<i64> = self.test.labels.iter().map(|&label| label.into()).collect();
        let count = labels.len();
        let answers = self.network().scores(matrix(self.test.images.clone(), &self.device)).argmax(1);
        let right = answers.squeeze_dim::<1>(1).equal(vector(labels, &self.device)).int().sum();
        Ok(right.into_scalar::<i64>() as f64 / count as f64)
    }
}

fn matrix(images: Vec<f32>, device: &Device) -> Tensor<2> {
    let shape = [images.len() / PIXELS, PIXELS];
    Tensor::from_data(TensorData::new(images, shape), device)
}

fn vector(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

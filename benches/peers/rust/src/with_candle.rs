use anyhow::Result;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Linear, Module, Optimizer, SGD, VarBuilder, VarMap, linear, loss};

use crate::mnist::{PIXELS, Split};
use crate::train::{self, CLASSES, HIDDEN, LEARNING_RATE};

pub struct Training {
    images: Tensor,
    labels: Tensor,
    test: Split,
    hidden: Linear,
    output: Linear,
    optimizer: SGD,
}

impl Training {
    pub fn new(train: Split, test: Split) -> Result<Self> {
        let variables = VarMap::new();
        let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let labels: Vec<u32> = train.labels.iter().map(|&label| label.into()).collect();
        Ok(Self {
            images: matrix(train.images)?,
            labels: Tensor::new(labels, &Device::Cpu)?,
            test,
            hidden: linear(PIXELS, HIDDEN, builder.pp("hidden"))?,
            output: linear(HIDDEN, CLASSES, builder.pp("output"))?,
            optimizer: SGD::new(variables.all_vars(), LEARNING_RATE)?,
        })
    }

    fn scores(&self, images: &Tensor) -> Result<Tensor> {
        Ok(self.output.forward(&self.hidden.forward(images)?.relu()?)?)
    }
}

impl train::Training for Training {
    fn step(&mut self, rows: &[u32]) -> Result<()> {
        let rows = Tensor::new(rows, &Device::Cpu)?;
        let scores = self.scores(&self.images.index_select(&rows, 0)?)?;
        let loss = loss::cross_entropy(&scores, &self.labels.index_select(&rows, 0)?)?;
        Ok(self.optimizer.backward_step(&loss)?)
    }

    fn test_accuracy(&self) -> Result<f64> {
        let scores = self.scores(&matrix(self.test.images.clone())?)?;
        let answers = scores.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let labels = self.test.labels.iter().map(|&label| u32::from(label));
        let right = answers.iter().zip(labels).filter(|&(&answer, label)| answer == label).count();
        Ok(right as f64 / answers.len() as f64)
    }
}

fn matrix(images: Vec<f32>) -> Result<Tensor> {
    let shape = (images.len() / PIXELS, PIXELS);
    Ok(Tensor::from_vec(images, shape, &Device::Cpu)?)
}

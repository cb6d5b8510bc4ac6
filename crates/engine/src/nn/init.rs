use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Normal};
use serde::{Deserialize, Serialize};

use super::Float;

/// Initialisation of the weights of a layer. Biases are initialised with 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Normal with deviation `√(2 / fan_in)`, for relu (He et al., *Delving Deep into Rectifiers*, 2015).
    He,
    /// Normal with deviation `√(2 / (fan_in + fan_out))`, for sigmoid and tanh (Glorot, Bengio,
    /// *Understanding the difficulty of training deep feedforward neural networks*, 2010).
    Xavier,
    /// Normal with deviation 0.01.
    Normal,
}

impl Init {
    /// Draws a weight of this shape. Each output of the layer sums `fan_in` inputs, and each input contributes to
    /// `fan_out` outputs. The random numbers depend only on `seed` and the index of the layer.
    pub fn weight<T: Float>(
        self,
        fan_in: usize,
        fan_out: usize,
        shape: [usize; 2],
        seed: u64,
        layer: usize,
    ) -> Array2<T> {
        let deviation = match self {
            Self::He => (2.0 / fan_in as f64).sqrt(),
            Self::Xavier => (2.0 / (fan_in + fan_out) as f64).sqrt(),
            Self::Normal => 0.01,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(layer as u64);
        let normal = Normal::new(0.0, deviation).unwrap_or_else(|_| unreachable!("the deviation is finite"));
        Array2::from_shape_simple_fn(shape, || T::of(normal.sample(&mut rng)))
    }
}

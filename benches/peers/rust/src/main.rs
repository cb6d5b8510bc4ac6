//! How fast chainrule's rivals in Rust are, and what tract reads in the test images. Prints one JSON line.
//!
//!     cargo build --release
//!     target/release/peers train candle --data ../../../data/mnist --steps 600 --passes 5
//!     target/release/peers predict --model 784-128-10.onnx --data ../../../data/mnist
//!
//! `RAYON_NUM_THREADS` sets the number of threads of candle and burn.

mod mnist;
mod train;
mod with_burn;
mod with_candle;
mod with_tract;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::mnist::Split;

#[derive(Parser)]
enum Command {
    /// Trains 784-128-10 with batches of 100 and SGD, and prints images per second and the accuracy on the
    /// test images
    Train {
        rival: Rival,
        /// Folder of the gzipped IDX files.
        #[arg(long)]
        data: PathBuf,
        /// Batches per pass over the images; each pass has a new order
        #[arg(long)]
        steps: usize,
        /// Timed passes, after one without the clock
        #[arg(long)]
        passes: usize,
    },
    /// Predicts with tract, and prints images per second for 1 and for 256 at a time
    Predict {
        /// The network as ONNX; its input is `batch` x 784
        #[arg(long)]
        model: PathBuf,
        /// Folder of the gzipped IDX files.
        #[arg(long)]
        data: PathBuf,
    },
    /// Reads the test images with tract, and writes the probabilities as 32-bit floats
    Probabilities {
        /// The network as ONNX, as chainrule exports it
        #[arg(long)]
        model: PathBuf,
        /// Folder of the gzipped IDX files.
        #[arg(long)]
        data: PathBuf,
        /// The file to write
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Rival {
    Burn,
    Candle,
}

fn main() -> Result<()> {
    let answer = match Command::parse() {
        Command::Train { rival, data, steps, passes } => {
            let (train, test) = (Split::read(&data, "train")?, Split::read(&data, "t10k")?);
            let count = train.labels.len();
            match rival {
                Rival::Burn => train::measure(with_burn::Training::new(train, test), count, steps, passes)?,
                Rival::Candle => {
                    train::measure(with_candle::Training::new(train, test)?, count, steps, passes)?
                }
            }
        }
        Command::Predict { model, data } => with_tract::measure(&model, &Split::read(&data, "t10k")?)?,
        Command::Probabilities { model, data, out } => {
            with_tract::probabilities(&model, &Split::read(&data, "t10k")?, &out)?
        }
    };
    println!("{answer}");
    Ok(())
}

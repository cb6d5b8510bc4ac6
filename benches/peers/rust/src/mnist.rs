//! MNIST from its gzipped IDX files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;

pub const PIXELS: usize = 784;
const IMAGE_HEADER_BYTES: usize = 16;
const LABEL_HEADER_BYTES: usize = 8;

pub struct Split {
    /// Row by row, from 0 to 1.
    pub images: Vec<f32>,
    pub labels: Vec<u8>,
}

impl Split {
    /// `train` or `t10k`.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let images = unpacked(&folder.join(format!("{name}-images-idx3-ubyte.gz")))?;
        let labels = unpacked(&folder.join(format!("{name}-labels-idx1-ubyte.gz")))?;
        Ok(Self {
            images: images[IMAGE_HEADER_BYTES..].iter().map(|&pixel| f32::from(pixel) / 255.0).collect(),
            labels: labels[LABEL_HEADER_BYTES..].to_vec(),
        })
    }
}

fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes)?;
    Ok(bytes)
}

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use tract_onnx::prelude::*;

use crate::mnist::{PIXELS, Split};

const TIMED: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(200);

/// Images per second on one thread, one at a time and 256 at a time.
pub fn measure(model: &Path, test: &Split) -> Result<Value> {
    Ok(json!({"images_per_second": {"1": rate(model, test, 1)?, "256": rate(model, test, 256)?}}))
}

const BATCH: usize = 500;
const SIDE: usize = 28;

/// Writes the probabilities of the test images, as the file that chainrule exports gives them.
pub fn probabilities(model: &Path, test: &Split, out: &Path) -> Result<Value> {
    let plan = tract_onnx::onnx()
        .model_for_path(model)?
        .with_input_fact(0, u8::fact([BATCH, SIDE, SIDE]).into())?
        .into_optimized()?
        .into_runnable()?;
    let pixels: Vec<u8> = test.images.iter().map(|pixel| (pixel * 255.0).round() as u8).collect();
    let mut bytes = Vec::new();
    for batch in pixels.chunks_exact(BATCH * PIXELS) {
        let images: TValue = Tensor::from_shape(&[BATCH, SIDE, SIDE], batch)?.into();
        let outputs = plan.run(tvec!(images))?;
        let values = outputs[0].try_as_plain()?.to_array_view::<f32>()?;
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    std::fs::write(out, &bytes)?;
    Ok(json!({"bytes": bytes.len()}))
}

fn rate(model: &Path, test: &Split, batch: usize) -> Result<f64> {
    let plan = tract_onnx::onnx()
        .model_for_path(model)?
        .with_input_fact(0, f32::fact([batch, PIXELS]).into())?
        .into_optimized()?
        .into_runnable()?;
    let mut state = plan.spawn()?;
    let images: TValue = Tensor::from_shape(&[batch, PIXELS], &test.images[..batch * PIXELS])?.into();
    let mut calls_per_second = |duration: Duration| -> Result<f64> {
        let (begin, mut calls) = (Instant::now(), 0);
        while begin.elapsed() < duration {
            black_box(state.run(tvec!(images.clone()))?);
            calls += 1;
        }
        Ok(f64::from(calls) / begin.elapsed().as_secs_f64())
    };
    calls_per_second(WARM_UP)?;
    Ok(calls_per_second(TIMED)? * batch as f64)
}

use serde::{Deserialize, Serialize};

use super::spec::Layer1;
use super::{Column, Stored, meaning};
use crate::nn::LayerSpec;

/// The layers of a model. In format 1 they are a bare list.
impl Column for Vec<LayerSpec> {
    const NAME: &'static str = "layers";
    const FORMAT: u32 = 2;

    fn read(format: u32, text: &str) -> Option<serde_json::Result<Self>> {
        match format {
            1 => Some(meaning::<Vec<Layer1>>(text)),
            2 => Some(serde_json::from_str(text).map(|Layers2 { layers }| layers.meaning())),
            _ => None,
        }
    }

    fn stored(&self) -> impl Serialize {
        Layers2 { layers: Stored::of(self) }
    }
}

#[derive(Serialize, Deserialize)]
struct Layers2 {
    layers: Vec<Layer1>,
}

/// The names of a model's classes. In format 1 they are a bare list.
impl Column for Vec<String> {
    const NAME: &'static str = "classes";
    const FORMAT: u32 = 2;

    fn read(format: u32, text: &str) -> Option<serde_json::Result<Self>> {
        match format {
            1 => Some(serde_json::from_str(text)),
            2 => Some(serde_json::from_str(text).map(|Classes2 { classes }| classes)),
            _ => None,
        }
    }

    fn stored(&self) -> impl Serialize {
        Classes2 { classes: self.clone() }
    }
}

#[derive(Serialize, Deserialize)]
struct Classes2 {
    classes: Vec<String>,
}

use ndarray::Array1;
use serde::Serialize;
use serde_json::Value;

use super::price::{AnswerCost, LayerNumbers, Passes, Question, padded};
use super::request::{finite, shaped};
use super::tensor::{Tensor, shape_text};
use crate::fields::{Fault, Fields, parsed};
use crate::nn::{Dense, Init, LayerSpec, Shape};

/// The affine layer `y = x · w + b` on a few numbers, forward and backward.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Affine {
    /// `x · w + b`.
    pub y: Tensor,
    /// `dy · wᵀ`. Absent without `dy`.
    pub dx: Option<Tensor>,
    /// `xᵀ · dy`. Absent without `dy`.
    pub dw: Option<Tensor>,
    /// `dy` summed over the batch. Absent without `dy` or a bias.
    pub db: Option<Tensor>,
    /// The shape of each tensor.
    pub shapes: AffineShapes,
    /// The formula of each product, with the shapes of its factors.
    pub products: Vec<String>,
}

/// The shapes of an affine layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "each is the shape of the tensor with its name")]
pub struct AffineShapes {
    pub x: Vec<usize>,
    pub w: Vec<usize>,
    pub b: Option<Vec<usize>>,
    pub y: Vec<usize>,
    pub dy: Option<Vec<usize>>,
    pub dx: Option<Vec<usize>>,
    pub dw: Option<Vec<usize>>,
    pub db: Option<Vec<usize>>,
}

/// A request for an affine layer, with x (n,) or (N, n), w (n, m), b (m,), and dy in the shape of y.
#[derive(Clone, Debug, PartialEq)]
pub struct AffineRequest {
    x: Tensor,
    w: Tensor,
    b: Option<Tensor>,
    dy: Option<Tensor>,
}

impl AffineRequest {
    fn take(mut fields: Fields) -> Option<Self> {
        let x = Tensor::required(&mut fields, "x", &[1, 2]);
        let w = Tensor::required(&mut fields, "w", &[2]);
        let b = Tensor::take(&mut fields, "b", &[1]);
        let dy = Tensor::take(&mut fields, "dy", &[1, 2]);
        fields.refuse_unknown();
        let (x, w) = (x?, w?);
        let inputs = x.shape[x.shape.len() - 1];
        if w.shape[0] != inputs {
            fields.fault(
                "w",
                format!(
                    "x of shape {x} does not fit w of shape {w}: {inputs} columns of x and {} rows of w",
                    w.shape[0]
                ),
            );
            return None;
        }
        let mut y = x.shape.clone();
        y[x.shape.len() - 1] = w.shape[1];
        if let Some(b) = &b {
            shaped(&mut fields, "b", b, &w.shape[1..]);
        }
        if let Some(dy) = &dy {
            shaped(&mut fields, "dy", dy, &y);
        }
        Some(Self { x, w, b, dy })
    }
}

impl AffineRequest {
    /// Parses a request.
    ///
    /// # Errors
    /// Every fault of the request. If shapes don't match, the message gives both.
    pub fn parse(request: &Value) -> Result<Self, Vec<Fault>> {
        parsed(request, Self::take)
    }
}

impl Question for AffineRequest {
    type Answer = Affine;

    fn cost(&self) -> AnswerCost {
        let Self { x, w, dy, .. } = self;
        let (inputs, units) = (w.shape[0], w.shape[1]);
        let rows = x.values.len() / inputs;
        let [x, w, y] = [rows * inputs, inputs * units, rows * units].map(|length| length as f64);
        let (padded_x, packed_dy, is_backward) = (0.0, padded(rows, units), dy.is_some());
        let numbers = LayerNumbers { rows, x, w, y, padded_x, packed_dy, is_backward };
        let layer = LayerSpec::Dense { units, init: Init::Normal };
        Passes::of(Shape::vector(inputs), &[layer]).of_single_layer(&numbers)
    }

    fn answer(self) -> Result<Affine, Vec<Fault>> {
        let Self { x, w, b, dy } = self;
        let (inputs, units) = (w.shape[0], w.shape[1]);
        let bias = b.as_ref().map_or_else(|| Array1::zeros(units), |b| Array1::from(b.values.clone()));
        let layer = Dense { weight: w.matrix(units), bias };
        let rows = x.matrix(inputs);
        let mut y_shape = x.shape.clone();
        y_shape[x.shape.len() - 1] = units;
        let y = Tensor::of(&y_shape, layer.forward(rows.view()));
        finite("y", &y)?;
        let backward = dy.as_ref().map(|dy| {
            let (dx, dw, db) = layer.backward(rows.view(), dy.matrix(units).view());
            [Tensor::of(&x.shape, dx), Tensor::of(&w.shape, dw), Tensor::of(&[units], db)]
        });
        for (name, tensor) in ["dx", "dw", "db"].into_iter().zip(backward.iter().flatten()) {
            finite(name, tensor)?;
        }
        let (dx, dw, db) = match backward {
            Some([dx, dw, db]) => (Some(dx), Some(dw), b.as_ref().map(|_| db)),
            None => (None, None, None),
        };
        let shape = |tensor: &Option<Tensor>| tensor.as_ref().map(|tensor| tensor.shape.clone());
        Ok(Affine {
            products: products(&x, &w, b.as_ref(), &y, dy.as_ref()),
            shapes: AffineShapes {
                x: x.shape,
                w: w.shape,
                b: shape(&b),
                y: y.shape.clone(),
                dy: shape(&dy),
                dx: shape(&dx),
                dw: shape(&dw),
                db: shape(&db),
            },
            y,
            dx,
            dw,
            db,
        })
    }
}

/// Lines such as `y = x·w + b: (2,)·(2, 3) + (3,) = (3,)`.
fn products(x: &Tensor, w: &Tensor, b: Option<&Tensor>, y: &Tensor, dy: Option<&Tensor>) -> Vec<String> {
    let is_batch = x.shape.len() == 2;
    let mut products = vec![match b {
        Some(b) => format!("y = x·w + b: {x}·{w} + {b} = {y}"),
        None => format!("y = x·w: {x}·{w} = {y}"),
    }];
    if let Some(dy) = dy {
        let transposed = |tensor: &Tensor| {
            let mut shape = tensor.shape.clone();
            shape.reverse();
            shape_text(&shape)
        };
        // A vector is a single row, so its transpose is a column.
        let (column, row) = match is_batch {
            true => (transposed(x), dy.to_string()),
            false => (format!("({}, 1)", x.shape[0]), format!("(1, {})", dy.shape[0])),
        };
        products.push(format!("dx = dy·wᵀ: {dy}·{} = {x}", transposed(w)));
        products.push(format!("dw = xᵀ·dy: {column}·{row} = {w}"));
        if let Some(b) = b {
            products.push(match is_batch {
                true => format!("db = Σ dy over the batch: Σ {dy} = {b}"),
                false => format!("db = dy: {dy} = {b}"),
            });
        }
    }
    products
}

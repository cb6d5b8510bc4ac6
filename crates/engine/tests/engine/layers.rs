//! The backward pass of each public layer, compared with numerical differentiation of its forward pass.

use chainrule_engine::nn::{
    Activation, BatchNorm, Conv2d, Dense, Draw, Dropout, Flatten, Padding, Pooling, PoolingKind, Shape,
    Window,
};
use ndarray::{Array, Array1, Array2, Dimension};

const STEP: f64 = 1e-5;

/// Different numbers between −1 and 1, none of them close to 0.
fn numbers<D: Dimension>(shape: impl ndarray::ShapeBuilder<Dim = D>, seed: usize) -> Array<f64, D> {
    let mut place = seed;
    Array::from_shape_simple_fn(shape, || {
        place += 1;
        let size = 0.05 + (place * 37 % 101) as f64 / 110.0;
        if place.is_multiple_of(3) { -size } else { size }
    })
}

/// Checks that `gradient` is the derivative of `Σ dy ⊙ y(value)` with respect to each element of `value`.
fn assert_gradient<D: Dimension>(
    name: &str,
    value: &Array<f64, D>,
    dy: &Array2<f64>,
    gradient: &Array<f64, D>,
    y: impl Fn(&Array<f64, D>) -> Array2<f64>,
) {
    assert_eq!(value.raw_dim(), gradient.raw_dim(), "{name}");
    for (place, &found) in gradient.iter().enumerate() {
        let moved = |step: f64| {
            let mut value = value.clone();
            *value.iter_mut().nth(place).expect("an element") += step;
            (y(&value) * dy).sum()
        };
        let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        assert!((found - expected).abs() < 1e-6, "{name}[{place}]: {found} and {expected}");
    }
}

#[test]
fn a_dense_layer() {
    let (x, dy) = (numbers((3, 4), 1), numbers((3, 2), 2));
    let (weight, bias): (Array2<f64>, Array1<f64>) = (numbers((4, 2), 3), numbers(2, 4));
    let layer = Dense { weight, bias };
    let (dx, dweight, dbias) = layer.backward(x.view(), dy.view());
    assert_gradient("dx", &x, &dy, &dx, |x| layer.forward(x.view()));
    let with = |weight: &Array2<f64>, bias: &Array1<f64>| {
        Dense { weight: weight.clone(), bias: bias.clone() }.forward(x.view())
    };
    assert_gradient("dW", &layer.weight, &dy, &dweight, |weight| with(weight, &layer.bias));
    assert_gradient("db", &layer.bias, &dy, &dbias, |bias| with(&layer.weight, bias));
}

#[test]
fn a_convolution() {
    let image = Shape { height: 5, width: 4, channels: 2 };
    for (padding, stride) in [(Padding::Valid, 1), (Padding::Same, 1), (Padding::Same, 2)] {
        let window = Window::new(image, 3, stride, padding).expect("a window that fits");
        let layer = Conv2d::new(numbers((18, 3), 1), numbers(3, 2), window);
        let x = numbers((2, image.len()), 3);
        let dy = numbers((2, layer.output().len()), 4);
        let (dx, dweight, dbias) = layer.backward(x.view(), dy.view());
        assert_gradient("dx", &x, &dy, &dx, |x| layer.forward(x.view()));
        let with = |weight: &Array2<f64>, bias: &Array1<f64>| {
            Conv2d::new(weight.clone(), bias.clone(), window).forward(x.view())
        };
        assert_gradient("dW", &layer.weight, &dy, &dweight, |weight| with(weight, &layer.bias));
        assert_gradient("db", &layer.bias, &dy, &dbias, |bias| with(&layer.weight, bias));
    }
}

#[test]
fn a_normalisation_in_training_and_at_inference() {
    let layer = BatchNorm {
        weight: numbers((1, 2), 1),
        bias: numbers(2, 2),
        running_mean: numbers(2, 3),
        running_var: numbers(2, 4).mapv(f64::abs),
    };
    // Three images of two pixels and two channels.
    let (x, dy) = (numbers((3, 4), 5), numbers((3, 4), 6));
    for is_training in [true, false] {
        let forward = |layer: &BatchNorm<f64>, x: &Array2<f64>| match is_training {
            true => layer.forward_training(x.view()),
            false => layer.forward(x.view()),
        };
        let (dx, dweight, dbias) = match is_training {
            true => layer.backward_training(x.view(), dy.view()),
            false => layer.backward(x.view(), dy.view()),
        };
        assert_gradient("dx", &x, &dy, &dx, |x| forward(&layer, x));
        let with = |weight: &Array2<f64>, bias: &Array1<f64>| {
            forward(&BatchNorm { weight: weight.clone(), bias: bias.clone(), ..layer.clone() }, &x)
        };
        assert_gradient("dγ", &layer.weight, &dy, &dweight, |weight| with(weight, &layer.bias));
        assert_gradient("dβ", &layer.bias, &dy, &dbias, |bias| with(&layer.weight, bias));
    }
}

#[test]
fn layers_without_parameters() {
    let image = Shape { height: 5, width: 4, channels: 2 };
    let x = numbers((2, image.len()), 1);
    for kind in [PoolingKind::Max, PoolingKind::Average] {
        let layer = Pooling::new(kind, image, 2).expect("a square that fits");
        let dy = numbers((2, layer.output().len()), 2);
        assert_gradient("dx", &x, &dy, &layer.backward(x.view(), dy.view()), |x| layer.forward(x.view()));
    }
    let dy = numbers(x.raw_dim(), 3);
    let (layer, draw, examples) = (Dropout { rate: 0.4 }, Draw { seed: 5, epoch: 1 }, [7, 9]);
    let dx = layer.backward_training(draw, 2, &examples, dy.view());
    assert!(dx.iter().any(|&dx| dx == 0.0) && dx.iter().any(|&dx| dx != 0.0));
    assert_gradient("dx", &x, &dy, &dx, |x| layer.forward_training(draw, 2, &examples, x.view()));
    assert_gradient("dx", &x, &dy, &layer.backward(dy.view()), |x| layer.forward(x.view()));
    assert_gradient("dx", &x, &dy, &Flatten.backward(dy.view()), |x| Flatten.forward(x.view()));
    for activation in Activation::ALL {
        let dx = activation.backward(x.view(), dy.view());
        assert_gradient(activation.name(), &x, &dy, &dx, |x| activation.forward(x.view()));
    }
}

/// A gradient with one element off is found.
#[test]
#[should_panic(expected = "dx[0]")]
fn a_wrong_gradient_fails() {
    let (x, dy) = (numbers((1, 2), 1), numbers((1, 2), 2));
    let mut dx = Flatten.backward(dy.view());
    dx[[0, 0]] += 1e-3;
    assert_gradient("dx", &x, &dy, &dx, |x| Flatten.forward(x.view()));
}

use super::Workspace;
use crate::nn::kernel::Panels;
use crate::nn::operation::Operation;
use crate::nn::{Init, LayerSpec, Network, Padding, Plan, Shape};

/// The packed weight of an operation in all its layouts. Empty for a sparse layer, whose weight is unpacked instead.
fn packed(operation: &Operation<f64>) -> (Vec<&Panels<f64>>, &[f64]) {
    match operation {
        Operation::Dense(dense) => {
            (std::iter::once(&dense.packed.weight).chain(&dense.packed.transposed).collect(), &[])
        }
        Operation::Conv2d(conv) => {
            let transposed = conv.packed.transposed.iter().flatten();
            (std::iter::once(&conv.packed.weight).chain(transposed).collect(), &[])
        }
        Operation::ConvPool(conv_pool) => {
            (vec![&conv_pool.weight], conv_pool.by_filter.as_deref().unwrap_or_default())
        }
        Operation::SparseDense(_) | Operation::BatchNorm(_) | Operation::Dropout(_) => (Vec::new(), &[]),
        Operation::Relu(_) | Operation::Single(_) => (Vec::new(), &[]),
    }
}

/// Checks every layout, since a numerical derivative must perturb exactly the intended weight.
#[test]
fn a_weight_that_is_packed_alone_lies_where_packing_all_puts_it() {
    let dense = |units| LayerSpec::Dense { units, init: Init::He };
    let conv = LayerSpec::Conv2d { filters: 5, kernel: 3, padding: Padding::Same, stride: 1, init: Init::He };
    let pool = LayerSpec::MaxPool2d { size: 2 };
    let fused = [conv, LayerSpec::Relu, pool, conv, LayerSpec::Relu, pool, dense(3)];
    let plain = [conv, LayerSpec::BatchNorm, conv, dense(40), dense(3)];
    let lists = [dense(70), LayerSpec::Relu, dense(3)];
    let image = Shape { height: 8, width: 8, channels: 2 };
    // In the last case the first layer is sparse.
    for (input, layers, nonzero) in [
        (image, &fused[..], 1.0),
        (image, &plain, 1.0),
        (Shape::vector(50), &lists, 1.0),
        (Shape::vector(50), &lists, 0.1),
    ] {
        let mut network = Network::<f64>::new(input, layers, 4).expect("layers that fit");
        let plan = Plan::new(&network.kinds(), network.shapes(), 4, nonzero);
        let mut workspace = Workspace::planned(&network, plan.clone());
        workspace.pack(&network);
        for index in 0..layers.len() {
            let Some((weight, _)) = network.layers()[index].parameters() else { continue };
            let (rows, columns) = weight.dim();
            for (row, column) in [(0, 0), (rows - 1, columns - 1), (rows / 2, columns / 3)] {
                let (weight, _) = network.layers_mut()[index].parameters_mut().expect("parameters");
                weight[[row, column]] += 1.5;
                workspace.pack_one(&network, index, row, column);
                let mut whole = Workspace::planned(&network, plan.clone());
                whole.pack(&network);
                for (found, expected) in workspace.operations.iter().zip(&whole.operations) {
                    let is_same = packed(found) == packed(expected);
                    assert!(is_same, "[{row}, {column}] of layer {index} of {layers:?}");
                }
                let mut unpacked = network.clone();
                workspace.unpack(&mut unpacked);
                assert!(unpacked == network, "[{row}, {column}] of layer {index} of {layers:?}");
            }
        }
    }
}

//! The data that the kernels read begins at a cache line, wherever the allocator places it.

use chainrule_engine::nn::testing::{Aligned, PANEL, Panels};
use chainrule_engine::nn::{Float, Init, LayerSpec, Network, Optimizer, OptimizerSpec, Shape};

/// Bytes of a cache line.
const LINE: usize = 64;

fn offset<T>(numbers: &[T]) -> usize {
    numbers.as_ptr().addr() % LINE
}

fn check<T: Float>() {
    let lists: Vec<Aligned<T>> = (1..200).map(Aligned::zeros).collect();
    assert!(lists.iter().all(|list| offset(list) == 0));
    let copies = lists.clone();
    assert!(copies.iter().all(|list| offset(list) == 0));
    for (rows, columns) in [(1, 1), (3, 40), (25, 16), (784, 10)] {
        let mut panels: Vec<Panels<T>> = (0..10).map(|_| Panels::zeros(rows, columns)).collect();
        for panels in &mut panels {
            let numbers = panels.values_mut();
            assert_eq!(offset(numbers), 0, "{rows}×{columns}");
            // So does each row of each panel in `f32`, which is two lines.
            assert_eq!(numbers.len() % PANEL, 0);
        }
    }
    let dense = |units| LayerSpec::Dense { units, init: Init::He };
    let network = Network::<T>::new(Shape::vector(7), &[dense(5), LayerSpec::Relu, dense(3)], 1);
    let network = network.expect("layers that fit");
    for rule in OptimizerSpec::NAMES {
        let mut optimizer = Optimizer::new(OptimizerSpec::named(rule).expect("a rule"), &network);
        let state =
            optimizer.state().iter().map(|tensors| tensors.iter().map(|tensor| tensor.to_vec()).collect());
        let state = state.collect();
        optimizer.restore(3, state);
        assert!(optimizer.state().iter().flatten().all(|tensor| offset(tensor) == 0), "{rule}");
    }
}

#[test]
fn panels_buffers_and_the_state_of_an_optimizer_begin_at_a_cache_line() {
    check::<f32>();
    check::<f64>();
    let lists: Vec<Vec<f32>> = (1..200).map(|length| vec![0.0; length]).collect();
    assert!(
        lists.iter().any(|list| offset(list) != 0),
        "the allocator aligns every list by itself, so this test proves nothing"
    );
}

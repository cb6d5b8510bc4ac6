//! The inner loops against plain ones.

use chainrule::nn::Pool;
use chainrule::nn::kernel::{Instructions, Panels, matmul_with};
use ndarray::{Array2, ArrayView2, s};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn matrix(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let value = |(row, column)| {
        let mixed =
            (row as u64 * 7_919 + column as u64 * 104_729 + seed * 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    Array2::from_shape_fn((rows, columns), value)
}

/// The product as the textbook has it, in `f64`.
fn plain(a: ArrayView2<f32>, b: ArrayView2<f32>, c: &Array2<f32>, accumulate: bool) -> Array2<f64> {
    Array2::from_shape_fn((a.nrows(), b.ncols()), |(i, j)| {
        let start = if accumulate { f64::from(c[[i, j]]) } else { 0.0 };
        (0..a.ncols()).fold(start, |sum, k| sum + f64::from(a[[i, k]]) * f64::from(b[[k, j]]))
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_kernel_multiplies_any_shapes_and_leaves_the_rest_of_its_target_alone(
        m in 0usize..40, k in 0usize..70, n in 1usize..80, seed in 0u64..1_000,
        transposed: bool, accumulate: bool, offset in 0usize..3, split in 0usize..70,
    ) {
        let split = split.min(k);
        let stored = if transposed { matrix(k, m, seed) } else { matrix(m, k, seed) };
        let a = if transposed { stored.t() } else { stored.view() };
        let b = matrix(k, n, seed + 1);
        let start = matrix(m + 2, n + offset + 3, seed + 2);
        let inside = s![1..m + 1, offset..offset + n];
        let expected = plain(a, b.view(), &start.slice(inside).to_owned(), accumulate);
        let mut fused: Option<Array2<f32>> = None;
        for kind in Instructions::available() {
            let mut target = start.clone();
            let (upper, lower) = (a.slice(s![.., ..split]), a.slice(s![.., split..]));
 let parts = [Panels::of(b.slice(s![..split, ..])), Panels::of(b.slice(s![split.., ..]))];
 let pairs = [upper, lower].into_iter().zip(&parts);
 matmul_with(kind, pairs, &mut target.slice_mut(inside), accumulate);
            for (found, expected) in target.slice(inside).iter().zip(&expected) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-5 * (k as f64 + 1.0), "{kind:?}: {found} {expected}");
            }
            let mut rest = target.clone();
            rest.slice_mut(inside).assign(&start.slice(inside));
            prop_assert_eq!(&rest, &start, "{:?} wrote beside its target", kind);
            if kind != Instructions::Portable {
                let first = fused.get_or_insert_with(|| target.clone());
                prop_assert_eq!(first, &target, "{:?} rounds otherwise", kind);
            }
        }
    }

    #[test]
    fn a_pool_runs_each_piece_once_and_gives_it_the_right_elements(
        threads in 1usize..8, length in 0usize..500, chunk in 1usize..50,
    ) {
        let pool = Pool::new(threads);
        let mut values: Vec<u64> = (0..length as u64).collect();
        let mut marks = vec![0u64; length];
        for _ in 0..20 {
            pool.for_each_chunk([&mut values, &mut marks], chunk, |index, [values, marks]| {
                for (place, (value, mark)) in values.iter_mut().zip(marks).enumerate() {
                    assert_eq!(*value, (index * chunk + place) as u64);
                    *mark += 1;
                }
            });
        }
        prop_assert!(marks.iter().all(|&mark| mark == 20));
    }
}

#[test]
fn a_panic_in_a_task_reaches_the_caller_and_the_pool_goes_on() {
    let pool = Pool::new(3);
    let mut items = [0; 64];
    let panicking =
        std::panic::AssertUnwindSafe(|| pool.for_each(&mut items, |index, _| assert_ne!(index, 40)));
    assert!(std::panic::catch_unwind(panicking).is_err());
    let mut items = [0; 64];
    pool.for_each(&mut items, |index, item| *item = index);
    assert!(items.iter().enumerate().all(|(index, &item)| index == item));
}

//! The inner loops compared with simple ones.

use chainrule_engine::nn::ThreadPool;
use chainrule_engine::nn::testing::{
    AliveLists, Instructions, NonzeroBits, PANEL, Panels, PooledWindows, Routed, SPAN, SparseColumns,
    SparseRows, Squares, Start, Windows, add_input_gradient, affine_relu_pool, collect_alive, conv_relu_pool,
    matmul_windows, matmul_with, pixel, routed_backward, routed_sums, sparse_matmul, sparse_outer,
};
use ndarray::{Array2, ArrayView2, Axis, s};
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

/// The product as in a textbook, in `f64`.
fn plain(a: ArrayView2<f32>, b: ArrayView2<f32>, c: &Array2<f32>, start: Start<f32>) -> Array2<f64> {
    Array2::from_shape_fn((a.nrows(), b.ncols()), |(i, j)| {
        let start = match start {
            Start::Zero => 0.0,
            Start::Target => f64::from(c[[i, j]]),
            Start::Row(row) => f64::from(row[j]),
        };
        (0..a.ncols()).fold(start, |sum, k| sum + f64::from(a[[i, k]]) * f64::from(b[[k, j]]))
    })
}

#[test]
fn registers_that_would_stay_half_empty_are_not_used() {
    for (columns, expected) in [
        (1, Instructions::Avx2),
        (8, Instructions::Avx2),
        (9, Instructions::Avx512),
        (16, Instructions::Avx512),
        (24, Instructions::Avx2),
        (32, Instructions::Avx512),
    ] {
        assert_eq!(Instructions::Avx512.for_columns::<f32>(columns), expected, "{columns} columns");
    }
    assert_eq!(Instructions::Avx512.for_columns::<f64>(4), Instructions::Avx2);
    assert_eq!(Instructions::Avx512.for_columns::<f64>(5), Instructions::Avx512);
    for kind in [Instructions::Portable, Instructions::Neon, Instructions::Avx2] {
        assert_eq!(kind.for_columns::<f32>(8), kind);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_kernel_multiplies_any_shapes_and_leaves_the_rest_of_its_target_alone(
        m in 0usize..40, k in 0usize..70, n in 1usize..80, seed in 0u64..1_000,
        transposed: bool, start in 0usize..3, offset in 0usize..3, split in 0usize..70,
    ) {
        let split = split.min(k);
        let stored = if transposed { matrix(k, m, seed) } else { matrix(m, k, seed) };
        let a = if transposed { stored.t() } else { stored.view() };
        let b = matrix(k, n, seed + 1);
        let (before, row) = (matrix(m + 2, n + offset + 3, seed + 2), matrix(1, n, seed + 3));
        let start = [Start::Zero, Start::Target, Start::Row(row.as_slice().expect("a row"))][start];
        let inside = s![1..m + 1, offset..offset + n];
        let expected = plain(a, b.view(), &before.slice(inside).to_owned(), start);
        let mut fused: Option<Array2<f32>> = None;
        for kind in Instructions::available() {
            let mut target = before.clone();
            let (upper, lower) = (a.slice(s![.., ..split]), a.slice(s![.., split..]));
 let parts = [Panels::of(b.slice(s![..split, ..])), Panels::of(b.slice(s![split.., ..]))];
 let pairs = [upper, lower].into_iter().zip(&parts);
 matmul_with(kind, pairs, &mut target.slice_mut(inside), start);
            for (found, expected) in target.slice(inside).iter().zip(&expected) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-5 * (k as f64 + 1.0), "{kind:?}: {found} {expected}");
            }
            let mut rest = target.clone();
            rest.slice_mut(inside).assign(&before.slice(inside));
            prop_assert_eq!(&rest, &before, "{:?} wrote beside its target", kind);
            if kind != Instructions::Portable {
                let first = fused.get_or_insert_with(|| target.clone());
                prop_assert_eq!(first, &target, "{:?} rounds otherwise", kind);
            }
        }
    }

    /// The fraction of nonzero elements is from none to all, as floats and as pixel bytes.
    #[test]
    fn products_with_sparse_rows_equal_full_products_bit_for_bit(
        m in 1usize..150, k in 1usize..200, n in 1usize..140, seed in 0u64..1_000, share in 0u64..11, are_bytes: bool,
    ) {
        let bytes = Array2::from_shape_fn((m, k), |(row, column)| {
            let drawn = (row as u64 * 31 + column as u64 * 17 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            if drawn % 10 < share { (drawn >> 8) as u8 } else { 0 }
        });
        let number = |&byte: &u8| if are_bytes { pixel(byte) } else { (f32::from(byte) - 100.0) * f32::from(u8::from(byte != 0)) };
        let a = bytes.map(number);
        let (b, dy, bias) = (matrix(k, n, seed + 1), matrix(m, n, seed + 2), matrix(1, n, seed + 3));
        let mut columns = SparseColumns::with_capacity(m, k);
        let bits = NonzeroBits::of(a.as_slice().expect("in row order"), k);
        prop_assert_eq!(bits.count(), a.iter().filter(|&&number| number != 0.0).count());
        let mut of_bytes = SparseRows::with_capacity(m, k);
        if are_bytes {
            let rows = &mut of_bytes;
            let chunks = rows.refill(m, 7, true).zip(bytes.axis_chunks_iter(Axis(0), 7));
            for (mut chunk, bytes) in chunks {
                for (row, bytes) in bytes.rows().into_iter().enumerate() {
                    chunk.write_bytes(row, bytes.as_slice().expect("a row"));
                }
            }
        }
        let rows = if are_bytes { of_bytes.view() } else { bits.rows_of(a.as_slice().expect("in row order")) };
        columns.refill(m).for_each(|span| span.fill(rows));
        for kind in Instructions::available() {
            let mut dense = Array2::zeros((m, n));
            matmul_with(kind, [(a.view(), &Panels::of(b.view()))], &mut dense.view_mut(), Start::Zero);
            dense = &bias + &dense;
            let (mut panels, mut found) = (Panels::zeros(m, n), Array2::zeros((m, n)));
            sparse_matmul(kind, rows, &Panels::of(b.view()), bias.as_slice().expect("a row"), &mut panels);
            panels.copy_to(0, found.view_mut());
            prop_assert_eq!(&dense, &found, "{:?}", kind);

            let mut dense = Array2::zeros((k, n));
            matmul_with(kind, [(a.t(), &Panels::of(dy.view()))], &mut dense.view_mut(), Start::Zero);
            let dy = Panels::of(dy.view());
            for (span, expected) in dense.axis_chunks_iter(Axis(0), SPAN).enumerate() {
                let mut found = vec![1.0; n.div_ceil(PANEL) * expected.nrows() * PANEL];
                sparse_outer(kind, rows, &columns, span, &dy, &mut found);
                for ((row, column), &expected) in expected.indexed_iter() {
                    let place = (column / PANEL * dense.slice(s![span * SPAN.., ..]).nrows().min(SPAN) + row) * PANEL;
                    prop_assert_eq!(expected, found[place + column % PANEL], "{:?}", kind);
                }
            }
        }
    }

    /// The panels were packed from more rows than the product has.
    #[test]
    fn no_row_beyond_the_last_is_read(m in 1usize..130, n in 1usize..40) {
        let all = Array2::from_elem((m.next_multiple_of(64), 3), 1.0);
        let numbers = all.as_slice().expect("in row order");
        let few = &numbers[..m * 3];
        let few_bits = NonzeroBits::of(few, 3);
        let mut columns = SparseColumns::with_capacity(all.nrows(), 3);
        let bits = NonzeroBits::of(numbers, 3);
        columns.refill(all.nrows()).for_each(|span| span.fill(bits.rows_of(numbers)));
        let dy = Panels::of(Array2::from_elem((m, n), 1.0_f32).view());
        for kind in Instructions::available() {
            let mut found = vec![0.0; n.div_ceil(PANEL) * 3 * PANEL];
            sparse_outer(kind, few_bits.rows_of(few), &columns, 0, &dy, &mut found);
            prop_assert!(found[..n.min(PANEL)].iter().all(|&sum| sum == m as f32), "{:?}", kind);
        }
    }

    #[test]
    fn packing_into_panels_is_lossless(rows in 0usize..40, columns in 1usize..80, first in 0usize..40) {
        let first = first.min(rows);
        let matrix = matrix(rows, columns, 1);
        let stored = matrix.t().as_standard_layout().into_owned();
        for panels in [Panels::of(matrix.view()), Panels::of(stored.t())] {
            let mut found = Array2::zeros((rows - first, columns));
            panels.copy_to(first, found.view_mut());
            prop_assert_eq!(&found, &matrix.slice(s![first.., ..]));
        }
        let mut panels = Panels::zeros(rows + 3, columns);
        panels.fill_rows(rows, [matrix.slice(s![..first, ..]), matrix.slice(s![first.., ..])].into_iter());
        let mut found = Array2::zeros((rows, columns));
        panels.copy_to(0, found.view_mut());
        prop_assert_eq!(&found, &matrix);
    }

    #[test]
    fn a_pool_hands_out_each_item_once(threads in 1usize..8, length in 0usize..500, chunk in 1usize..50) {
        let pool = ThreadPool::new(threads);
        let mut values: Vec<u64> = (0..length as u64).collect();
        let mut marks = vec![0u64; length];
        for _ in 0..20 {
            let pieces = values.chunks_mut(chunk).zip(marks.chunks_mut(chunk)).enumerate();
            pool.for_each(pieces, |(index, (values, marks))| {
                for (place, (value, mark)) in values.iter_mut().zip(marks).enumerate() {
                    assert_eq!(*value, (index * chunk + place) as u64);
                    *mark += 1;
                }
            });
            let (both, rest) = marks.split_at_mut(length / 3);
            pool.for_each_from_both_ends(both.iter_mut(), rest.iter_mut(), |mark| *mark += 1);
        }
        prop_assert!(marks.iter().all(|&mark| mark == 40));
    }
}

/// Convolution, relu, max-pool and their gradients as in a textbook, in `f64`.
struct Plain {
    y: Vec<f64>,
    dw: Vec<f64>,
    dx: Vec<f64>,
    db: Vec<f64>,
}

fn plain_conv_pool(windows: &PooledWindows, x: &[f32], w: &Array2<f32>, bias: &[f32], dy: &[f32]) -> Plain {
    let filters = bias.len();
    let taps: Vec<usize> = (0..windows.kernel)
        .flat_map(|u| (0..windows.span).map(move |at| (u, at)))
        .map(|(u, at)| u * windows.row + at)
        .collect();
    let mut plain = Plain {
        y: Vec::new(),
        dw: vec![0.0; w.len()],
        dx: vec![0.0; windows.length],
        db: vec![0.0; filters],
    };
    for (square, &start) in windows.squares.iter().enumerate() {
        for filter in 0..filters {
            let output = |corner: &usize| -> f64 {
                let value = |(tap, &at): (usize, &usize)| {
                    f64::from(x[start + corner + at]) * f64::from(w[[tap, filter]])
                };
                f64::from(bias[filter]) + taps.iter().enumerate().map(value).sum::<f64>()
            };
            let outputs = windows.corners.iter().map(|corner| (output(corner), *corner));
            let (y, corner) =
                outputs.fold((f64::MIN, 0), |best, next| if next.0 > best.0 { next } else { best });
            plain.y.push(y.max(0.0));
            if y > 0.0 {
                let dy = f64::from(dy[square * filters + filter]);
                plain.db[filter] += dy;
                for (tap, at) in taps.iter().enumerate() {
                    plain.dw[tap * filters + filter] += dy * f64::from(x[start + corner + at]);
                    plain.dx[start + corner + at] += dy * f64::from(w[[tap, filter]]);
                }
            }
        }
    }
    plain
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_pooled_convolution_and_its_gradients_equal_the_textbook(
        kernel in 1usize..7, channels in 1usize..20, stride in 1usize..3, filters in 1usize..40,
        height in 2usize..5, width in 2usize..5, images in 1usize..4, seed in 0u64..1_000,
    ) {
        // As many rows and columns as give `height` × `width` pooled squares and one output beyond.
        let side = |squares: usize| (2 * squares) * stride + kernel;
        let row = side(width) * channels;
        let at = |y: usize, x: usize| y * stride * row + x * stride * channels;
        let windows = PooledWindows {
            kernel, span: kernel * channels, row,
            corners: [at(0, 0), at(0, 1), at(1, 0), at(1, 1)],
            squares: (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).map(|(y, x)| at(2 * y, 2 * x)).collect(),
            length: side(height) * row,
        };
        let w = matrix(kernel * kernel * channels, filters, seed);
        let bias = matrix(1, filters, seed + 1).into_raw_vec_and_offset().0;
        let outputs = windows.squares.len() * filters;
        let x = matrix(images, windows.padded_length(), seed + 2);
        let dy = matrix(images, outputs, seed + 3);
        let padded = windows.padded_filter();
        let mut by_filter = vec![0.0; filters * padded];
        for ((row, filter), &weight) in w.indexed_iter() {
            let at = row / windows.span * windows.padded_span() + row % windows.span;
            by_filter[filter * padded + at] = weight;
        }
        for kind in Instructions::available() {
            let mut lists = AliveLists::with_capacity(filters, images * windows.squares.len());
            let (mut dw, mut db) = (vec![0.0; filters * padded], vec![0.0; filters]);
            let mut expected = Plain { y: vec![], dw: vec![0.0; w.len()], dx: vec![], db: vec![0.0; filters] };
            for image in 0..images {
                let (x_row, dy_row) = (x.row(image), dy.row(image));
                let (x, dy) = (x_row.as_slice().expect("a row"), dy_row.as_slice().expect("a row"));
                let (mut y, mut route) = (vec![0.0; outputs], vec![0.0; outputs]);
                conv_relu_pool(kind, &windows, x, Panels::of(w.view()).right(), &bias, &mut y, &mut route);
                let plain = plain_conv_pool(&windows, x, &w, &bias, dy);
                for (found, expected) in y.iter().zip(&plain.y) {
                    prop_assert!((f64::from(*found) - expected).abs() < 1e-4, "{kind:?}: {found} {expected}");
                }
                let gradient = Routed { y: &y, route: &route, dy };
                collect_alive(kind, &windows, gradient, image * windows.padded_length(), &mut lists, &mut db);
                let mut dx = vec![0.0; windows.padded_length()];
                add_input_gradient(kind, &windows, gradient, &by_filter, &mut dx);
                for (found, expected) in dx.iter().zip(&plain.dx) {
                    prop_assert!((f64::from(*found) - expected).abs() < 1e-4, "{kind:?}: {found} {expected}");
                }
                prop_assert!(dx[windows.length..].iter().all(|&dx| dx == 0.0));
                let sums = expected.dw.iter_mut().chain(&mut expected.db);
                sums.zip(plain.dw.iter().chain(&plain.db)).for_each(|(sum, part)| *sum += part);
            }
            lists.add_outer(kind, &windows, x.as_slice().expect("rows"), &mut dw);
            for (index, expected) in expected.dw.iter().enumerate() {
                let (row, filter) = (index / filters, index % filters);
                let found = dw[filter * padded + row / windows.span * windows.padded_span() + row % windows.span];
                prop_assert!((f64::from(found) - expected).abs() < 1e-4, "{kind:?}: {found} {expected}");
            }
            for (found, expected) in db.iter().zip(&expected.db) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-4, "{kind:?}: {found} {expected}");
            }
        }
    }
}

proptest! {
    #![proptest_config(config())]

    /// Pooled squares of 1 to 9 values, with an unused row and column at the edge. The fused kernels give the
    /// same bits.
    #[test]
    fn a_fused_normalisation_with_relu_and_pool_equals_the_textbook(
        size in 1usize..4, height in 1usize..4, width in 1usize..4, channels in 1usize..40, seed in 0u64..1_000,
    ) {
        let row = (width * size + 1) * channels;
        let at = |y: usize, x: usize| y * row + x * channels;
        let places = |height: usize, width: usize| (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)));
        let starts: Vec<usize> = places(height, width).map(|(y, x)| at(y * size, x * size)).collect();
        let corners: Vec<usize> = places(size, size).map(|(y, x)| at(y, x)).collect();
        let squares = Squares::new(starts.clone(), corners.clone());
        let list = |count: usize, seed: u64| matrix(1, count, seed).into_raw_vec_and_offset().0;
        let x = list((height * size + 1) * row, seed);
        let dy = list(starts.len() * channels, seed + 1);
        let [scale, shift, mean, slope, offset] = [2, 3, 4, 5, 6].map(|number| list(channels, seed + number));

        let affine = |(place, &x): (usize, &f32)| {
            -f64::from(slope[place % channels]) * f64::from(x) - f64::from(offset[place % channels])
        };
        let mut dx: Vec<f64> = x.iter().enumerate().map(affine).collect();
        let (mut y, mut sums) = (Vec::new(), vec![0.0; 2 * channels]);
        for (square, start) in starts.iter().enumerate() {
            for channel in 0..channels {
                let value = |corner: usize| f64::from(x[start + corner + channel]);
                let normed = |corner: usize| f64::from(scale[channel]) * value(corner) + f64::from(shift[channel]);
                let best = corners.iter().copied().reduce(|best, next| if normed(next) > normed(best) { next } else { best });
                let best = best.expect("a corner");
                y.push(normed(best).max(0.0));
                if normed(best) > 0.0 {
                    let dy = f64::from(dy[square * channels + channel]);
                    sums[2 * channel] += dy;
                    sums[2 * channel + 1] += dy * (value(best) - f64::from(mean[channel]));
                    dx[start + best + channel] += f64::from(scale[channel]) * dy;
                }
            }
        }
        let expected: Vec<f64> = [y.as_slice(), &sums, &dx].concat();
        let mut fused: Option<Vec<f32>> = None;
        for kind in Instructions::available() {
            let (mut found_y, mut route) = (vec![7.0; y.len()], vec![7.0; y.len()]);
            affine_relu_pool(kind, &squares, &x, [&scale, &shift], &mut found_y, &mut route);
            let routed = Routed { y: &found_y, route: &route, dy: &dy };
            let mut found_sums = vec![0.0; 2 * channels];
            routed_sums(kind, &squares, &x, &mean, routed, |channel, dy, dy_x| {
                found_sums[2 * channel..][..2].copy_from_slice(&[dy, dy_x]);
            });
            let mut found_dx = vec![7.0; x.len()];
            routed_backward(kind, &squares, &x, [&scale, &slope, &offset], routed, &mut found_dx);
            let found: Vec<f32> = [found_y.as_slice(), &found_sums, &found_dx].concat();
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-5, "{kind:?}: {found} {expected}");
            }
            if kind != Instructions::Portable {
                prop_assert_eq!(fused.get_or_insert_with(|| found.clone()), &found, "{:?} rounds otherwise", kind);
            }
        }
    }

    #[test]
    fn a_product_with_windows_equals_that_with_copied_windows(
        side in 1usize..6, rows in 1usize..30, channels in 1usize..9, columns in 1usize..70, seed in 0u64..1_000,
        is_listed: bool, is_added: bool,
    ) {
        let values = matrix(1, 400, seed).into_raw_vec_and_offset().0;
        let span = side * channels;
        let starts: Vec<usize> = (0..rows).map(|row| row * 7 % 90).collect();
        let taps: Vec<usize> = (0..span).map(|tap| if is_listed { tap * 5 % 200 } else { tap }).collect();
        let copied = Array2::from_shape_fn((rows, span), |(row, tap)| values[3 + starts[row] + taps[tap]]);
        let (b, target) = (matrix(span, columns, seed + 1), matrix(rows, columns, seed + 2));
        let panels = Panels::of(b.view());
        let (starts, taps) = (starts.into_iter().collect(), taps.into_iter().collect());
        let windows = Windows { values: &values, rows: &starts, columns: is_listed.then_some(&taps) };
        let start = if is_added { Start::Target } else { Start::Zero };
        for kind in Instructions::available() {
            let (mut found, mut expected) = (target.clone(), target.clone());
            matmul_windows(kind, windows, [(3, panels.right())], &mut found.view_mut(), start);
            matmul_with(kind, [(copied.view(), &panels)], &mut expected.view_mut(), start);
            prop_assert_eq!(found, expected, "{:?}", kind);
        }
    }
}

/// One value of a pooled square is NaN, at each corner in turn.
#[test]
fn nan_passes_through_relu_and_pool() {
    for kind in Instructions::available() {
        for corner in 0..4 {
            let mut x = vec![1.0_f32; 4 * 20];
            x[corner * 20..][..20].fill(f32::NAN);
            let squares = Squares::new(vec![0], vec![0, 20, 40, 60]);
            let (ones, mut y, mut route) = (vec![1.0; 20], vec![0.0; 20], vec![0.0; 20]);
            affine_relu_pool(kind, &squares, &x, [&ones, &ones], &mut y, &mut route);
            assert!(y.iter().all(|y| y.is_nan()), "{kind:?}, corner {corner}");

            let windows = PooledWindows {
                kernel: 1,
                span: 1,
                row: 2,
                corners: [0, 1, 2, 3],
                squares: vec![0],
                length: 4,
            };
            let mut x = vec![1.0_f32; windows.padded_length()];
            x[corner] = f32::NAN;
            let w = Panels::of(matrix(1, 20, 1).view());
            conv_relu_pool(kind, &windows, &x, w.right(), &ones, &mut y, &mut route);
            assert!(y.iter().all(|y| y.is_nan()), "{kind:?}, corner {corner}");
        }
    }
}

#[test]
fn a_panic_in_a_task_reaches_the_caller_and_the_pool_keeps_working() {
    let pool = ThreadPool::new(3);
    let mut items = [0; 64];
    let panicking = std::panic::AssertUnwindSafe(|| {
        pool.for_each(items.iter_mut().enumerate(), |(index, _)| assert_ne!(index, 40));
    });
    assert!(std::panic::catch_unwind(panicking).is_err());
    pool.for_each(items.iter_mut().enumerate(), |(index, item)| *item = index);
    assert!(items.iter().enumerate().all(|(index, &item)| index == item));
}

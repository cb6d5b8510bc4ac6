use super::simd::{Kernel, Simd};
use super::sparse::{Numbers, SPAN, SparseColumns, SparseView};
use super::{Instructions, PANEL, Panels};
use crate::nn::Float;

/// The storage from which an inner loop reads the values of the rows.
trait Source<T>: Copy {
    /// The value at index `place`.
    ///
    /// # Safety
    /// The index must be in range.
    unsafe fn at(self, place: usize) -> T;
}

impl<T: Float> Source<T> for &[T] {
    #[inline(always)]
    unsafe fn at(self, place: usize) -> T {
        // SAFETY: guaranteed by the caller.
        unsafe { *self.get_unchecked(place) }
    }
}

impl<T: Float> Source<T> for (&[u8], &[T; 256]) {
    #[inline(always)]
    unsafe fn at(self, place: usize) -> T {
        // SAFETY: guaranteed by the caller.
        self.1[usize::from(unsafe { *self.0.get_unchecked(place) })]
    }
}

/// A product that is computed in groups of panels.
trait InPanels<T> {
    /// Computes `NP` panels starting at `panel`, and returns their number.
    ///
    /// # Safety
    /// See [`Simd`]. The panels must exist, and `NR` registers must make up a panel's row.
    unsafe fn panels<V: Simd<Number = T>, const NP: usize, const NR: usize>(&mut self, panel: usize)
    -> usize;
}

/// Computes all `panels` of `product`. If possible, it computes enough panels at once to keep eight registers of sums,
/// which hides the latency of a multiply-add.
///
/// # Safety
/// See [`Simd`]. The product must have these panels.
#[inline(always)]
unsafe fn over_panels<T, V: Simd<Number = T>>(panels: usize, product: &mut impl InPanels<T>) {
    let mut panel = 0;
    while panel < panels {
        let left = panels - panel;
        // SAFETY: the panels exist, and the registers make up a row.
        panel += unsafe {
            match V::LANES {
                16 if left >= 4 => product.panels::<V, 4, 2>(panel),
                16 if left >= 2 => product.panels::<V, 2, 2>(panel),
                16 => product.panels::<V, 1, 2>(panel),
                8 if left >= 2 => product.panels::<V, 2, 4>(panel),
                8 => product.panels::<V, 1, 4>(panel),
                4 => product.panels::<V, 1, 8>(panel),
                _ => product.panels::<V, 1, 16>(panel),
            }
        };
    }
}

/// Loads the sums of a row in some panels. They start at `from` and are `next` elements apart.
///
/// # Safety
/// See [`Simd`]. The elements must exist.
#[inline(always)]
unsafe fn load<V: Simd, const NP: usize, const NR: usize>(
    sums: &mut [[V; NR]; NP],
    from: *const V::Number,
    next: usize,
) {
    for (p, sums) in sums.iter_mut().enumerate() {
        // SAFETY: guaranteed by the caller.
        *sums = unsafe { V::load_all(from.add(p * next)) };
    }
}

/// The reverse of [`load`].
///
/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn store<V: Simd, const NP: usize, const NR: usize>(
    sums: [[V; NR]; NP],
    to: *mut V::Number,
    next: usize,
) {
    for (p, sums) in sums.into_iter().enumerate() {
        for (r, sum) in sums.into_iter().enumerate() {
            // SAFETY: guaranteed by the caller.
            unsafe { sum.store(to.add(p * next + r * V::LANES)) };
        }
    }
}

/// Adds `value` times the row `row` of the panels that start at `starts`.
///
/// # Safety
/// See [`Simd`]. The row must exist.
#[inline(always)]
unsafe fn add_row<V: Simd, const NP: usize, const NR: usize>(
    sums: &mut [[V; NR]; NP],
    value: V::Number,
    starts: [*const V::Number; NP],
    row: usize,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let value = V::splat(value);
        for (sums, start) in sums.iter_mut().zip(starts) {
            let numbers = start.add(row * PANEL);
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add_product(value, V::load(numbers.add(r * V::LANES)));
            }
        }
    }
}

/// `c = a · b + bias`, with a (m, k), b (k, n), bias (n) and c (m, n). Every sum is over the columns of `a`
/// in order. The bias is added last.
///
/// # Panics
/// If the shapes don't match, `c` is too small, or this processor doesn't have `instructions`.
pub fn sparse_matmul<T: Float>(
    instructions: Instructions,
    a: SparseView<T>,
    b: &Panels<T>,
    bias: &[T],
    c: &mut Panels<T>,
) {
    assert_eq!((a.columns, b.columns()), (b.rows(), bias.len()), "shapes of a product");
    assert_eq!(c.columns(), b.columns(), "shapes of a product");
    c.clear(a.rows);
    match a.numbers {
        Numbers::All(source) => instructions.run(Forward { a, source, b, c: c.values_mut() }),
        Numbers::OfBytes(bytes, of_bytes) => {
            instructions.run(Forward { a, source: (bytes, of_bytes), b, c: c.values_mut() });
        }
    }
    for (panel, bias) in c.values_mut().chunks_exact_mut((a.rows * PANEL).max(1)).zip(bias.chunks(PANEL)) {
        for row in panel.chunks_exact_mut(PANEL) {
            row.iter_mut().zip(bias).for_each(|(c, &bias)| *c = bias + *c);
        }
    }
}

struct Forward<'a, T, S> {
    a: SparseView<'a, T>,
    source: S,
    b: &'a Panels<T>,
    /// All rows, panel by panel.
    c: &'a mut [T],
}

impl<T: Float, S: Source<T>> Kernel<T> for Forward<'_, T, S> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(mut self) {
        // SAFETY: guaranteed by the caller.
        unsafe { over_panels::<T, V>(self.b.panels(), &mut self) }
    }
}

impl<T: Float, S: Source<T>> InPanels<T> for Forward<'_, T, S> {
    /// Adds the products of every row. The part of `b` that belongs to a span stays in a core's L1 cache for
    /// all rows of `a`.
    #[inline(always)]
    unsafe fn panels<V: Simd<Number = T>, const NP: usize, const NR: usize>(
        &mut self,
        panel: usize,
    ) -> usize {
        let Self { a, source, b, ref mut c } = *self;
        let (words, next) = (a.words(), a.rows * PANEL);
        let c = &mut c[panel * next..][..NP * next];
        for span in 0..words {
            let starts: [*const T; NP] =
                std::array::from_fn(|p| b.panel(panel + p).wrapping_add(span * SPAN * PANEL));
            for row in 0..a.rows {
                // SAFETY: each set bit belongs to a column. `b` has a row of whole panels for it, and the row of `a`
                // has a value. `c` has a panel's registers for each row.
                unsafe {
                    let mut bits = *a.bits.get_unchecked(row * words + span);
                    if bits == 0 {
                        continue;
                    }
                    let first = row * a.columns + span * SPAN;
                    let c = c.as_mut_ptr().add(row * PANEL);
                    let mut sums = [[V::splat(T::zero()); NR]; NP];
                    load(&mut sums, c, next);
                    while bits != 0 {
                        let column = bits.trailing_zeros() as usize;
                        bits &= bits - 1;
                        add_row(&mut sums, source.at(first + column), starts, column);
                    }
                    store(sums, c, next);
                }
            }
        }
        NP
    }
}

/// `c = aᵀ · dy` for the columns of `a` (m, k) in the span at index `span`. `columns` are the columns of `a`,
/// dy is (m, n), and c has panels of shape (panels, columns of the span, [`PANEL`]). Every element is a
/// single sum over the rows in order.
///
/// # Panics
/// If the shapes don't match, or this processor doesn't have `instructions`.
pub fn sparse_outer<T: Float>(
    instructions: Instructions,
    a: SparseView<T>,
    columns: &SparseColumns,
    span: usize,
    dy: &Panels<T>,
    c: &mut [T],
) {
    let width = a.columns.saturating_sub(span * SPAN).min(SPAN);
    assert_eq!((dy.rows(), columns.words), (a.rows, a.rows.div_ceil(SPAN)), "shapes of a product");
    assert_eq!(c.len(), dy.columns().div_ceil(PANEL) * width * PANEL, "shapes of a product");
    let (columns, bits) = (a.columns, columns.span(span));
    match a.numbers {
        Numbers::All(source) => {
            instructions.run(Outer { columns, source, bits, span, words: 0, width, dy, c });
        }
        Numbers::OfBytes(bytes, of_bytes) => {
            let source = (bytes, of_bytes);
            instructions.run(Outer { columns, source, bits, span, words: 0, width, dy, c });
        }
    }
}

struct Outer<'a, T, S> {
    /// Number of columns of the rows in `source`.
    columns: usize,
    source: S,
    /// Words of the span, see [`SparseColumns::span`].
    bits: &'a [u64],
    span: usize,
    /// Index of the first of the [`WORDS`] words of rows that are processed now.
    words: usize,
    /// Number of columns in the span.
    width: usize,
    dy: &'a Panels<T>,
    c: &'a mut [T],
}

/// Words of rows that are processed together, so that their values stay in a core's L1 cache.
const WORDS: usize = 2;

impl<T: Float, S: Source<T>> Kernel<T> for Outer<'_, T, S> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(mut self) {
        if self.bits.is_empty() {
            self.c.fill(T::zero());
        }
        for words in (0..self.bits.len() / SPAN).step_by(WORDS) {
            self.words = words;
            // SAFETY: guaranteed by the caller.
            unsafe { over_panels::<T, V>(self.dy.panels(), &mut self) }
        }
    }
}

impl<T: Float, S: Source<T>> InPanels<T> for Outer<'_, T, S> {
    /// Writes the sums over the rows of the first words. For later words, adds to the sums.
    #[inline(always)]
    unsafe fn panels<V: Simd<Number = T>, const NP: usize, const NR: usize>(
        &mut self,
        panel: usize,
    ) -> usize {
        let (words, stride) = (self.words, self.columns);
        let starts: [*const T; NP] = std::array::from_fn(|p| self.dy.panel(panel + p));
        let squares = &self.bits[words * SPAN..];
        let squares = &squares[..squares.len().min(WORDS * SPAN)];
        // Bits beyond the last row are ignored, whatever their source.
        let masks: [u64; WORDS] = std::array::from_fn(|word| {
            let left = self.dy.rows().saturating_sub((words + word) * SPAN);
            u64::MAX.checked_shr(SPAN.saturating_sub(left) as u32).unwrap_or(0)
        });
        let c = &mut self.c[panel * self.width * PANEL..][..NP * self.width * PANEL];
        for column in 0..self.width {
            // SAFETY: each set bit belongs to a row. The row has a value in this column and one in each column of `dy`.
            // `c` has a panel's registers for each column.
            unsafe {
                let c = c.as_mut_ptr().add(column * PANEL);
                let next = self.width * PANEL;
                let mut sums = [[V::splat(T::zero()); NR]; NP];
                if words > 0 {
                    load(&mut sums, c, next);
                }
                for (word, square) in squares.chunks_exact(SPAN).enumerate() {
                    let first = (words + word) * SPAN;
                    let place = first * stride + self.span * SPAN + column;
                    let mut bits = *square.get_unchecked(column) & masks[word];
                    while bits != 0 {
                        let row = bits.trailing_zeros() as usize;
                        bits &= bits - 1;
                        add_row(&mut sums, self.source.at(place + row * stride), starts, first + row);
                    }
                }
                store(sums, c, next);
            }
        }
        NP
    }
}

use std::marker::PhantomData;

use ndarray::ArrayView2;

use super::simd::{Kernel, Simd};
use super::{Instructions, PANEL, Panels, vectorized};
use crate::nn::Float;

/// Rows of which most numbers are 0: all numbers, and a bit for each that tells whether it is not 0.
///
/// The numbers are kept as they are or, where all are those of pixels, as bytes: the fewer there are to read, the more
/// of the other factor stays in a core's caches. What is left out of a sum of products adds nothing to it, so a product
/// with these rows has the bits of the one with all numbers, wherever the other factor is finite and the full product one chain.
#[derive(Clone, Debug)]
pub struct SparseRows<T> {
    columns: usize,
    rows: usize,
    are_bytes: bool,
    numbers: Vec<T>,
    bytes: Vec<u8>,
    /// What each byte stands for.
    of_bytes: [T; 256],
    /// For each row a word for each span of columns.
    bits: Vec<u64>,
}

/// Columns of which a word of bits tells.
pub const SPAN: usize = u64::BITS as usize;

/// What the byte of a pixel stands for: its share of the brightest.
pub fn pixel<T: Float>(byte: u8) -> T {
    T::of_byte(byte) * (T::one() / T::of(255.0))
}

impl<T: Float> SparseRows<T> {
    /// Room for `rows` of `columns`.
    pub fn with_capacity(rows: usize, columns: usize) -> Self {
        Self {
            columns,
            rows: 0,
            are_bytes: false,
            numbers: vec![T::zero(); rows * columns],
            bytes: vec![0; rows * columns],
            of_bytes: std::array::from_fn(|byte| pixel(byte as u8)),
            bits: vec![0; rows * columns.div_ceil(SPAN)],
        }
    }

    /// The rows of a matrix, as numbers, without room for others.
    pub fn of(matrix: ArrayView2<T>) -> Self {
        let (rows, columns) = matrix.dim();
        let numbers = matrix.as_slice().map_or_else(|| matrix.iter().copied().collect(), <[T]>::to_vec);
        let mut bits = vec![0; rows * columns.div_ceil(SPAN)];
        let rows_of_bits = bits.chunks_exact_mut(columns.div_ceil(SPAN).max(1));
        for (values, bits) in numbers.chunks_exact(columns.max(1)).zip(rows_of_bits) {
            Instructions::best().run(Bits { values, bits });
        }
        Self { columns, rows, are_bytes: false, numbers, bytes: Vec::new(), of_bytes: [T::zero(); 256], bits }
    }

    /// Rows in use.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Takes `rows` into use, to be written `chunk` at a time: all as bytes of pixels, or all as numbers.
    ///
    /// # Panics
    /// Where there is no room.
    pub fn refill(
        &mut self,
        rows: usize,
        chunk: usize,
        are_bytes: bool,
    ) -> impl Iterator<Item = SparseChunk<'_, T>> + Send {
        let (chunk, columns, words) = (chunk.max(1), self.columns, self.words());
        assert!(rows * columns <= self.numbers.len().min(self.bytes.len()), "room for rows");
        (self.rows, self.are_bytes) = (rows, are_bytes);
        let length = (chunk * columns).max(1);
        let numbers = self.numbers[..rows * columns].chunks_mut(length);
        let bytes = self.bytes[..rows * columns].chunks_mut(length);
        let bits = self.bits[..rows * words].chunks_mut((chunk * words).max(1));
        let parts = numbers.zip(bytes).zip(bits);
        parts.map(move |((numbers, bytes), bits)| SparseChunk { columns, are_bytes, numbers, bytes, bits })
    }

    fn words(&self) -> usize {
        self.columns.div_ceil(SPAN)
    }
}

/// Some of the rows, to be written.
pub struct SparseChunk<'a, T> {
    columns: usize,
    are_bytes: bool,
    numbers: &'a mut [T],
    bytes: &'a mut [u8],
    bits: &'a mut [u64],
}

impl<T: Float> SparseChunk<'_, T> {
    /// Lets `write` write all numbers of a row.
    ///
    /// # Panics
    /// Where rows are written as bytes.
    pub fn write(&mut self, row: usize, write: impl FnOnce(&mut [T])) {
        assert!(!self.are_bytes, "rows of numbers");
        let words = self.columns.div_ceil(SPAN);
        let values = &mut self.numbers[row * self.columns..][..self.columns];
        write(values);
        Instructions::best().run(Bits { values, bits: &mut self.bits[row * words..][..words] });
    }

    /// Copies a row of bytes, each of which stands for a [`pixel`].
    ///
    /// # Panics
    /// Where rows are written as numbers, or the length is not that of a row.
    pub fn write_bytes(&mut self, row: usize, bytes: &[u8]) {
        assert!(self.are_bytes, "rows of bytes");
        let words = self.columns.div_ceil(SPAN);
        self.bytes[row * self.columns..][..self.columns].copy_from_slice(bytes);
        let bits = &mut self.bits[row * words..][..words];
        Instructions::best().run(BitsOfBytes { bytes, bits, numbers: PhantomData::<T> });
    }
}

/// Notes which of `bytes` are not 0.
struct BitsOfBytes<'a, T> {
    bytes: &'a [u8],
    bits: &'a mut [u64],
    numbers: PhantomData<T>,
}

impl<T: Float> Kernel<T> for BitsOfBytes<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        for (bits, bytes) in self.bits.iter_mut().zip(self.bytes.chunks(SPAN)) {
            let mut all = [0; SPAN];
            let bytes = match bytes.first_chunk() {
                Some(bytes) => bytes,
                None => {
                    all[..bytes.len()].copy_from_slice(bytes);
                    &all
                }
            };
            // SAFETY: the caller's.
            *bits = unsafe { V::nonzero_bytes(bytes) };
        }
    }
}

/// Where an inner loop finds the numbers of the rows.
trait Source<T>: Copy {
    /// The number at `place`.
    ///
    /// # Safety
    /// There is one.
    unsafe fn at(self, place: usize) -> T;
}

impl<T: Float> Source<T> for &[T] {
    #[inline(always)]
    unsafe fn at(self, place: usize) -> T {
        // SAFETY: the caller's.
        unsafe { *self.get_unchecked(place) }
    }
}

impl<T: Float> Source<T> for (&[u8], &[T; 256]) {
    #[inline(always)]
    unsafe fn at(self, place: usize) -> T {
        // SAFETY: the caller's.
        self.1[usize::from(unsafe { *self.0.get_unchecked(place) })]
    }
}

/// Notes which of `values` are not 0.
struct Bits<'a, T> {
    values: &'a [T],
    bits: &'a mut [u64],
}

impl<T: Float> Kernel<T> for Bits<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        for (bits, values) in self.bits.iter_mut().zip(self.values.chunks(SPAN)) {
            *bits = 0;
            for (index, some) in values.chunks(V::LANES).enumerate() {
                // SAFETY: the caller's.
                *bits |= unsafe { u64::from(V::load_first(some).nonzero()) } << (index * V::LANES);
            }
        }
    }
}

/// Which numbers of some [`SparseRows`] are not 0, column by column: a bit for each row.
#[derive(Clone, Debug)]
pub struct SparseColumns {
    spans: usize,
    /// Words of a column.
    words: usize,
    /// For each span of columns and each word of rows a word for each column.
    bits: Vec<u64>,
}

impl SparseColumns {
    /// Room for the columns of up to `rows` rows.
    pub fn with_capacity(rows: usize, columns: usize) -> Self {
        let spans = columns.div_ceil(SPAN);
        Self { spans, words: 0, bits: vec![0; spans * rows.div_ceil(SPAN) * SPAN] }
    }

    /// Takes room for the columns of `rows` rows into use, a piece for each span.
    ///
    /// # Panics
    /// Where there is none.
    pub fn refill(&mut self, rows: usize) -> impl Iterator<Item = SparseSpan<'_>> + Send {
        self.words = rows.div_ceil(SPAN);
        let length = self.words * SPAN;
        let bits = &mut self.bits[..self.spans * length];
        bits.chunks_mut(length.max(1)).enumerate().map(|(span, bits)| SparseSpan { span, bits })
    }

    /// The words of a span: one for each of its columns, as often as there are words of rows.
    fn span(&self, span: usize) -> &[u64] {
        let length = self.words * SPAN;
        &self.bits[span * length..][..length]
    }
}

/// The columns of one span, to be written.
pub struct SparseSpan<'a> {
    span: usize,
    bits: &'a mut [u64],
}

impl SparseSpan<'_> {
    /// Turns the bits of `rows` over.
    pub fn fill<T: Float>(self, rows: &SparseRows<T>) {
        let words = rows.words();
        let mut left = &rows.bits[..rows.rows * words];
        for square in self.bits.chunks_exact_mut(SPAN) {
            let (these, rest) = left.split_at(left.len().min(SPAN * words));
            left = rest;
            square.fill(0);
            for (to, row) in square.iter_mut().zip(these.chunks_exact(words)) {
                *to = row[self.span];
            }
            if let Some(square) = square.first_chunk_mut() {
                vectorized(|| transpose(square));
            }
        }
    }
}

/// Bit c of word r becomes bit r of word c: squares of half the side change places, and so on
/// (Warren, *Hacker's Delight*, 2nd edition, section 7-3).
#[inline(always)]
fn transpose(square: &mut [u64; SPAN]) {
    let (mut side, mut low) = (SPAN / 2, u64::MAX >> (SPAN / 2));
    while side > 0 {
        for pair in square.chunks_exact_mut(2 * side) {
            let (upper, lower) = pair.split_at_mut(side);
            for (upper, lower) in upper.iter_mut().zip(lower) {
                let change = (*upper >> side ^ *lower) & low;
                *upper ^= change << side;
                *lower ^= change;
            }
        }
        side /= 2;
        low ^= low << side;
    }
}

/// `c = a · b + bias`: a (m, k), b (k, n), bias (n), c (m, n). Every sum runs over the columns of `a` in order;
/// the bias comes last.
///
/// # Panics
/// Where the shapes don't fit, `c` has no room, or this processor can't run `instructions`.
pub fn sparse_matmul<T: Float>(
    instructions: Instructions,
    a: &SparseRows<T>,
    b: &Panels<T>,
    bias: &[T],
    c: &mut Panels<T>,
) {
    assert_eq!((a.columns, b.columns()), (b.rows(), bias.len()), "shapes of a product");
    assert_eq!(c.columns(), b.columns(), "shapes of a product");
    c.clear(a.rows);
    if a.are_bytes {
        let source = (a.bytes.as_slice(), &a.of_bytes);
        instructions.run(Forward { a, source, b, c: c.values_mut() });
    } else {
        instructions.run(Forward { a, source: a.numbers.as_slice(), b, c: c.values_mut() });
    }
    for (panel, bias) in c.values_mut().chunks_exact_mut((a.rows * PANEL).max(1)).zip(bias.chunks(PANEL)) {
        for row in panel.chunks_exact_mut(PANEL) {
            row.iter_mut().zip(bias).for_each(|(c, &bias)| *c = bias + *c);
        }
    }
}

struct Forward<'a, T, S> {
    a: &'a SparseRows<T>,
    source: S,
    b: &'a Panels<T>,
    /// Panel after panel, of all rows.
    c: &'a mut [T],
}

impl<T: Float, S: Source<T>> Kernel<T> for Forward<'_, T, S> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(mut self) {
        let panels = self.b.columns().div_ceil(PANEL);
        let mut panel = 0;
        while panel < panels {
            // SAFETY: the panels exist, and the registers are one; eight of them hide the latency of a
            // multiply-add.
            panel += unsafe {
                match V::LANES {
                    16 if panels - panel >= 4 => self.panels::<V, 4, 2>(panel),
                    16 if panels - panel >= 2 => self.panels::<V, 2, 2>(panel),
                    16 => self.panels::<V, 1, 2>(panel),
                    8 if panels - panel >= 2 => self.panels::<V, 2, 4>(panel),
                    8 => self.panels::<V, 1, 4>(panel),
                    _ => self.panels::<V, 1, 8>(panel),
                }
            };
        }
    }
}

impl<T: Float, S: Source<T>> Forward<'_, T, S> {
    /// Adds the products of `NP` panels from `panel` on, for every row; returns how many panels. The part of
    /// `b` that belongs to a span stays in a core's first cache for all rows of `a`.
    ///
    /// # Safety
    /// See [`Simd`]; the panels exist, and `NR` registers are one.
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
                // SAFETY: a bit is that of a column, for which `b` has a row of whole panels and the row a
                // number; `c` has a panel's registers for each row.
                unsafe {
                    let mut bits = *a.bits.get_unchecked(row * words + span);
                    if bits == 0 {
                        continue;
                    }
                    let first = row * a.columns + span * SPAN;
                    let c = c.as_mut_ptr().add(row * PANEL);
                    let mut sums = [[V::splat(T::zero()); NR]; NP];
                    for (p, sums) in sums.iter_mut().enumerate() {
                        *sums = V::load_all(c.add(p * next));
                    }
                    while bits != 0 {
                        let column = bits.trailing_zeros() as usize;
                        bits &= bits - 1;
                        let value = V::splat(source.at(first + column));
                        for (sums, start) in sums.iter_mut().zip(starts) {
                            let b = start.add(column * PANEL);
                            for (r, sum) in sums.iter_mut().enumerate() {
                                *sum = sum.add_product(value, V::load(b.add(r * V::LANES)));
                            }
                        }
                    }
                    for (p, sums) in sums.into_iter().enumerate() {
                        for (r, sum) in sums.into_iter().enumerate() {
                            sum.store(c.add(p * next + r * V::LANES));
                        }
                    }
                }
            }
        }
        NP
    }
}

/// `c = aᵀ · dy` for the rows of `c` that belong to the columns of `a` (m, k) in the span number `span`:
/// `columns` those of `a`, dy (m, n), c in panels of shape (panels, columns of the span, [`PANEL`]). Every
/// element is one sum over the rows in order.
///
/// # Panics
/// Where the shapes don't fit, or this processor can't run `instructions`.
pub fn sparse_outer<T: Float>(
    instructions: Instructions,
    a: &SparseRows<T>,
    columns: &SparseColumns,
    span: usize,
    dy: &Panels<T>,
    c: &mut [T],
) {
    let width = a.columns.saturating_sub(span * SPAN).min(SPAN);
    assert_eq!((dy.rows(), columns.words), (a.rows, a.rows.div_ceil(SPAN)), "shapes of a product");
    assert_eq!(c.len(), dy.columns().div_ceil(PANEL) * width * PANEL, "shapes of a product");
    let bits = columns.span(span);
    if a.are_bytes {
        let source = (a.bytes.as_slice(), &a.of_bytes);
        instructions.run(Outer { columns: a.columns, source, bits, span, width, dy, c });
    } else {
        let source = a.numbers.as_slice();
        instructions.run(Outer { columns: a.columns, source, bits, span, width, dy, c });
    }
}

struct Outer<'a, T, S> {
    /// Columns of the rows, whose numbers `source` has.
    columns: usize,
    source: S,
    /// Words of the span, see [`SparseColumns::span`].
    bits: &'a [u64],
    span: usize,
    /// Columns of the span.
    width: usize,
    dy: &'a Panels<T>,
    c: &'a mut [T],
}

/// Words of rows that are taken together: what is kept of them stays in a core's first cache.
const WORDS: usize = 2;

impl<T: Float, S: Source<T>> Kernel<T> for Outer<'_, T, S> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(mut self) {
        if self.bits.is_empty() {
            self.c.fill(T::zero());
        }
        let panels = self.dy.columns().div_ceil(PANEL);
        for words in (0..self.bits.len() / SPAN).step_by(WORDS) {
            let mut panel = 0;
            while panel < panels {
                // SAFETY: the panels exist, and the registers are one; eight of them hide the latency of
                // a multiply-add.
                panel += unsafe {
                    match V::LANES {
                        16 if panels - panel >= 4 => self.panels::<V, 4, 2>(words, panel),
                        16 if panels - panel >= 2 => self.panels::<V, 2, 2>(words, panel),
                        16 => self.panels::<V, 1, 2>(words, panel),
                        8 if panels - panel >= 2 => self.panels::<V, 2, 4>(words, panel),
                        8 => self.panels::<V, 1, 4>(words, panel),
                        _ => self.panels::<V, 1, 8>(words, panel),
                    }
                };
            }
        }
    }
}

impl<T: Float, S: Source<T>> Outer<'_, T, S> {
    /// Writes, or adds from the second time on, what the rows of [`WORDS`] words from `words` on come to in `NP` panels from `panel` on; returns
    /// how many panels.
    ///
    /// # Safety
    /// See [`Simd`]; the panels exist, and `NR` registers are one.
    #[inline(always)]
    unsafe fn panels<V: Simd<Number = T>, const NP: usize, const NR: usize>(
        &mut self,
        words: usize,
        panel: usize,
    ) -> usize {
        let stride = self.columns;
        let starts: [*const T; NP] = std::array::from_fn(|p| self.dy.panel(panel + p));
        let squares = &self.bits[words * SPAN..];
        let squares = &squares[..squares.len().min(WORDS * SPAN)];
        // No bit beyond the last row counts, wherever the bits come from.
        let masks: [u64; WORDS] = std::array::from_fn(|word| {
            let left = self.dy.rows().saturating_sub((words + word) * SPAN);
            u64::MAX.checked_shr(SPAN.saturating_sub(left) as u32).unwrap_or(0)
        });
        let c = &mut self.c[panel * self.width * PANEL..][..NP * self.width * PANEL];
        for column in 0..self.width {
            // SAFETY: a bit is that of a row, which has a number in this column and one in each of the
            // columns of `dy`; `c` has a panel's registers for each column.
            unsafe {
                let c = c.as_mut_ptr().add(column * PANEL);
                let next = self.width * PANEL;
                let mut sums = [[V::splat(T::zero()); NR]; NP];
                if words > 0 {
                    for (p, sums) in sums.iter_mut().enumerate() {
                        *sums = V::load_all(c.add(p * next));
                    }
                }
                for (word, square) in squares.chunks_exact(SPAN).enumerate() {
                    let first = (words + word) * SPAN;
                    let place = first * stride + self.span * SPAN + column;
                    let mut bits = *square.get_unchecked(column) & masks[word];
                    while bits != 0 {
                        let row = bits.trailing_zeros() as usize;
                        bits &= bits - 1;
                        let value = V::splat(self.source.at(place + row * stride));
                        for (sums, start) in sums.iter_mut().zip(starts) {
                            let dy = start.add((first + row) * PANEL);
                            for (r, sum) in sums.iter_mut().enumerate() {
                                *sum = sum.add_product(value, V::load(dy.add(r * V::LANES)));
                            }
                        }
                    }
                }
                for (p, sums) in sums.into_iter().enumerate() {
                    for (r, sum) in sums.into_iter().enumerate() {
                        sum.store(c.add(p * next + r * V::LANES));
                    }
                }
            }
        }
        NP
    }
}

use std::marker::PhantomData;

use super::simd::{Kernel, Simd};
use super::{Instructions, vectorized};
use crate::nn::Float;

/// Rows whose values are mostly 0. They store all values, and one bit per value, which is set if the value is not 0.
///
/// The values are stored as floats or, if all of them are pixels, as bytes. The fewer bytes there are to
/// read, the more of the other factor stays in a core's caches. A product that skips zeros equals the full
/// product bit for bit, as long as the other factor is finite and the full product is a single chain of sums.
#[derive(Clone, Debug)]
pub struct SparseRows<T> {
    columns: usize,
    rows: usize,
    are_bytes: bool,
    numbers: Vec<T>,
    bytes: Vec<u8>,
    /// The value of each byte.
    of_bytes: [T; 256],
    /// For each row, one word per span of columns.
    bits: Vec<u64>,
}

/// Number of columns per word of bits.
pub const SPAN: usize = u64::BITS as usize;

/// The value of a pixel byte in training, from 0 to 1. It is a product, which takes less time than the quotient of
/// [`to_unit`](crate::data::to_unit). The bits of trained weights depend on it.
#[inline(always)]
pub fn pixel<T: Float>(byte: u8) -> T {
    T::of_byte(byte) * (T::one() / T::of(255.0))
}

impl<T: Float> SparseRows<T> {
    /// Memory for `rows` rows of `columns` values.
    pub fn with_capacity(rows: usize, columns: usize) -> Self {
        let [numbers, words] = Self::lengths(rows, columns);
        Self {
            columns,
            rows: 0,
            are_bytes: false,
            numbers: vec![T::zero(); numbers],
            bytes: vec![0; numbers],
            of_bytes: std::array::from_fn(|byte| pixel(byte as u8)),
            bits: vec![0; words],
        }
    }

    /// Number of values, and number of words of bits.
    fn lengths(rows: usize, columns: usize) -> [usize; 2] {
        [rows * columns, rows * columns.div_ceil(SPAN)]
    }

    /// Number of bytes that [`Self::with_capacity`] allocates.
    pub fn bytes_of(rows: usize, columns: usize) -> f64 {
        let [numbers, words] = Self::lengths(rows, columns);
        ((size_of::<T>() + 1) * numbers + size_of::<u64>() * words) as f64
    }

    /// The rows in use.
    pub fn view(&self) -> SparseView<'_, T> {
        let Self { columns, rows, .. } = *self;
        let numbers = match self.are_bytes {
            true => Numbers::OfBytes(&self.bytes[..rows * columns], &self.of_bytes),
            false => Numbers::All(&self.numbers[..rows * columns]),
        };
        SparseView { columns, rows, numbers, bits: &self.bits[..rows * columns.div_ceil(SPAN)] }
    }

    /// Prepares `rows` rows to be written, `chunk` at a time, either all as pixel bytes or all as floats.
    ///
    /// # Panics
    /// If there is not enough memory.
    pub fn refill(
        &mut self,
        rows: usize,
        chunk: usize,
        are_bytes: bool,
    ) -> impl Iterator<Item = SparseChunk<'_, T>> + Send {
        let (chunk, columns, words) = (chunk.max(1), self.columns, self.columns.div_ceil(SPAN));
        assert!(rows * columns <= self.numbers.len().min(self.bytes.len()), "not enough memory for the rows");
        (self.rows, self.are_bytes) = (rows, are_bytes);
        let length = (chunk * columns).max(1);
        let numbers = self.numbers[..rows * columns].chunks_mut(length);
        let bytes = self.bytes[..rows * columns].chunks_mut(length);
        let bits = self.bits[..rows * words].chunks_mut((chunk * words).max(1));
        let parts = numbers.zip(bytes).zip(bits);
        parts.map(move |((numbers, bytes), bits)| SparseChunk { columns, are_bytes, numbers, bytes, bits })
    }
}

/// A view of rows, for products.
#[derive(Clone, Copy, Debug)]
pub struct SparseView<'a, T> {
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) numbers: Numbers<'a, T>,
    /// For each row, one word per span of columns. Bits beyond the last column are 0.
    pub(super) bits: &'a [u64],
}

/// The values of the rows, row by row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Numbers<'a, T> {
    /// Floats.
    All(&'a [T]),
    /// Bytes, and the value of each byte.
    OfBytes(&'a [u8], &'a [T; 256]),
}

impl<T> SparseView<'_, T> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of words per row.
    pub(super) fn words(&self) -> usize {
        self.columns.div_ceil(SPAN)
    }
}

/// A bit mask of the nonzero values of some rows, which are stored elsewhere.
#[derive(Clone, Debug)]
pub struct NonzeroBits {
    columns: usize,
    rows: usize,
    bits: Vec<u64>,
}

impl NonzeroBits {
    /// The mask of whole rows of `columns` values.
    ///
    /// # Panics
    /// If the last row is not complete.
    pub fn of<T: Float>(numbers: &[T], columns: usize) -> Self {
        let (words, rows) = (columns.div_ceil(SPAN), numbers.len() / columns.max(1));
        assert_eq!(rows * columns, numbers.len(), "the last row is not complete");
        let mut bits = vec![0; rows * words];
        for (values, bits) in numbers.chunks_exact(columns.max(1)).zip(bits.chunks_exact_mut(words.max(1))) {
            Instructions::best().run(Bits { values, bits });
        }
        Self { columns, rows, bits }
    }

    /// Number of nonzero values.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Rows of these `numbers`.
    ///
    /// # Panics
    /// If their number differs from the number of bits.
    pub fn rows_of<'a, T>(&'a self, numbers: &'a [T]) -> SparseView<'a, T> {
        let Self { columns, rows, .. } = *self;
        assert_eq!(numbers.len(), rows * columns, "number of values and bits");
        SparseView { columns, rows, numbers: Numbers::All(numbers), bits: &self.bits }
    }
}

/// A chunk of rows to be written.
pub struct SparseChunk<'a, T> {
    columns: usize,
    are_bytes: bool,
    numbers: &'a mut [T],
    bytes: &'a mut [u8],
    bits: &'a mut [u64],
}

impl<T: Float> SparseChunk<'_, T> {
    /// Writes a row of floats with `write`.
    ///
    /// # Panics
    /// If the rows are written as bytes.
    pub fn write(&mut self, row: usize, write: impl FnOnce(&mut [T])) {
        assert!(!self.are_bytes, "the rows are written as bytes");
        let words = self.columns.div_ceil(SPAN);
        let values = &mut self.numbers[row * self.columns..][..self.columns];
        write(values);
        Instructions::best().run(Bits { values, bits: &mut self.bits[row * words..][..words] });
    }

    /// Writes a row of [`pixel`] bytes.
    ///
    /// # Panics
    /// If the rows are written as floats, or the number of bytes is not the number of columns.
    pub fn write_bytes(&mut self, row: usize, bytes: &[u8]) {
        assert!(self.are_bytes, "the rows are written as floats");
        let words = self.columns.div_ceil(SPAN);
        self.bytes[row * self.columns..][..self.columns].copy_from_slice(bytes);
        let bits = &mut self.bits[row * words..][..words];
        Instructions::best().run(BitsOfBytes { bytes, bits, numbers: PhantomData::<T> });
    }
}

/// Sets the bits of nonzero `bytes`.
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
            // SAFETY: guaranteed by the caller.
            *bits = unsafe { V::nonzero_bytes(bytes) };
        }
    }
}

/// Sets the bits of nonzero `values`.
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
                // SAFETY: guaranteed by the caller.
                *bits |= unsafe { u64::from(V::load_first(some).nonzero()) } << (index * V::LANES);
            }
        }
    }
}

/// The nonzero values of some [`SparseRows`], column by column, with one bit per row.
#[derive(Clone, Debug)]
pub struct SparseColumns {
    spans: usize,
    /// Number of words per column.
    pub(super) words: usize,
    /// For each span of columns and each word of rows, one word per column.
    bits: Vec<u64>,
}

impl SparseColumns {
    /// Memory for the columns of up to `rows` rows.
    pub fn with_capacity(rows: usize, columns: usize) -> Self {
        Self { spans: columns.div_ceil(SPAN), words: 0, bits: vec![0; Self::length(rows, columns)] }
    }

    /// Number of words of bits.
    fn length(rows: usize, columns: usize) -> usize {
        columns.div_ceil(SPAN) * rows.div_ceil(SPAN) * SPAN
    }

    /// Number of bytes that [`Self::with_capacity`] allocates.
    pub fn bytes_of(rows: usize, columns: usize) -> f64 {
        (size_of::<u64>() * Self::length(rows, columns)) as f64
    }

    /// Prepares the columns of `rows` rows to be written, one chunk per span.
    ///
    /// # Panics
    /// If there is not enough memory.
    pub fn refill(&mut self, rows: usize) -> impl Iterator<Item = SparseSpan<'_>> + Send {
        self.words = rows.div_ceil(SPAN);
        let length = self.words * SPAN;
        let bits = &mut self.bits[..self.spans * length];
        bits.chunks_mut(length.max(1)).enumerate().map(|(span, bits)| SparseSpan { span, bits })
    }

    /// The words of a span. For each word of rows, there is one per column.
    pub(super) fn span(&self, span: usize) -> &[u64] {
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
    /// Transposes the bits of `rows`.
    pub fn fill<T: Float>(self, rows: SparseView<T>) {
        let words = rows.words();
        let mut left = rows.bits;
        for square in self.bits.chunks_exact_mut(SPAN) {
            let (these, rest) = left.split_at(left.len().min(SPAN * words));
            left = rest;
            square.fill(0);
            for (to, row) in square.iter_mut().zip(these.chunks_exact(words)) {
                *to = row[self.span];
            }
            if let Some(square) = square.first_chunk_mut() {
                vectorized!(transpose(square));
            }
        }
    }
}

/// Bit c of word r becomes bit r of word c. Squares of half the side are swapped recursively (Warren,
/// *Hacker's Delight*, 2nd edition, section 7-3).
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

use std::mem::MaybeUninit;
use std::ops::Range;

use super::simd::{Kernel, Simd};
use super::{Instructions, PANEL, Panels, vectorized};
use crate::nn::Float;

/// A number that is not 0, and the column where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Entry<T> {
    column: u32,
    value: T,
}

/// Rows of which most numbers are 0: of each row the others, in order of their columns.
///
/// What is left out of a sum of products adds nothing to it, so a product with these rows has the
/// bits of the one with all numbers, wherever the other factor is finite.
#[derive(Clone, Debug)]
pub struct SparseRows<T> {
    columns: usize,
    rows: usize,
    entries: Vec<Entry<T>>,
    /// Of each row, how many entries come before each multiple of [`SPAN`], and how many there are.
    marks: Vec<u32>,
}

/// Columns between two marks: a product with the transpose takes so many at a time.
pub const SPAN: usize = 64;

/// Numbers that are looked at together for whether all are 0.
const LOOKED_AT: usize = 8;

impl<T: Float> SparseRows<T> {
    /// Room for `rows` of `columns`.
    pub fn with_capacity(rows: usize, columns: usize) -> Self {
        assert!(u32::try_from(columns).is_ok(), "columns that 32 bits count");
        let marks = columns.div_ceil(SPAN) + 1;
        Self {
            columns,
            rows: 0,
            entries: vec![Entry::default(); rows * columns],
            marks: vec![0; rows * marks],
        }
    }

    /// Rows in use.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Forgets all rows.
    pub fn clear(&mut self) {
        self.rows = 0;
    }

    /// Adds `row`, each of its numbers as `value` has it, which makes 0 of 0 alone.
    ///
    /// # Panics
    /// Where its length is another, or there is no room.
    pub fn push<S: Copy + Default + PartialEq>(&mut self, row: &[S], value: impl Fn(S) -> T) {
        assert_eq!(row.len(), self.columns, "columns of a row");
        let stride = self.stride();
        let entries = &mut self.entries[self.rows * self.columns..][..self.columns];
        let marks = &mut self.marks[self.rows * stride..][..stride];
        let zero = S::default();
        let count = vectorized(|| {
            let (entries, mut count) = (entries.as_mut_ptr(), 0);
            for (index, (mark, span)) in marks.iter_mut().zip(row.chunks(SPAN)).enumerate() {
                *mark = count as u32;
                let mut nonzero = 0_u64;
                for (place, some) in span.chunks(LOOKED_AT).enumerate() {
                    let bits = some.iter().enumerate();
                    let bits = bits.fold(0, |bits, (bit, &number)| bits | u64::from(number != zero) << bit);
                    nonzero |= bits << (place * LOOKED_AT);
                }
                while nonzero != 0 {
                    let place = nonzero.trailing_zeros() as usize;
                    let entry = Entry { column: (index * SPAN + place) as u32, value: value(span[place]) };
                    // SAFETY: one for each column at most, and there is room for each.
                    unsafe { entries.add(count).write(entry) };
                    count += 1;
                    nonzero &= nonzero - 1;
                }
            }
            count
        });
        marks[stride - 1] = count as u32;
        self.rows += 1;
    }

    fn stride(&self) -> usize {
        self.columns.div_ceil(SPAN) + 1
    }

    /// The entries of `row` in these spans.
    fn spans(&self, row: usize, spans: Range<usize>) -> &[Entry<T>] {
        let marks = &self.marks[row * self.stride()..][..self.stride()];
        let entries = &self.entries[row * self.columns..][..self.columns];
        &entries[marks[spans.start] as usize..marks[spans.end] as usize]
    }
}

/// `c = a · b + bias`: a (m, k) sparse, b (k, n) in panels, bias (n), c (m, n) in row order. Every sum
/// runs over the columns of `a` in order; the bias comes last.
///
/// # Panics
/// Where the shapes don't fit, or this processor can't run `instructions`.
pub fn sparse_matmul<T: Float>(
    instructions: Instructions,
    a: &SparseRows<T>,
    b: &Panels<T>,
    bias: &[T],
    c: &mut [T],
) {
    assert_eq!((a.columns, b.columns()), (b.rows(), bias.len()), "shapes of a product");
    assert_eq!(c.len(), a.rows * bias.len(), "shapes of a product");
    instructions.run(Forward { a, b, bias, c });
}

struct Forward<'a, T> {
    a: &'a SparseRows<T>,
    b: &'a Panels<T>,
    bias: &'a [T],
    c: &'a mut [T],
}

impl<T: Float> Kernel<T> for Forward<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(mut self) {
        // SAFETY: the caller's.
        unsafe {
            match V::LANES {
                16 => self.blocks::<V, 4, 2>(),
                8 => self.blocks::<V, 2, 4>(),
                _ => self.blocks::<V, 1, 8>(),
            }
        }
    }
}

impl<T: Float> Forward<'_, T> {
    /// Eight registers of sums, `NP` panels of `NR` registers, hide the latency of a multiply-add; the
    /// part of `b` that all rows of `a` then read stays in a core's second cache.
    ///
    /// # Safety
    /// See [`Simd`]; `NR` registers are a panel.
    #[inline(always)]
    unsafe fn blocks<V: Simd<Number = T>, const NP: usize, const NR: usize>(&mut self) {
        let panels = self.b.columns().div_ceil(PANEL);
        let mut panel = 0;
        while panel < panels {
            // SAFETY: the panels exist.
            unsafe {
                if panels - panel >= NP {
                    self.block::<V, NP, NR>(panel);
                    panel += NP;
                } else {
                    self.block::<V, 1, NR>(panel);
                    panel += 1;
                }
            }
        }
    }

    /// The columns of `NP` panels from `panel` on, for every row.
    ///
    /// # Safety
    /// See [`Self::blocks`]; the panels exist.
    #[inline(always)]
    unsafe fn block<V: Simd<Number = T>, const NP: usize, const NR: usize>(&mut self, panel: usize) {
        let n = self.bias.len();
        let (first, right) = (panel * PANEL, self.b.right());
        let starts: [*const T; NP] = std::array::from_fn(|p| right.at((panel + p) * PANEL));
        let width = (NP * PANEL).min(n - first);
        for row in 0..self.a.rows {
            let mut numbers = [[T::zero(); PANEL]; NP];
            // SAFETY: the columns of entries are rows of `b`, whose panels have `NR` registers each.
            unsafe {
                let mut sums = [[V::splat(T::zero()); NR]; NP];
                for entry in self.a.spans(row, 0..self.a.stride() - 1) {
                    let value = V::splat(entry.value);
                    for (sums, start) in sums.iter_mut().zip(starts) {
                        let b = start.add(entry.column as usize * PANEL);
                        for (r, sum) in sums.iter_mut().enumerate() {
                            *sum = sum.add_product(value, V::load(b.add(r * V::LANES)));
                        }
                    }
                }
                for (sums, numbers) in sums.into_iter().zip(&mut numbers) {
                    for (r, sum) in sums.into_iter().enumerate() {
                        sum.store(numbers.as_mut_ptr().add(r * V::LANES));
                    }
                }
            }
            let c = &mut self.c[row * n + first..][..width];
            let sums = numbers.as_flattened().iter().zip(&self.bias[first..]);
            c.iter_mut().zip(sums).for_each(|(c, (&sum, &bias))| *c = bias + sum);
        }
    }
}

/// `c = Σ aᵀ · dy` over `parts`, for the rows of `c` (k, n) that belong to the span number `span`: each
/// a (m, k) sparse, dy (m, n) in panels. Every element is one sum over the rows of the parts in order.
///
/// # Panics
/// Where the shapes don't fit, or this processor can't run `instructions`.
pub fn sparse_outer<'a, T: Float>(
    instructions: Instructions,
    parts: impl Iterator<Item = (&'a SparseRows<T>, &'a Panels<T>)>,
    span: usize,
    n: usize,
    c: &mut [T],
) {
    instructions.run(Outer { parts, span, n, c });
}

struct Outer<'c, T, P> {
    parts: P,
    span: usize,
    n: usize,
    c: &'c mut [T],
}

/// Rows of the parts that are taken together: what is kept of them stays in a core's first cache.
const ROWS: usize = 128;

/// The entries of some rows, column by column, each with the number of its row. A list is a little longer
/// than needed, so that the beginnings of the lists are not all on the same few lines of the cache.
struct Columns<T> {
    entries: [[MaybeUninit<(u32, T)>; ROWS + 8]; SPAN],
    counts: [usize; SPAN],
    /// Where each row of dy begins, and from there its next panel.
    rows: [(*const T, usize); ROWS],
    count: usize,
}

impl<'a, T: Float, P: Iterator<Item = (&'a SparseRows<T>, &'a Panels<T>)>> Kernel<T> for Outer<'_, T, P> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        let Self { parts, span, n, c } = self;
        let mut columns = Columns {
            entries: [[const { MaybeUninit::uninit() }; ROWS + 8]; SPAN],
            counts: [0; SPAN],
            rows: [(std::ptr::null(), 0); ROWS],
            count: 0,
        };
        c.fill(T::zero());
        for (a, dy) in parts {
            let rows = a.columns.checked_sub(span * SPAN).map(|left| left.min(SPAN) * n);
            assert!(dy.rows() == a.rows && dy.columns() == n && rows == Some(c.len()), "shapes of a product");
            for row in 0..a.rows {
                for entry in a.spans(row, span..span + 1) {
                    let column = entry.column as usize % SPAN;
                    // SAFETY: a row has at most one entry in a column, and there are at most `ROWS`.
                    unsafe {
                        let place = columns.counts.get_unchecked_mut(column);
                        let list = columns.entries.get_unchecked_mut(column);
                        list.get_unchecked_mut(*place).write((columns.count as u32, entry.value));
                        *place += 1;
                    }
                }
                columns.rows[columns.count] = (dy.right().at(0).wrapping_add(row * PANEL), a.rows * PANEL);
                columns.count += 1;
                if columns.count == ROWS {
                    // SAFETY: the caller's; the entries that are counted are written, the rows exist.
                    unsafe { columns.add_to::<V>(n, c) };
                    (columns.counts, columns.count) = ([0; SPAN], 0);
                }
            }
        }
        // SAFETY: as above.
        unsafe { columns.add_to::<V>(n, c) };
    }
}

impl<T: Float> Columns<T> {
    /// Adds the products of what is listed to `c`.
    ///
    /// # Safety
    /// See [`Simd`]; as many entries are written as are counted, each with a row that exists, and the
    /// panels of a row cover `n` numbers.
    #[inline(always)]
    unsafe fn add_to<V: Simd<Number = T>>(&self, n: usize, c: &mut [T]) {
        let panels = n.div_ceil(PANEL);
        let mut panel = 0;
        while panel < panels {
            // SAFETY: the panels exist; eight registers hide the latency of a multiply-add.
            panel += unsafe {
                match V::LANES {
                    16 if panels - panel >= 4 => self.add_panels::<V, 4, 2>(panel, n, c),
                    16 if panels - panel >= 2 => self.add_panels::<V, 2, 2>(panel, n, c),
                    16 => self.add_panels::<V, 1, 2>(panel, n, c),
                    8 if panels - panel >= 2 => self.add_panels::<V, 2, 4>(panel, n, c),
                    8 => self.add_panels::<V, 1, 4>(panel, n, c),
                    _ => self.add_panels::<V, 1, 8>(panel, n, c),
                }
            };
        }
    }

    /// The part of `c` in `NP` panels of `NR` registers from `panel` on; returns how many panels.
    ///
    /// # Safety
    /// See [`Self::add_to`]; the panels exist.
    #[inline(always)]
    unsafe fn add_panels<V: Simd<Number = T>, const NP: usize, const NR: usize>(
        &self,
        panel: usize,
        n: usize,
        c: &mut [T],
    ) -> usize {
        let first = panel * PANEL;
        let width = (NP * PANEL).min(n - first);
        let mut numbers = [[T::zero(); PANEL]; NP];
        // SAFETY: the caller's; the array covers the registers, and so does `c` where it is as wide.
        unsafe {
            let mut dys = [[std::ptr::null(); NP]; ROWS];
            for (dys, &(row, next)) in dys.iter_mut().zip(&self.rows[..self.count]) {
                for (p, dy) in dys.iter_mut().enumerate() {
                    *dy = row.wrapping_add((panel + p) * next);
                }
            }
            for ((c, list), &count) in c.chunks_exact_mut(n).zip(&self.entries).zip(&self.counts) {
                let c = &mut c[first..first + width];
                let is_whole = width == NP * PANEL;
                if !is_whole {
                    numbers.as_flattened_mut()[..width].copy_from_slice(c);
                }
                let from = if is_whole { c.as_ptr() } else { numbers.as_ptr().cast() };
                let mut sums = [[V::splat(T::zero()); NR]; NP];
                for (p, sums) in sums.iter_mut().enumerate() {
                    *sums = V::load_all(from.add(p * PANEL));
                }
                for entry in list.get_unchecked(..count) {
                    let (row, value) = entry.assume_init();
                    let value = V::splat(value);
                    for (sums, &dy) in sums.iter_mut().zip(dys.get_unchecked(row as usize)) {
                        for (r, sum) in sums.iter_mut().enumerate() {
                            *sum = sum.add_product(value, V::load(dy.add(r * V::LANES)));
                        }
                    }
                }
                let to = if is_whole { c.as_mut_ptr() } else { numbers.as_mut_ptr().cast() };
                for (p, sums) in sums.into_iter().enumerate() {
                    for (r, sum) in sums.into_iter().enumerate() {
                        sum.store(to.add(p * PANEL + r * V::LANES));
                    }
                }
                if !is_whole {
                    c.copy_from_slice(&numbers.as_flattened()[..width]);
                }
            }
        }
        NP
    }
}

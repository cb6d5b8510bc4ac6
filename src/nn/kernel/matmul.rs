#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m256d, __m512, __m512d};

use ndarray::{ArrayView2, ArrayViewMut2};

use super::simd::{Portable, Simd};
use super::{PANEL, Panels};
use crate::nn::Float;

/// Lanes of the widest register.
const LANES_MAX: usize = 16;

/// The kinds of kernel, best last. All but [`Instructions::Portable`] round alike: every element
/// is one chain of fused multiply-adds in the order of the inner dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// What every processor of the architecture has.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

impl Instructions {
    /// The kernels this processor can run, best last.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::Portable, Self::Avx2, Self::Avx512].into_iter().filter(|kind| kind.is_available())
    }

    /// The best kernel of this processor.
    pub fn best() -> Self {
        if Self::Avx512.is_available() {
            Self::Avx512
        } else if Self::Avx2.is_available() {
            Self::Avx2
        } else {
            Self::Portable
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Self::Portable
    }
}

/// `c = a · b`, or `c += a · b` with `accumulate`. `a` (m, k) may have any strides, so a transposed
/// view costs nothing; `b` is (k, n); the rows of `c` (m, n) are contiguous.
///
/// Every element is summed over k from first to last, on its own: splitting m or n among threads
/// changes no bit.
pub fn matmul<T: Float>(a: ArrayView2<T>, b: &Panels<T>, c: &mut ArrayViewMut2<T>, accumulate: bool) {
    matmul_with(Instructions::best(), a, b, c, accumulate);
}

/// [`matmul`] by a kernel of the caller's choice.
///
/// # Panics
/// Where the shapes don't fit, the rows of `c` are not contiguous, or this processor can't run
/// `instructions`.
pub fn matmul_with<T: Float>(
    instructions: Instructions,
    a: ArrayView2<T>,
    b: &Panels<T>,
    c: &mut ArrayViewMut2<T>,
    accumulate: bool,
) {
    let (m, k) = a.dim();
    assert_eq!((k, m, b.columns()), (b.rows(), c.nrows(), c.ncols()), "shapes of a product");
    assert!(c.ncols() <= 1 || c.strides()[1] == 1, "rows of c are contiguous");
    assert!(instructions.is_available(), "{instructions:?} is not available");

    for index in 0..b.panels() {
        let first = index * PANEL;
        let product = PanelProduct {
            rows: m,
            depth: k,
            a: a.as_ptr(),
            a_row: a.strides()[0],
            a_column: a.strides()[1],
            b: b.panel(index).as_ptr(),
            // SAFETY: `first` is a column of `c`, and `c` has a row or the offset is never used.
            c: unsafe { c.as_mut_ptr().add(first) },
            c_row: c.strides()[0],
            columns: PANEL.min(c.ncols() - first),
            accumulate,
        };
        // SAFETY: the pointers cover the shapes just asserted, `c` is borrowed mutably and so
        // overlaps neither `a` nor `b`, and the processor has the instructions.
        unsafe { product.run(instructions) };
    }
}

/// `c[.., columns] = a · b` for one panel of `b`. Strides count elements.
#[derive(Clone, Copy)]
struct PanelProduct<T> {
    rows: usize,
    depth: usize,
    a: *const T,
    a_row: isize,
    a_column: isize,
    b: *const T,
    c: *mut T,
    c_row: isize,
    columns: usize,
    accumulate: bool,
}

impl<T: Float> PanelProduct<T> {
    /// # Safety
    /// `a` has `rows` × `depth` elements at its strides, `b` has `depth` × [`PANEL`], `c` has
    /// `rows` × `columns` and overlaps neither, and the processor has `instructions`.
    unsafe fn run(self, instructions: Instructions) {
        // SAFETY: the caller's; a cast changes no type, since `T` is the one it casts to.
        unsafe {
            match instructions {
                Instructions::Portable => self.tiles::<Portable<T>, 4, 1>(),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 if is_f32::<T>() => self.cast().avx2_f32(),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 => self.cast().avx2_f64(),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512 if is_f32::<T>() => self.cast().avx512_f32(),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512 => self.cast().avx512_f64(),
                #[cfg(not(target_arch = "x86_64"))]
                Instructions::Avx2 | Instructions::Avx512 => unreachable!("asserted to be available"),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn cast<U>(self) -> PanelProduct<U> {
        assert_eq!(size_of::<T>(), size_of::<U>());
        PanelProduct {
            rows: self.rows,
            depth: self.depth,
            a: self.a.cast(),
            a_row: self.a_row,
            a_column: self.a_column,
            b: self.b.cast(),
            c: self.c.cast(),
            c_row: self.c_row,
            columns: self.columns,
            accumulate: self.accumulate,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn is_f32<T: 'static>() -> bool {
    std::any::TypeId::of::<T>() == std::any::TypeId::of::<f32>()
}

/// Tiles of 8 rows and 2 registers keep 16 sums in 32 registers.
#[cfg(target_arch = "x86_64")]
impl PanelProduct<f32> {
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512_f32(self) {
        // SAFETY: the caller's.
        unsafe { self.tiles::<__m512, 8, 2>() }
    }

    /// Tiles of 6 rows and 2 registers keep 12 sums in 16 registers.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2_f32(self) {
        // SAFETY: the caller's.
        unsafe { self.tiles::<__m256, 6, 2>() }
    }
}

#[cfg(target_arch = "x86_64")]
impl PanelProduct<f64> {
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512_f64(self) {
        // SAFETY: the caller's.
        unsafe { self.tiles::<__m512d, 8, 2>() }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2_f64(self) {
        // SAFETY: the caller's.
        unsafe { self.tiles::<__m256d, 6, 2>() }
    }
}

impl<T: Float> PanelProduct<T> {
    /// Covers `c` with tiles of `MR` rows and `NR` registers, lower ones where the rows run out.
    ///
    /// # Safety
    /// See [`Self::run`] and [`Simd`].
    #[inline(always)]
    unsafe fn tiles<V: Simd<Number = T>, const MR: usize, const NR: usize>(self) {
        for first in (0..self.columns).step_by(NR * V::LANES) {
            let mut row = 0;
            // SAFETY: each tile lies inside the product, which the caller vouches for.
            unsafe {
                while row + MR <= self.rows {
                    self.tile::<V, MR, NR>(row, first);
                    row += MR;
                }
                while row + 2 <= self.rows {
                    self.tile::<V, 2, NR>(row, first);
                    row += 2;
                }
                if row < self.rows {
                    self.tile::<V, 1, NR>(row, first);
                }
            }
        }
    }

    /// The tile of `c` at (`row`, `first`), summed in registers.
    ///
    /// # Safety
    /// See [`Self::run`] and [`Simd`]; the rows exist, and `first` is in the panel.
    #[inline(always)]
    unsafe fn tile<V: Simd<Number = T>, const MR: usize, const NR: usize>(self, row: usize, first: usize) {
        // SAFETY: `row + MR <= rows` and `first + NR · LANES <= PANEL`, so every read of `a` and
        // `b` and every write of `c` (cut to `columns`) lies within what the caller vouches for.
        unsafe {
            let mut sums = [[V::splat(T::zero()); NR]; MR];
            let mut a = self.a.offset(row as isize * self.a_row);
            let mut b = self.b.add(first);
            for _ in 0..self.depth {
                let mut columns = [V::splat(T::zero()); NR];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = V::load(b.add(j * V::LANES));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let factor = V::splat(*a.offset(i as isize * self.a_row));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = sum.add_product(factor, column);
                    }
                }
                a = a.offset(self.a_column);
                b = b.add(PANEL);
            }
            for (i, sums) in sums.into_iter().enumerate() {
                let c = self.c.offset((row + i) as isize * self.c_row).add(first);
                for (j, sum) in sums.into_iter().enumerate() {
                    let width = V::LANES.min((self.columns - first).saturating_sub(j * V::LANES));
                    self.put(sum, c.add((j * V::LANES).min(self.columns - first)), width);
                }
            }
        }
    }

    /// Writes, or adds, the first `width` numbers of `sum` to `c`.
    #[inline(always)]
    unsafe fn put<V: Simd<Number = T>>(self, sum: V, c: *mut T, width: usize) {
        // SAFETY: `c` has room for `width` numbers; the array has it for all lanes.
        unsafe {
            if width == V::LANES {
                let sum = if self.accumulate { V::load(c).add(sum) } else { sum };
                sum.store(c);
                return;
            }
            let mut numbers = [T::zero(); LANES_MAX];
            sum.store(numbers.as_mut_ptr());
            for (lane, &number) in numbers.iter().enumerate().take(width) {
                let c = c.add(lane);
                *c = if self.accumulate { *c + number } else { number };
            }
        }
    }
}

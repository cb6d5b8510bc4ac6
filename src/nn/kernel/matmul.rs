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
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Self::Portable
    }
}

/// Runs `work` compiled for the widest vectors this processor has. The compiler fuses no
/// multiplication with an addition by itself, so every processor gets the same bits.
#[inline]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        fn avx512<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        #[target_feature(enable = "avx2")]
        fn avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        match Instructions::best() {
            // SAFETY: the processor has the instructions.
            Instructions::Avx512 => unsafe { avx512(work) },
            // SAFETY: the processor has the instructions.
            Instructions::Avx2 => unsafe { avx2(work) },
            Instructions::Portable => work(),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    work()
}

/// `c = Σ a · b` over `pairs`, or `c += Σ a · b` with `accumulate`. Each `a` (m, k) may have any
/// strides, so a transposed view costs nothing; each `b` is (k, n), k may differ from pair to pair;
/// the rows of `c` (m, n) are contiguous.
///
/// Every element is summed on its own, over the pairs in order and k from first to last: splitting
/// m or n among threads changes no bit.
pub fn matmul<'a, T: Float>(
    pairs: impl IntoIterator<Item = (ArrayView2<'a, T>, &'a Panels<T>)>,
    c: &mut ArrayViewMut2<T>,
    accumulate: bool,
) {
    matmul_with(Instructions::best(), pairs, c, accumulate);
}

/// [`matmul`] by a kernel of the caller's choice.
///
/// # Panics
/// Where the shapes don't fit, the rows of `c` are not contiguous, or this processor can't run
/// `instructions`.
pub fn matmul_with<'a, T: Float>(
    instructions: Instructions,
    pairs: impl IntoIterator<Item = (ArrayView2<'a, T>, &'a Panels<T>)>,
    c: &mut ArrayViewMut2<T>,
    mut accumulate: bool,
) {
    assert!(instructions.is_available(), "{instructions:?} is not available");
    assert!(c.ncols() <= 1 || c.strides()[1] == 1, "rows of c are contiguous");
    let mut pairs = pairs.into_iter();
    loop {
        let mut factors = [Factors::EMPTY; FACTORS_MAX];
        let mut count = 0;
        for (slot, (a, b)) in factors.iter_mut().zip(&mut pairs) {
            assert_eq!(
                (a.nrows(), a.ncols(), c.ncols()),
                (c.nrows(), b.rows(), b.columns()),
                "shapes of a product"
            );
            *slot = Factors::of(&a, b);
            count += 1;
        }
        if count == 0 && accumulate {
            return;
        }
        let product = Product {
            rows: c.nrows(),
            columns: c.ncols(),
            factors: &factors[..count],
            c: c.as_mut_ptr(),
            c_row: c.strides()[0],
            accumulate,
        };
        // SAFETY: the pointers cover the shapes just asserted, `c` is borrowed mutably and so
        // overlaps no factor, and the processor has the instructions.
        unsafe { product.run(instructions) };
        if count < FACTORS_MAX {
            return;
        }
        accumulate = true;
    }
}

/// Pairs whose product is summed in registers before `c` is touched.
const FACTORS_MAX: usize = 16;

/// One pair of [`matmul`]. Strides count elements.
#[derive(Clone, Copy)]
struct Factors<T> {
    depth: usize,
    a: *const T,
    a_row: isize,
    a_column: isize,
    b: *const T,
}

impl<T: Float> Factors<T> {
    const EMPTY: Self = Self { depth: 0, a: std::ptr::null(), a_row: 0, a_column: 0, b: std::ptr::null() };

    fn of(a: &ArrayView2<T>, b: &Panels<T>) -> Self {
        Self {
            depth: a.ncols(),
            a: a.as_ptr(),
            a_row: a.strides()[0],
            a_column: a.strides()[1],
            b: b.values().as_ptr(),
        }
    }
}

/// `c = Σ a · b` for factors that fit.
struct Product<'a, T> {
    rows: usize,
    columns: usize,
    factors: &'a [Factors<T>],
    c: *mut T,
    c_row: isize,
    accumulate: bool,
}

impl<T: Float> Product<'_, T> {
    /// # Safety
    /// Each `a` has `rows` × `depth` elements at its strides, each `b` the panels of `depth` ×
    /// `columns`, `c` has `rows` × `columns` and overlaps none, and the processor has
    /// `instructions`.
    unsafe fn run(&self, instructions: Instructions) {
        // SAFETY: the caller's; a cast changes no type, since `T` is the one it casts to.
        unsafe {
            match instructions {
                Instructions::Portable => self.tiles::<Portable<T>, 4, 1>(),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 if is_f32::<T>() => self.cast::<f32>().avx2_f32(),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 => self.cast::<f64>().avx2_f64(),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512 if is_f32::<T>() => self.cast::<f32>().avx512_f32(),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512 => self.cast::<f64>().avx512_f64(),
                #[cfg(not(target_arch = "x86_64"))]
                Instructions::Avx2 | Instructions::Avx512 => unreachable!("asserted to be available"),
            }
        }
    }

    /// The same product, seen as one of `U`.
    ///
    /// # Safety
    /// `U` is `T`.
    #[cfg(target_arch = "x86_64")]
    unsafe fn cast<U: Float>(&self) -> &Product<'_, U> {
        assert_eq!(std::any::TypeId::of::<T>(), std::any::TypeId::of::<U>());
        // SAFETY: the types are the same.
        unsafe { &*std::ptr::from_ref(self).cast() }
    }
}

#[cfg(target_arch = "x86_64")]
fn is_f32<T: 'static>() -> bool {
    std::any::TypeId::of::<T>() == std::any::TypeId::of::<f32>()
}

/// Tiles of 8 rows and 2 registers keep 16 sums in 32 registers.
#[cfg(target_arch = "x86_64")]
impl Product<'_, f32> {
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512_f32(&self) {
        // SAFETY: the caller's.
        unsafe { self.tiles::<__m512, 8, 2>() }
    }

    /// Tiles of 6 rows and 2 registers keep 12 sums in 16 registers.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2_f32(&self) {
        // SAFETY: the caller's.
        unsafe { self.tiles::<__m256, 6, 2>() }
    }
}

#[cfg(target_arch = "x86_64")]
impl Product<'_, f64> {
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512_f64(&self) {
        // SAFETY: the caller's.
        unsafe { self.tiles::<__m512d, 8, 2>() }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2_f64(&self) {
        // SAFETY: the caller's.
        unsafe { self.tiles::<__m256d, 6, 2>() }
    }
}

impl<T: Float> Product<'_, T> {
    /// Covers `c` with tiles of `MR` rows and `NR` registers, lower ones where the rows run out.
    ///
    /// # Safety
    /// See [`Self::run`] and [`Simd`].
    #[inline(always)]
    unsafe fn tiles<V: Simd<Number = T>, const MR: usize, const NR: usize>(&self) {
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
    /// See [`Self::run`] and [`Simd`]; the rows and the column `first` exist, and `first` is a
    /// multiple of `NR` · [`Simd::LANES`], which divides [`PANEL`].
    #[inline(always)]
    unsafe fn tile<V: Simd<Number = T>, const MR: usize, const NR: usize>(&self, row: usize, first: usize) {
        // SAFETY: `row + MR <= rows`, and a tile ends in the panel it begins in, so every read of
        // `a` and `b` and every write of `c` (cut to `columns`) lies within what the caller vouches
        // for.
        unsafe {
            let mut sums = [[V::splat(T::zero()); NR]; MR];
            for factors in self.factors {
                let mut a = factors.a.offset(row as isize * factors.a_row);
                let mut b = factors.b.wrapping_add(first / PANEL * PANEL * factors.depth + first % PANEL);
                for _ in 0..factors.depth {
                    let mut columns = [V::splat(T::zero()); NR];
                    for (j, column) in columns.iter_mut().enumerate() {
                        *column = V::load(b.add(j * V::LANES));
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let factor = V::splat(*a.offset(i as isize * factors.a_row));
                        for (sum, column) in sums.iter_mut().zip(columns) {
                            *sum = sum.add_product(factor, column);
                        }
                    }
                    // Behind the last step these point past the end and are not read.
                    a = a.wrapping_offset(factors.a_column);
                    b = b.wrapping_add(PANEL);
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                let c = self.c.offset((row + i) as isize * self.c_row).add(first);
                for (j, sum) in sums.into_iter().enumerate() {
                    let start = (j * V::LANES).min(self.columns - first);
                    self.put(sum, c.add(start), V::LANES.min(self.columns - first - start));
                }
            }
        }
    }

    /// Writes, or adds, the first `width` numbers of `sum` to `c`.
    ///
    /// # Safety
    /// `c` has room for them; and see [`Simd`].
    #[inline(always)]
    unsafe fn put<V: Simd<Number = T>>(&self, sum: V, c: *mut T, width: usize) {
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

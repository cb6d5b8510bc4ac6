/// A register of numbers, as wide as some kind of processor has them.
///
/// # Safety
/// All functions of an implementation for vector instructions may only run on a processor that has
/// them, inlined into a function with that target feature; pointers must cover [`Simd::LANES`]
/// numbers.
pub unsafe trait Simd: Copy {
    /// One of its numbers.
    type Number: Copy;

    /// Numbers in it.
    const LANES: usize;

    /// The same number in each lane.
    unsafe fn splat(value: Self::Number) -> Self;
    /// The numbers from `from` on.
    unsafe fn load(from: *const Self::Number) -> Self;
    /// Writes the numbers from `to` on.
    unsafe fn store(self, to: *mut Self::Number);
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `a · b + self`, rounded once where the processor can.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// Eight numbers for any processor: the compiler makes of them what its baseline has. Rounded once
/// where that is a single instruction everywhere, as on aarch64.
#[derive(Clone, Copy)]
pub struct Portable<T>([T; 8]);

// SAFETY: needs no instruction beyond the baseline.
unsafe impl<T: crate::nn::Float> Simd for Portable<T> {
    type Number = T;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[T; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[T; 8]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            if cfg!(target_arch = "aarch64") {
                a.0[lane].mul_add(b.0[lane], self.0[lane])
            } else {
                a.0[lane] * b.0[lane] + self.0[lane]
            }
        }))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd;

    macro_rules! simd {
        ($register:ty, $number:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $fma:ident) => {
            // SAFETY: the caller runs it on a processor that has the instructions.
            unsafe impl Simd for $register {
                type Number = $number;
                const LANES: usize = $lanes;

                #[inline(always)]
                unsafe fn splat(value: $number) -> Self {
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const $number) -> Self {
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut $number) {
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    unsafe { $add(self, other) }
                }
                #[inline(always)]
                unsafe fn add_product(self, a: Self, b: Self) -> Self {
                    unsafe { $fma(a, b, self) }
                }
            }
        };
    }

    simd!(__m256, f32, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_fmadd_ps);
    simd!(__m256d, f64, 4, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_fmadd_pd);
    simd!(__m512, f32, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps);
    simd!(__m512d, f64, 8, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, _mm512_fmadd_pd);
}

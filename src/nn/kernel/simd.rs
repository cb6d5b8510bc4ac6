use crate::nn::Float;

/// The registers that hold numbers of a type, for each kind of instructions.
pub trait Vectors: Copy + Send + Sync + 'static {
    /// 256 bits.
    type Avx2: Simd<Number = Self>;
    /// 512 bits.
    type Avx512: Simd<Number = Self>;
}

/// An inner loop, written once for all kinds of registers.
pub trait Kernel<T> {
    /// Runs it.
    ///
    /// # Safety
    /// The processor has the instructions of `V`. Implementations are `inline(always)`, so that they
    /// are compiled for them.
    unsafe fn run<V: Simd<Number = T>>(self);
}

/// A register of numbers, as wide as some kind of processor has them.
///
/// # Safety
/// All functions of an implementation for vector instructions may only run on a processor that has
/// them, inlined into a function with that target feature; pointers must cover [`Simd::LANES`]
/// numbers.
pub unsafe trait Simd: Copy {
    /// One of its numbers.
    type Number: Copy + Default;

    /// Numbers in it.
    const LANES: usize;

    /// Such registers of a processor.
    const REGISTERS: usize;

    /// The same number in each lane.
    unsafe fn splat(value: Self::Number) -> Self;
    /// The numbers from `from` on.
    unsafe fn load(from: *const Self::Number) -> Self;
    /// Writes the numbers from `to` on.
    unsafe fn store(self, to: *mut Self::Number);
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self − other`.
    unsafe fn subtract(self, other: Self) -> Self;
    /// `a · b + self`, rounded once where the processor can.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// The larger of each pair; `other` where one is no number.
    unsafe fn max(self, other: Self) -> Self;
    /// `then` where `self > other`, else `otherwise`.
    unsafe fn select_greater(self, other: Self, then: Self, otherwise: Self) -> Self;
    /// `then` where `self = other`, else `otherwise`.
    unsafe fn select_equal(self, other: Self, then: Self, otherwise: Self) -> Self;
    /// A bit for each lane above 0, the first lane's lowest.
    unsafe fn positive(self) -> u32;
    /// A bit for each lane that is not 0, the first lane's lowest.
    unsafe fn nonzero(self) -> u32;
    /// A bit for each byte that is not 0, the first byte's lowest.
    unsafe fn nonzero_bytes(bytes: &[u8; 64]) -> u64;

    /// `N` registers of numbers, one after the other. A loop, as everywhere in the kernels: what an iterator's
    /// closure does is compiled without the vector instructions.
    #[inline(always)]
    unsafe fn load_all<const N: usize>(from: *const Self::Number) -> [Self; N] {
        // SAFETY: the caller's.
        unsafe {
            let mut registers = [Self::splat(Self::Number::default()); N];
            for (index, register) in registers.iter_mut().enumerate() {
                *register = Self::load(from.add(index * Self::LANES));
            }
            registers
        }
    }

    /// As many numbers as there are, 0 in the other lanes.
    #[inline(always)]
    unsafe fn load_first(from: &[Self::Number]) -> Self {
        if from.len() == Self::LANES {
            // SAFETY: `from` covers the lanes.
            return unsafe { Self::load(from.as_ptr()) };
        }
        let mut numbers = [Self::Number::default(); LANES_MAX];
        numbers[..from.len()].copy_from_slice(from);
        // SAFETY: the array covers the lanes.
        unsafe { Self::load(numbers.as_ptr()) }
    }

    /// Writes as many numbers as there is room for.
    #[inline(always)]
    unsafe fn store_first(self, to: &mut [Self::Number]) {
        if to.len() == Self::LANES {
            // SAFETY: `to` covers the lanes.
            return unsafe { self.store(to.as_mut_ptr()) };
        }
        let mut numbers = [Self::Number::default(); LANES_MAX];
        // SAFETY: the array covers the lanes.
        unsafe { self.store(numbers.as_mut_ptr()) };
        to.copy_from_slice(&numbers[..to.len()]);
    }
}

/// Numbers in the widest register.
pub const LANES_MAX: usize = 16;

/// Eight numbers for any processor: the compiler makes of them what its baseline has. Rounded once
/// where that is a single instruction everywhere, as on aarch64.
#[derive(Clone, Copy)]
pub struct Portable<T>([T; 8]);

// SAFETY: needs no instruction beyond the baseline.
unsafe impl<T: Float> Simd for Portable<T> {
    type Number = T;
    const LANES: usize = 8;
    const REGISTERS: usize = 8;

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
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { self.select_greater(other, self, other) }
    }
    #[inline(always)]
    unsafe fn select_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
        Self(std::array::from_fn(
            |lane| {
                if self.0[lane] > other.0[lane] { then.0[lane] } else { otherwise.0[lane] }
            },
        ))
    }
    #[inline(always)]
    unsafe fn select_equal(self, other: Self, then: Self, otherwise: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            if self.0[lane] == other.0[lane] { then.0[lane] } else { otherwise.0[lane] }
        }))
    }
    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] - other.0[lane]))
    }
    #[inline(always)]
    unsafe fn positive(self) -> u32 {
        let bit = |(lane, &number): (usize, &T)| u32::from(number > T::zero()) << lane;
        self.0.iter().enumerate().map(bit).sum()
    }
    #[inline(always)]
    unsafe fn nonzero(self) -> u32 {
        let bit = |(lane, &number): (usize, &T)| u32::from(number != T::zero()) << lane;
        self.0.iter().enumerate().map(bit).sum()
    }
    #[inline(always)]
    unsafe fn nonzero_bytes(bytes: &[u8; 64]) -> u64 {
        bytes.iter().enumerate().map(|(place, &byte)| u64::from(byte != 0) << place).sum()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Simd, Vectors};

    macro_rules! simd {
        (
            $register:ty, $number:ty, $lanes:literal, $registers:literal,
            $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $fma:ident, $max:ident,
            |$x:ident, $y:ident| $compare:expr, |$mask:ident, $then:ident, $otherwise:ident| $select:expr,
            |$bits:ident| $to_bits:expr, |$bytes:ident| $bytes_to_bits:expr
        ) => {
            // SAFETY: the caller runs it on a processor that has the instructions.
            unsafe impl Simd for $register {
                type Number = $number;
                const LANES: usize = $lanes;
                const REGISTERS: usize = $registers;

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
                unsafe fn subtract(self, other: Self) -> Self {
                    unsafe { $sub(self, other) }
                }
                #[inline(always)]
                unsafe fn add_product(self, a: Self, b: Self) -> Self {
                    unsafe { $fma(a, b, self) }
                }
                #[inline(always)]
                unsafe fn max(self, other: Self) -> Self {
                    unsafe { $max(self, other) }
                }
                #[inline(always)]
                unsafe fn select_greater(self, other: Self, $then: Self, $otherwise: Self) -> Self {
                    const OF: i32 = _CMP_GT_OQ;
                    let ($x, $y) = (self, other);
                    let $mask = unsafe { $compare };
                    unsafe { $select }
                }
                #[inline(always)]
                unsafe fn select_equal(self, other: Self, $then: Self, $otherwise: Self) -> Self {
                    const OF: i32 = _CMP_EQ_OQ;
                    let ($x, $y) = (self, other);
                    let $mask = unsafe { $compare };
                    unsafe { $select }
                }
                #[inline(always)]
                unsafe fn positive(self) -> u32 {
                    const OF: i32 = _CMP_GT_OQ;
                    let ($x, $y) = unsafe { (self, Self::splat(0.0)) };
                    let $bits = unsafe { $compare };
                    $to_bits
                }
                #[inline(always)]
                unsafe fn nonzero(self) -> u32 {
                    const OF: i32 = _CMP_NEQ_UQ;
                    let ($x, $y) = unsafe { (self, Self::splat(0.0)) };
                    let $bits = unsafe { $compare };
                    $to_bits
                }
                #[inline(always)]
                unsafe fn nonzero_bytes($bytes: &[u8; 64]) -> u64 {
                    unsafe { $bytes_to_bits }
                }
            }
        };
    }

    simd!(
        __m256,
        f32,
        8,
        16,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_fmadd_ps,
        _mm256_max_ps,
        |x, y| _mm256_cmp_ps::<OF>(x, y),
        |mask, then, otherwise| _mm256_blendv_ps(otherwise, then, mask),
        |bits| unsafe { _mm256_movemask_ps(bits) as u32 },
        |bytes| nonzero_bytes(bytes)
    );
    simd!(
        __m256d,
        f64,
        4,
        16,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        _mm256_fmadd_pd,
        _mm256_max_pd,
        |x, y| _mm256_cmp_pd::<OF>(x, y),
        |mask, then, otherwise| _mm256_blendv_pd(otherwise, then, mask),
        |bits| unsafe { _mm256_movemask_pd(bits) as u32 },
        |bytes| nonzero_bytes(bytes)
    );
    simd!(
        __m512,
        f32,
        16,
        32,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_fmadd_ps,
        _mm512_max_ps,
        |x, y| _mm512_cmp_ps_mask::<OF>(x, y),
        |mask, then, otherwise| _mm512_mask_blend_ps(mask, otherwise, then),
        |bits| u32::from(bits),
        |bytes| nonzero_bytes(bytes)
    );
    simd!(
        __m512d,
        f64,
        8,
        32,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_fmadd_pd,
        _mm512_max_pd,
        |x, y| _mm512_cmp_pd_mask::<OF>(x, y),
        |mask, then, otherwise| _mm512_mask_blend_pd(mask, otherwise, then),
        |bits| u32::from(bits),
        |bytes| nonzero_bytes(bytes)
    );

    /// 32 bytes at a time, on AVX-512 as well: it is not worth more.
    ///
    /// # Safety
    /// The processor has AVX2, for which the caller is compiled.
    #[inline(always)]
    unsafe fn nonzero_bytes(bytes: &[u8; 64]) -> u64 {
        // SAFETY: the caller's; each load covers half of the bytes.
        unsafe {
            let (zero, from) = (_mm256_setzero_si256(), bytes.as_ptr().cast::<__m256i>());
            let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256(from), zero)) as u32;
            let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256(from.add(1)), zero)) as u32;
            !(u64::from(low) | u64::from(high) << 32)
        }
    }

    impl Vectors for f32 {
        type Avx2 = __m256;
        type Avx512 = __m512;
    }

    impl Vectors for f64 {
        type Avx2 = __m256d;
        type Avx512 = __m512d;
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Vectors for f32 {
    type Avx2 = Portable<f32>;
    type Avx512 = Portable<f32>;
}

#[cfg(not(target_arch = "x86_64"))]
impl Vectors for f64 {
    type Avx2 = Portable<f64>;
    type Avx512 = Portable<f64>;
}

use std::arch::x86_64::*;

use super::{Simd, Vectors};

macro_rules! simd {
    (
        $register:ty, $number:ty, $lanes:literal, $registers:literal,
        $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $fma:ident, $max:ident,
        |$x:ident, $y:ident| $compare:expr, |$mask:ident, $then:ident, $otherwise:ident| $select:expr,
        |$bits:ident| $to_bits:expr
    ) => {
        // SAFETY: the caller runs it on a processor that has the instructions.
        unsafe impl Simd for $register {
            type Number = $number;
            const LANES: usize = $lanes;
            const REGISTERS: usize = $registers;

            single_instructions!($number, $splat, $load, $store, $add, $sub);

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
            unsafe fn nonzero_bytes(bytes: &[u8; 64]) -> u64 {
                unsafe { nonzero_bytes(bytes) }
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
    |bits| unsafe { _mm256_movemask_ps(bits) as u32 }
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
    |bits| unsafe { _mm256_movemask_pd(bits) as u32 }
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
    |bits| u32::from(bits)
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
    |bits| u32::from(bits)
);

/// Processes 32 bytes at a time. Even on AVX-512, more would gain little.
///
/// # Safety
/// The processor must have AVX2, and the caller must be compiled for it.
#[inline(always)]
unsafe fn nonzero_bytes(bytes: &[u8; 64]) -> u64 {
    // SAFETY: the caller guarantees the instructions. Each load covers half of the bytes.
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

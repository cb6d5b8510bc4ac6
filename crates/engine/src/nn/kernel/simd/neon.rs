use std::arch::aarch64::*;

use super::{Simd, Vectors};

macro_rules! simd {
    (
        $register:ty, $number:ty, $lanes:literal,
        $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $fma:ident, $greater:ident, $equal:ident,
        $select:ident
    ) => {
        // SAFETY: every aarch64 processor has these instructions, and loads and stores cover the lanes.
        unsafe impl Simd for $register {
            type Number = $number;
            const LANES: usize = $lanes;
            const REGISTERS: usize = 32;

            single_instructions!($number, $splat, $load, $store, $add, $sub);

            #[inline(always)]
            unsafe fn add_product(self, a: Self, b: Self) -> Self {
                unsafe { $fma(self, a, b) }
            }
            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                // The instruction of the same name returns NaN if either is NaN.
                unsafe { self.select_greater(other, self, other) }
            }
            #[inline(always)]
            unsafe fn select_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
                unsafe { $select($greater(self, other), then, otherwise) }
            }
            #[inline(always)]
            unsafe fn select_equal(self, other: Self, then: Self, otherwise: Self) -> Self {
                unsafe { $select($equal(self, other), then, otherwise) }
            }
        }
    };
}

simd!(
    float32x4_t,
    f32,
    4,
    vdupq_n_f32,
    vld1q_f32,
    vst1q_f32,
    vaddq_f32,
    vsubq_f32,
    vfmaq_f32,
    vcgtq_f32,
    vceqq_f32,
    vbslq_f32
);
simd!(
    float64x2_t,
    f64,
    2,
    vdupq_n_f64,
    vld1q_f64,
    vst1q_f64,
    vaddq_f64,
    vsubq_f64,
    vfmaq_f64,
    vcgtq_f64,
    vceqq_f64,
    vbslq_f64
);

impl Vectors for f32 {
    type Neon = float32x4_t;
}

impl Vectors for f64 {
    type Neon = float64x2_t;
}

use super::kernel::Vectors;

/// The number type of a network: `f32` for training and serving, `f64` to check gradients.
pub trait Float: ndarray::NdFloat + Default + Vectors {
    /// The representable number closest to `value`.
    fn of(value: f64) -> Self;

    /// Converts `value` exactly.
    fn of_byte(value: u8) -> Self;

    /// The integer part, to be used as an index.
    fn index(self) -> usize;

    /// The value as `f64`.
    fn wide(self) -> f64;

    /// `e^x`, with the same bits on every system. For `f32` it vectorises in a loop. It is accurate to one unit in the
    /// last place from −87 on, and 0 below.
    fn e_to_the(self) -> Self;

    /// `tanh x`, with the same bits on every system. For `f32` it vectorises in a loop.
    fn hyperbolic_tangent(self) -> Self;

    /// The complementary error function, `1 − 2/√π ∫₀ˣ e^(−t²) dt`.
    fn erfc(self) -> Self;
}

impl Float for f32 {
    #[inline]
    fn of(value: f64) -> Self {
        value as f32
    }

    #[inline]
    fn of_byte(value: u8) -> Self {
        value.into()
    }

    #[inline]
    fn index(self) -> usize {
        self as usize
    }

    #[inline]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    /// `2ⁿ eʳ` with `x = n ln 2 + r` and a polynomial for `eʳ` (Moshier, *Methods and Programs for
    /// Mathematical Functions*, 1989; coefficients from Cephes' `expf`).
    #[inline(always)]
    fn e_to_the(self) -> Self {
        // Adding and subtracting 1.5 · 2²³ rounds to the nearest integer.
        const ROUND: f32 = 12_582_912.0;
        const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
        const LEAST: f32 = -87.0;
        const MOST: f32 = 88.722_84;
        // Both comparisons are false for NaN, which passes through the polynomial.
        let x = if self < LEAST { LEAST } else { self };
        let x = if x > MOST { MOST } else { x };
        let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
        let r = x - n * LN_2[0] - n * LN_2[1];
        let mut p = 1.987_569_1e-4;
        for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
            p = p * r + coefficient;
        }
        // 2ⁿ as two factors, since 2¹²⁸ is infinite.
        let half = (n * 0.5 + ROUND) - ROUND;
        let two_to_the = |n: f32| f32::from_bits((n + (ROUND + 127.0)).to_bits() << 23);
        let value = (p * r * r + r + 1.0) * two_to_the(half) * two_to_the(n - half);
        let value = if self < LEAST { 0.0 } else { value };
        if self > MOST { f32::INFINITY } else { value }
    }

    /// A polynomial near 0, and `1 − 2 / (e^2x + 1)` elsewhere (coefficients from Cephes' `tanhf`).
    #[inline(always)]
    fn hyperbolic_tangent(self) -> Self {
        let square = self * self;
        let mut p = -5.704_988_7e-3;
        for coefficient in [2.063_908_8e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_8] {
            p = p * square + coefficient;
        }
        let near = self + self * square * p;
        let far = 1.0 - 2.0 / ((2.0 * self.abs()).e_to_the() + 1.0);
        let far = if self < 0.0 { -far } else { far };
        if self.abs() < 0.625 { near } else { far }
    }

    fn erfc(self) -> Self {
        libm::erfcf(self)
    }
}

impl Float for f64 {
    #[inline]
    fn of(value: f64) -> Self {
        value
    }

    #[inline]
    fn of_byte(value: u8) -> Self {
        value.into()
    }

    #[inline]
    fn index(self) -> usize {
        self as usize
    }

    #[inline]
    fn wide(self) -> f64 {
        self
    }

    fn e_to_the(self) -> Self {
        libm::exp(self)
    }

    fn hyperbolic_tangent(self) -> Self {
        libm::tanh(self)
    }

    fn erfc(self) -> Self {
        libm::erfc(self)
    }
}

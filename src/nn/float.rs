/// The number a network computes with: `f32` to train and serve, `f64` to prove gradients.
pub trait Float: ndarray::NdFloat + Default {
    /// The nearest value to `value`.
    fn of(value: f64) -> Self;

    /// `value`, exactly.
    fn of_byte(value: u8) -> Self;

    /// This value, widened.
    fn wide(self) -> f64;

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
    fn wide(self) -> f64 {
        f64::from(self)
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
    fn wide(self) -> f64 {
        self
    }

    fn erfc(self) -> Self {
        libm::erfc(self)
    }
}

use super::Instructions;
use super::simd::{Kernel, Simd};
use crate::nn::Float;

/// Number of independent sums. It is more than any processor needs to hide the latency of a multiply-add.
const CHAINS: usize = 12;

/// Executes multiply-adds on registers only. Their speed is an upper bound for every kernel. Returns the number of
/// floating-point operations, two for each multiply-add, and a number that depends on all of them.
pub fn multiply_adds<T: Float>(instructions: Instructions, steps: usize) -> (usize, T) {
    let mut sum = (0, T::zero());
    instructions.run(Chains { steps, sum: &mut sum });
    sum
}

struct Chains<'a, T> {
    steps: usize,
    sum: &'a mut (usize, T),
}

impl<T: Float> Kernel<T> for Chains<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (factor, mut total) = (V::splat(std::hint::black_box(T::of(1e-9))), T::zero());
            let mut sums = [V::splat(T::one()); CHAINS];
            for _ in 0..self.steps {
                for sum in &mut sums {
                    *sum = sum.add_product(*sum, factor);
                }
            }
            for sum in sums {
                total += sum.numbers()[0];
            }
            *self.sum = (2 * self.steps * CHAINS * V::LANES, total);
        }
    }
}

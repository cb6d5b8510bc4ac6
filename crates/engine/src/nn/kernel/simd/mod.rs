use crate::nn::Float;

/// The vector register types of a number type, for each instruction set.
pub trait Vectors: Copy + Send + Sync + 'static {
    /// A register of 128 bits.
    #[cfg(target_arch = "aarch64")]
    type Neon: Simd<Number = Self>;
    /// A register of 256 bits.
    #[cfg(target_arch = "x86_64")]
    type Avx2: Simd<Number = Self>;
    /// A register of 512 bits.
    #[cfg(target_arch = "x86_64")]
    type Avx512: Simd<Number = Self>;
}

/// An inner loop that is written once for all register types.
pub trait Kernel<T> {
    /// Runs the loop.
    ///
    /// # Safety
    /// The processor must have the instructions of `V`. Implementations are `inline(always)`, so that they
    /// are compiled for these instructions.
    unsafe fn run<V: Simd<Number = T>>(self);
}

/// A vector register, as wide as its instruction set allows.
///
/// # Safety
/// The functions of an implementation may only run on a processor that has its vector instructions. They must be
/// inlined into a function with that target feature. Pointers must cover [`Simd::LANES`] numbers.
pub unsafe trait Simd: Copy {
    /// The type of the numbers.
    type Number: Copy + Default + PartialOrd;

    /// How many numbers a register holds.
    const LANES: usize;

    /// How many such registers the processor has.
    const REGISTERS: usize;

    /// A register with the same number in each lane.
    unsafe fn splat(value: Self::Number) -> Self;
    /// Loads the numbers starting at `from`.
    unsafe fn load(from: *const Self::Number) -> Self;
    /// Stores the numbers starting at `to`.
    unsafe fn store(self, to: *mut Self::Number);
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self − other`.
    unsafe fn subtract(self, other: Self) -> Self;
    /// `a · b + self`, rounded once if the processor supports it.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// The larger number of each lane, or `other` if one is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// `then` in lanes with `self > other`, else `otherwise`.
    unsafe fn select_greater(self, other: Self, then: Self, otherwise: Self) -> Self;
    /// `then` in lanes with `self = other`, else `otherwise`.
    unsafe fn select_equal(self, other: Self, then: Self, otherwise: Self) -> Self;
    /// A bit for each lane above 0. The first lane is the lowest bit.
    #[inline(always)]
    unsafe fn positive(self) -> u32 {
        // SAFETY: guaranteed by the caller.
        let numbers = unsafe { self.numbers() };
        let bit = |lane: usize| u32::from(numbers[lane] > Self::Number::default()) << lane;
        (0..Self::LANES).map(bit).sum()
    }

    /// A bit for each lane that is not 0. The first lane is the lowest bit.
    #[inline(always)]
    unsafe fn nonzero(self) -> u32 {
        // SAFETY: guaranteed by the caller.
        let numbers = unsafe { self.numbers() };
        let bit = |lane: usize| u32::from(numbers[lane] != Self::Number::default()) << lane;
        (0..Self::LANES).map(bit).sum()
    }

    /// The numbers in the lanes, starting with the first lane.
    #[inline(always)]
    unsafe fn numbers(self) -> [Self::Number; LANES_MAX] {
        let mut numbers = [Self::Number::default(); LANES_MAX];
        // SAFETY: the array covers the lanes.
        unsafe { self.store(numbers.as_mut_ptr()) };
        numbers
    }

    /// A bit for each byte that is not 0. The first byte is the lowest bit.
    #[inline(always)]
    unsafe fn nonzero_bytes(bytes: &[u8; 64]) -> u64 {
        bytes.iter().enumerate().map(|(place, &byte)| u64::from(byte != 0) << place).sum()
    }

    /// Loads `N` consecutive registers. It is a loop, as everywhere in the kernels, because the closure of an
    /// iterator would be compiled without the vector instructions.
    #[inline(always)]
    unsafe fn load_all<const N: usize>(from: *const Self::Number) -> [Self; N] {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mut registers = [Self::splat(Self::Number::default()); N];
            for (index, register) in registers.iter_mut().enumerate() {
                *register = Self::load(from.add(index * Self::LANES));
            }
            registers
        }
    }

    /// Loads as many numbers as there are, with 0 in the other lanes.
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

    /// Stores as many numbers as there is room for.
    #[inline(always)]
    unsafe fn store_first(self, to: &mut [Self::Number]) {
        if to.len() == Self::LANES {
            // SAFETY: `to` covers the lanes.
            return unsafe { self.store(to.as_mut_ptr()) };
        }
        // SAFETY: guaranteed by the caller.
        let numbers = unsafe { self.numbers() };
        to.copy_from_slice(&numbers[..to.len()]);
    }
}

/// Number of lanes in the widest register.
pub const LANES_MAX: usize = 16;

/// Eight numbers for any processor. The compiler uses what the baseline of the architecture has.
#[derive(Clone, Copy)]
pub struct Portable<T>([T; 8]);

// SAFETY: needs no instructions beyond the baseline.
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
        // SAFETY: guaranteed by the caller.
        Self(unsafe { from.cast::<[T; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: guaranteed by the caller.
        unsafe { to.cast::<[T; 8]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| a.0[lane] * b.0[lane] + self.0[lane]))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: guaranteed by the caller.
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
}

/// The functions of a [`Simd`] that are a single instruction, in the same form for every processor.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! single_instructions {
    ($number:ty, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident) => {
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
    };
}

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Vectors for f32 {}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Vectors for f64 {}

use super::simd::{Kernel, Portable};
use crate::nn::Float;

/// The instruction sets for which kernels are compiled, the best one last. All but [`Instructions::Portable`] round in
/// the same way: every element is one chain of fused multiply-adds in the order of the inner dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// The baseline of the architecture.
    Portable,
    /// 128-bit vectors with fused multiply-add, which every aarch64 processor has.
    Neon,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

/// Bytes of the widest register.
const WIDEST_BYTES: usize = 64;

/// The name of the instruction set of the kernels on this processor. The last bits of results depend on it.
pub fn instruction_set() -> &'static str {
    match Instructions::best() {
        Instructions::Portable => "portable",
        Instructions::Neon => "neon",
        Instructions::Avx2 => "avx2",
        Instructions::Avx512 => "avx512",
    }
}

impl Instructions {
    const ALL: [Self; 4] = [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512];

    /// The instruction sets of this processor, the best one last.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| kind.is_available())
    }

    /// The best instruction set of this processor.
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|kind| kind.is_available()).unwrap_or(Self::Portable)
    }

    /// The instruction set to use instead for rows of `columns` numbers. If they fill at most half of the last
    /// register of 512 bits, registers of 256 bits waste less and are faster.
    #[must_use]
    pub fn for_columns<T>(self, columns: usize) -> Self {
        let lanes = WIDEST_BYTES / size_of::<T>();
        let in_last = columns % lanes;
        if self == Self::Avx512 && (1..=lanes / 2).contains(&in_last) { Self::Avx2 } else { self }
    }

    /// Runs `kernel` with this instruction set.
    ///
    /// # Panics
    /// If this processor doesn't have it.
    #[inline]
    pub(super) fn run<T: Float>(self, kernel: impl Kernel<T>) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,popcnt")]
        unsafe fn avx2<T: Float>(kernel: impl Kernel<T>) {
            // SAFETY: guaranteed by the caller.
            unsafe { kernel.run::<T::Avx2>() }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,avx512f,bmi1,popcnt")]
        unsafe fn avx512<T: Float>(kernel: impl Kernel<T>) {
            // SAFETY: guaranteed by the caller.
            unsafe { kernel.run::<T::Avx512>() }
        }
        assert!(self.is_available(), "{self:?} is not available");
        // SAFETY: the processor has the instructions.
        unsafe {
            match self {
                Self::Portable => kernel.run::<Portable<T>>(),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2(kernel),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512(kernel),
                #[cfg(target_arch = "aarch64")]
                Self::Neon => kernel.run::<T::Neon>(),
                _ => unreachable!("asserted to be available"),
            }
        }
    }

    pub(super) fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }
}

/// Evaluates an expression with [`run_vectorized`], as a closure that is always inlined. Otherwise the
/// closure would be compiled separately, for the baseline of the architecture.
macro_rules! vectorized {
    ($work:expr) => {
        $crate::nn::kernel::run_vectorized(
            #[inline(always)]
            || $work,
        )
    };
}
pub(crate) use vectorized;

/// Runs `work`, which must be `#[inline(always)]`, compiled for the widest vectors of this processor. The
/// compiler never fuses multiplications and additions by itself, so every processor gives the same bits.
#[inline]
pub fn run_vectorized<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
        fn avx512<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        #[target_feature(enable = "avx2,popcnt")]
        fn avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        match Instructions::best() {
            // SAFETY: the processor has the instructions.
            Instructions::Avx512 => unsafe { avx512(work) },
            // SAFETY: the processor has the instructions.
            Instructions::Avx2 => unsafe { avx2(work) },
            Instructions::Portable | Instructions::Neon => work(),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    work()
}

/// Prefetches `bytes` into the caches, if the processor supports it.
#[inline]
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction. It can't fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

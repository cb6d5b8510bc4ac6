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
    pub(super) fn is_available(self) -> bool {
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
    pub(super) fn is_available(self) -> bool {
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

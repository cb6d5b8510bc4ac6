use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

/// One value for each of several tasks that run at the same time. Each task takes its own value. Between the loops, the
/// owner can read or change all of them.
pub struct Parts<P>(Vec<Part<P>>);

struct Part<P> {
    is_taken: AtomicBool,
    value: UnsafeCell<P>,
}

// SAFETY: the value is accessed through the only `Taken` that exists, or while all parts are borrowed mutably.
unsafe impl<P: Send + Sync> Sync for Part<P> {}

impl<P> Parts<P> {
    /// `count` values.
    pub fn new(count: usize, mut make: impl FnMut() -> P) -> Self {
        let part = |_| Part { is_taken: AtomicBool::new(false), value: UnsafeCell::new(make()) };
        Self((0..count).map(part).collect())
    }

    /// Takes the value at index `number` until the guard is dropped.
    ///
    /// # Panics
    /// If it is already taken.
    #[inline]
    pub fn take(&self, number: usize) -> Taken<'_, P> {
        let part = &self.0[number];
        assert!(!part.is_taken.swap(true, Acquire), "the part is already taken");
        Taken(part)
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All values, which many tasks can then read.
    pub fn all(&mut self) -> AllParts<'_, P> {
        AllParts(&self.0)
    }

    /// All values, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut P> {
        self.0.iter_mut().map(|part| part.value.get_mut())
    }
}

/// Exclusive access to the value of one task.
pub struct Taken<'a, P>(&'a Part<P>);

impl<P> Deref for Taken<'_, P> {
    type Target = P;

    #[inline]
    fn deref(&self) -> &P {
        // SAFETY: because of the flag, this is the only guard.
        unsafe { &*self.0.value.get() }
    }
}

impl<P> DerefMut for Taken<'_, P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut P {
        // SAFETY: because of the flag, this is the only guard.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<P> Drop for Taken<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.0.is_taken.store(false, Release);
    }
}

/// Shared access to the values of all tasks.
pub struct AllParts<'a, P>(&'a [Part<P>]);

impl<P> Clone for AllParts<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for AllParts<'_, P> {}

impl<'a, P> AllParts<'a, P> {
    /// The values, in order.
    pub fn iter(self) -> impl Iterator<Item = &'a P> + Clone {
        // SAFETY: this was created from a `&mut Parts` that stays borrowed, so no value is taken or can be taken.
        self.0.iter().map(|part| unsafe { &*part.value.get() })
    }
}

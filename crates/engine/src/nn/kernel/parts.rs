use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

/// A value for each of some tasks that run at the same time. A task takes its own; between the loops, all are read
/// or changed by whoever owns them.
pub struct Parts<P>(Vec<Part<P>>);

struct Part<P> {
    is_taken: AtomicBool,
    value: UnsafeCell<P>,
}

// SAFETY: the value is reached through the one `Taken` that there is, or while all parts are borrowed mutably.
unsafe impl<P: Send + Sync> Sync for Part<P> {}

impl<P> Parts<P> {
    /// `count` values.
    pub fn new(count: usize, mut make: impl FnMut() -> P) -> Self {
        let part = |_| Part { is_taken: AtomicBool::new(false), value: UnsafeCell::new(make()) };
        Self((0..count).map(part).collect())
    }

    /// The value `number`, until the guard is dropped.
    ///
    /// # Panics
    /// If it is taken already.
    #[inline]
    pub fn take(&self, number: usize) -> Taken<'_, P> {
        let part = &self.0[number];
        assert!(!part.is_taken.swap(true, Acquire), "each task takes a part of its own");
        Taken(part)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All values, to be read by many tasks.
    pub fn all(&mut self) -> AllParts<'_, P> {
        AllParts(&self.0)
    }

    /// All values, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut P> {
        self.0.iter_mut().map(|part| part.value.get_mut())
    }
}

/// The value of one task.
pub struct Taken<'a, P>(&'a Part<P>);

impl<P> Deref for Taken<'_, P> {
    type Target = P;

    #[inline]
    fn deref(&self) -> &P {
        // SAFETY: the flag lets one guard exist at a time.
        unsafe { &*self.0.value.get() }
    }
}

impl<P> DerefMut for Taken<'_, P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut P {
        // SAFETY: the flag lets one guard exist at a time.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<P> Drop for Taken<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.0.is_taken.store(false, Release);
    }
}

/// The values of all tasks.
pub struct AllParts<'a, P>(&'a [Part<P>]);

impl<P> Clone for AllParts<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for AllParts<'_, P> {}

impl<'a, P> AllParts<'a, P> {
    /// In order.
    pub fn iter(self) -> impl Iterator<Item = &'a P> + Clone {
        // SAFETY: this was made from a `&mut Parts` that stays borrowed: no value is taken, or can be.
        self.0.iter().map(|part| unsafe { &*part.value.get() })
    }
}

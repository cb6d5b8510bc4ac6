//! An allocator that counts what each thread allocates and holds, for the tests of the engine and of the server.
#![expect(unsafe_code, reason = "an allocator that counts can't be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread holds; `MOST_HELD` is their maximum so far.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST_HELD: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator. The counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        HELD.set(HELD.get() + layout.size() as isize);
        MOST_HELD.set(MOST_HELD.get().max(HELD.get()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Returns how often this thread has allocated.
pub fn allocations_so_far() -> usize {
    ALLOCATIONS.get()
}

/// Counts the allocations of this thread while `work` runs.
pub fn allocations(work: impl FnOnce()) -> usize {
    let before = allocations_so_far();
    work();
    allocations_so_far() - before
}

/// Returns the largest growth of this thread's memory while `work` ran, in bytes, and the result of `work`.
pub fn most_held<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    MOST_HELD.set(before);
    let made = work();
    (usize::try_from(MOST_HELD.get() - before).expect("at least what was held before"), made)
}

#[test]
fn the_counter_sees_an_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// How many times a waiting thread checks its condition before it yields. This takes about five microseconds.
const SPINS: u32 = 256;

/// How many times a waiting thread yields before it sleeps. Waking a sleeping thread costs about ten microseconds. If
/// the thread that it waits for has no core, only yielding helps.
const YIELDS: u32 = 32;

/// A fixed set of threads, the caller's among them, that work on one loop at a time.
///
/// Tasks are claimed one by one from a counter, so a thread that the system has suspended doesn't hold up the
/// others. Which thread runs a task doesn't affect the result. Between loops the threads spin briefly and
/// then sleep.
#[derive(Debug)]
pub struct ThreadPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    running: Mutex<()>,
}

/// State shared by all threads. A loop is published by writing `call` and `data`, then `claims`.
#[derive(Debug)]
struct Shared {
    /// The number of the loop in the upper half, and the number of unclaimed tasks in the lower half.
    claims: AtomicU64,
    call: AtomicPtr<()>,
    data: AtomicPtr<()>,
    unfinished: AtomicUsize,
    panicked: AtomicBool,
    /// The payload of the first panic in a task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: AtomicUsize,
    caller_sleeps: AtomicBool,
    closing: AtomicBool,
    lock: Mutex<()>,
    work: Condvar,
    finished: Condvar,
}

type Call = unsafe fn(*const (), usize);

impl ThreadPool {
    /// A pool of `threads` threads, including the caller's. The others inherit the caller's priority.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            claims: AtomicU64::new(0),
            call: AtomicPtr::default(),
            data: AtomicPtr::default(),
            unfinished: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            panic: Mutex::default(),
            sleepers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            lock: Mutex::new(()),
            work: Condvar::new(),
            finished: Condvar::new(),
        });
        let threads = (1..threads.max(1))
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("pool-{index}"))
                    .spawn(move || shared.serve(index))
                    .ok()
            })
            .collect();
        Self { shared, threads, running: Mutex::new(()) }
    }

    /// Number of threads that work on a loop, including the caller's.
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `f` once with each of `items`, in any order.
    ///
    /// # Panics
    /// If `f` panics. `f` must not use this pool: a nested loop would wait for itself.
    pub fn for_each<I>(&self, items: I, f: impl Fn(I::Item) + Sync)
    where
        I: IntoIterator<IntoIter: Send, Item: Send>,
    {
        self.for_each_from_both_ends(std::iter::empty(), items, f);
    }

    /// [`Self::for_each`] over `both` and then `rest`. Threads with an odd index take items of `both` from the back.
    /// With two threads, each thread gets the same items in every loop, so their data are in its cache.
    ///
    /// # Panics
    /// As for [`Self::for_each`].
    pub fn for_each_from_both_ends<A, B>(&self, both: A, rest: B, f: impl Fn(A::Item) + Sync)
    where
        A: IntoIterator<IntoIter: DoubleEndedIterator + Send, Item: Send>,
        B: IntoIterator<IntoIter: Send, Item = A::Item>,
    {
        let items = Mutex::new((both.into_iter().fuse(), rest.into_iter().fuse()));
        // The lock is held only while an item is taken.
        let next = |thread: usize| {
            let (both, rest) = &mut *items.lock().unwrap_or_else(PoisonError::into_inner);
            let item = if thread.is_multiple_of(2) { both.next() } else { both.next_back() };
            item.or_else(|| rest.next())
        };
        self.run(|thread| {
            while let Some(item) = next(thread) {
                f(item);
            }
        });
    }

    /// Calls `f` as many times as there are threads, each time with the index of the calling thread. Returns when all
    /// calls have returned. A thread may also make the call of a sleeping thread.
    fn run<F: Fn(usize) + Sync>(&self, f: F) {
        if self.threads.is_empty() {
            f(0);
            return;
        }
        let tasks = self.threads();
        assert!(u32::try_from(tasks).is_ok(), "{tasks} tasks are too many for one loop");
        let _one_loop_at_a_time = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        unsafe fn call<F: Fn(usize)>(data: *const (), thread: usize) {
            // SAFETY: `data` is the `f` of the `run` whose task was claimed. That `run` waits for the task,
            // so `f` is alive, and it is `Sync`.
            unsafe { (*data.cast::<F>())(thread) }
        }
        shared.call.store(call::<F> as Call as *mut (), SeqCst);
        shared.data.store((&raw const f).cast_mut().cast(), SeqCst);
        shared.unfinished.store(tasks, SeqCst);
        let number = (shared.claims.load(SeqCst) >> 32).wrapping_add(1);
        shared.claims.store(number << 32 | tasks as u64, SeqCst);
        if shared.sleepers.load(SeqCst) > 0 {
            let _guard = shared.guard();
            shared.work.notify_all();
        }
        shared.work_on_claims(0);
        shared.wait_until_finished();
        if shared.panicked.swap(false, SeqCst)
            && let Some(panic) = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            resume_unwind(panic);
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.closing.store(true, SeqCst);
        {
            let _guard = self.shared.guard();
            self.shared.work.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A thread of the pool catches the panics of its tasks, so `join` can't fail.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn guard(&self) -> std::sync::MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main function of a thread: works, spins and sleeps until the pool closes.
    fn serve(&self, thread: usize) {
        while !self.closing.load(SeqCst) {
            self.work_on_claims(thread);
            if self.spin_until(|| self.has_claims() || self.closing.load(SeqCst)) {
                continue;
            }
            let mut guard = self.guard();
            self.sleepers.fetch_add(1, SeqCst);
            while !self.has_claims() && !self.closing.load(SeqCst) {
                guard = self.work.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, SeqCst);
        }
    }

    fn has_claims(&self) -> bool {
        self.claims.load(SeqCst) as u32 > 0
    }

    /// Claims and runs tasks until there are none left.
    fn work_on_claims(&self, thread: usize) {
        let mut claims = self.claims.load(SeqCst);
        while claims as u32 > 0 {
            let call = self.call.load(SeqCst);
            let data = self.data.load(SeqCst);
            // The claim succeeds only while the loop read above is the current one: its number is never
            // reused, and the next loop is not published before this task has finished.
            match self.claims.compare_exchange_weak(claims, claims - 1, SeqCst, SeqCst) {
                Ok(_) => {
                    // SAFETY: a successful claim means that `call` and `data` belong to the loop of this
                    // task. `call` was stored from a `Call`.
                    let task = || unsafe { std::mem::transmute::<*mut (), Call>(call)(data, thread) };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(task)) {
                        let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert(panic);
                        self.panicked.store(true, SeqCst);
                    }
                    self.finish_one();
                    claims = self.claims.load(SeqCst);
                }
                Err(current) => claims = current,
            }
        }
    }

    fn finish_one(&self) {
        if self.unfinished.fetch_sub(1, SeqCst) == 1 && self.caller_sleeps.load(SeqCst) {
            let _guard = self.guard();
            self.finished.notify_all();
        }
    }

    fn wait_until_finished(&self) {
        let is_finished = || self.unfinished.load(SeqCst) == 0;
        if self.spin_until(is_finished) {
            return;
        }
        let mut guard = self.guard();
        self.caller_sleeps.store(true, SeqCst);
        while !is_finished() {
            guard = self.finished.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.caller_sleeps.store(false, SeqCst);
    }

    fn spin_until(&self, condition: impl Fn() -> bool) -> bool {
        let spun = (0..SPINS).any(|_| {
            std::hint::spin_loop();
            condition()
        });
        spun || (0..YIELDS).any(|_| {
            std::thread::yield_now();
            condition()
        })
    }
}

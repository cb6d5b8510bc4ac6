use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::WorkError;
use crate::priority::Priority;

type Job = Box<dyn FnOnce() + Send>;

/// Threads for work that takes long, at a lower priority than those that serve.
#[derive(Debug)]
pub struct Crew {
    jobs: Mutex<Option<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Crew {
    /// Starts so many threads.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let (sender, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let start = |number: usize| {
            let receiver = Arc::clone(&receiver);
            std::thread::Builder::new().name(format!("crew-{number}")).spawn(move || {
                Priority::LongWork.lower();
                work(&receiver);
            })
        };
        let threads = (0..threads).map(start).collect::<std::io::Result<_>>()?;
        Ok(Self { jobs: Mutex::new(Some(sender)), threads: Mutex::new(threads) })
    }

    /// Does `job` as soon as a thread is free; drops it if the crew has been dismissed.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = &*jobs {
            // It fails if no thread is left, and they end by being dismissed alone.
            let _ = jobs.send(Box::new(job));
        }
    }

    /// What `job` comes to; it is not begun once nobody waits for it.
    ///
    /// # Errors
    /// If it panics, or the crew has been dismissed.
    pub async fn done<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let (sender, receiver) = oneshot::channel();
        self.run(move || {
            if !sender.is_closed() {
                // Whoever waited may have gone meanwhile.
                let _ = sender.send(job());
            }
        });
        receiver.await.map_err(|_| WorkError::Lost)
    }

    /// Takes no more work, and waits until what was taken is done.
    pub fn dismiss(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A job's panic is caught, so a thread has none of its own.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Whoever waits for the job sees that its answer will not come.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

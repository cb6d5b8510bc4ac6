use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::WorkError;
use crate::priority::Priority;

type Task = Box<dyn FnOnce() + Send>;

/// Threads for long work, at a lower priority than the threads that serve.
#[derive(Debug)]
pub struct Crew {
    tasks: Mutex<Option<Sender<Task>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Crew {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// Returns an error if a thread can't be started.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let (sender, receiver) = channel::<Task>();
        let receiver = Arc::new(Mutex::new(receiver));
        let start = |number: usize| {
            let receiver = Arc::clone(&receiver);
            std::thread::Builder::new().name(format!("crew-{number}")).spawn(move || {
                Priority::LongWork.lower();
                work(&receiver);
            })
        };
        let threads = (0..threads).map(start).collect::<std::io::Result<_>>()?;
        Ok(Self { tasks: Mutex::new(Some(sender)), threads: Mutex::new(threads) })
    }

    /// Queues `task` for the next free thread. Drops it if the crew has been dismissed.
    pub fn run(&self, task: impl FnOnce() + Send + 'static) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = &*tasks {
            // Sending can't fail: the threads end only after `dismiss` has taken the sender.
            let _ = tasks.send(Box::new(task));
        }
    }

    /// Runs `task` and returns its result. If the caller is gone before the task begins, the task
    /// is skipped.
    ///
    /// # Errors
    /// Returns an error if the task panics or the crew has been dismissed.
    pub async fn done<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let (sender, receiver) = oneshot::channel();
        self.run(move || {
            if !sender.is_closed() {
                // The caller may be gone by now.
                let _ = sender.send(task());
            }
        });
        receiver.await.map_err(|_| WorkError::Lost)
    }

    /// Refuses further tasks and waits until the queued ones are done.
    pub fn dismiss(&self) {
        drop(self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // `work` catches panics, so a thread never ends with one.
            let _ = thread.join();
        }
    }
}

fn work(tasks: &Mutex<Receiver<Task>>) {
    loop {
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else { return };
        // A panic drops the task's sender, so the caller learns that no result will come.
        let _ = catch_unwind(AssertUnwindSafe(task));
    }
}

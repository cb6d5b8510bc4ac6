//! The server as a whole: starts its parts in order and stops them in reverse order.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::app::{App, StartError};
use crate::config::Config;
use crate::http;
use crate::worker::Workers;

/// How long workers have to save their jobs when the server stops. A step usually takes milliseconds. If the
/// step of a huge network takes longer, its job resumes from an earlier checkpoint.
const STOP_WORKERS: Duration = Duration::from_secs(4);

/// How long closing the database may take. Another process may hold its lock.
const CLOSE: Duration = Duration::from_secs(1);

/// The pause before a background task restarts after a panic.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);

/// A server that is bound to its address, with its workers running.
pub struct Server {
    app: App,
    listener: TcpListener,
    workers: Workers,
    stop_workers: CancellationToken,
}

impl Server {
    /// Binds the address, opens the data folder and starts the workers.
    ///
    /// # Errors
    /// Returns an error if the address, the folder or the database can't be used, or a thread can't be
    /// started.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let address = config.listen;
        raise_file_limit();
        if let Some(exposure) = config.exposure() {
            tracing::warn!("{exposure}; see \"Who may ask\" in docs/reliability.md");
        }
        let listener =
            TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
        let app = App::open(config).await?;
        let stop_workers = CancellationToken::new();
        let workers =
            (0..usize::from(app.config().workers)).map(|number| app.worker(number, stop_workers.clone()));
        let threads = app.config().threads_per_worker();
        let workers = Workers::start(workers.collect(), threads, &Handle::current())?;
        Ok(Self { app, listener, workers, stop_workers })
    }

    /// Returns the address that the server listens on.
    ///
    /// # Errors
    /// Returns an error if the system can't report the address.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the handle that requests and workers share.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Serves until `stop`, then saves running jobs and lets open requests end.
    pub async fn run(self, stop: CancellationToken) {
        let Self { app, listener, workers, stop_workers } = self;
        let draining = app.draining().clone();
        let keeping_up = tokio::spawn(keep_up(app.clone(), stop.clone()));
        let serving = http::serve(listener, http::router(app.clone()), app.clone(), draining.clone());
        let stopping = async {
            stop.cancelled().await;
            tracing::info!("stopping");
            draining.cancel();
            stop_workers.cancel();
            let joined = tokio::task::spawn_blocking(|| workers.join());
            if tokio::time::timeout(STOP_WORKERS, joined).await.is_err() {
                tracing::warn!(
                    "a job was interrupted in a long step or a write; it will resume from its last checkpoint"
                );
                match tokio::time::timeout(CLOSE, app.dispatch().release_all()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%error, "the job was not put back in the queue"),
                    Err(_) => tracing::error!("the job was not put back in the queue in time"),
                }
            }
        };
        // The background tasks catch their own panics.
        let _ = tokio::join!(serving, stopping, keeping_up);
        let closing = async {
            app.tasks().close();
            app.tasks().wait().await;
            app.dispatch().close().await;
        };
        if tokio::time::timeout(CLOSE, closing).await.is_err() {
            tracing::warn!(
                "the database was left in the middle of a statement; the next start will roll it back"
            );
        }
        // The requests have ended, so long work stops at its next check.
        let crew = Arc::clone(app.admission().crew());
        let dismissed = tokio::task::spawn_blocking(move || crew.dismiss());
        if tokio::time::timeout(CLOSE, dismissed).await.is_err() {
            tracing::warn!("a piece of long work was still running");
        }
        tracing::info!("stopped");
    }
}

/// Raises the limit of open files to the system's maximum. Each connection is a file, and shells often start
/// programs with a limit of 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::debug!(%error, "the limit of open files was not raised");
    }
}

/// Runs the background tasks until `stop`. Each of them restarts after a panic.
async fn keep_up(app: App, stop: CancellationToken) {
    let (upkeep, dispatch, registry) = (&app.upkeep(), app.dispatch(), app.registry());
    let refresh = async || {
        if let Err(error) = registry.refresh().await {
            tracing::warn!(%error, "models of other servers can't be read");
        }
    };
    let all = async {
        tokio::join!(
            again(|| upkeep.run()),
            again(|| upkeep.watch_leases()),
            again(|| dispatch.write_back()),
            again(|| dispatch.follow(refresh)),
            again(|| registry.catch_up()),
        )
    };
    stop.run_until_cancelled(all).await;
}

async fn again<F: Future<Output = ()>>(work: impl Fn() -> F) {
    while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
        tracing::error!("a background task panicked and is restarted");
        tokio::time::sleep(PAUSE_AFTER_PANIC).await;
    }
}

//! The server as a whole: builds its parts in order, and takes them down in reverse.

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

/// How long workers have to keep their jobs when the server stops. A step takes milliseconds; only
/// one of a huge network takes longer, and what it loses is in the checkpoint before.
const STOP_WORKERS: Duration = Duration::from_secs(4);

/// How long the rows may take to be closed then: another process may hold them.
const CLOSE: Duration = Duration::from_secs(1);

/// The pause after a panic beside serving.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);

/// A server that listens.
pub struct Server {
    app: App,
    listener: TcpListener,
    workers: Workers,
    stop_workers: CancellationToken,
}

impl Server {
    /// Opens the data folder and the address, and starts the workers.
    ///
    /// # Errors
    /// If the folder, the database or the address can't be had.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let address = config.listen;
        raise_file_limit();
        if let Some(exposure) = config.exposure() {
            tracing::warn!("{exposure}; see docs/reliability.md, who may ask");
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

    /// Where it listens.
    ///
    /// # Errors
    /// If the system doesn't say.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    /// The parts.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Answers until `stop`, then lets jobs be kept and requests be ended.
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
                    "a job was cut, in a long step or a write; it goes on from its last checkpoint"
                );
                match tokio::time::timeout(CLOSE, app.store().release_all()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%error, "it was not given back"),
                    Err(_) => tracing::error!("it was not given back in time"),
                }
            }
        };
        // What goes on beside serving catches its panics.
        let _ = tokio::join!(serving, stopping, keeping_up);
        let closing = async {
            app.tasks().close();
            app.tasks().wait().await;
            app.store().close().await;
        };
        if tokio::time::timeout(CLOSE, closing).await.is_err() {
            tracing::warn!(
                "the database was left in the middle of a statement; the next start finds it whole"
            );
        }
        // Their requests have ended, so they stop at the next look.
        let crew = Arc::clone(app.admission().crew());
        let dismissed = tokio::task::spawn_blocking(move || crew.dismiss());
        if tokio::time::timeout(CLOSE, dismissed).await.is_err() {
            tracing::warn!("a piece of long work was left behind");
        }
        tracing::info!("stopped");
    }
}

/// Lets this process open as many files as the system allows: connections are files, and many shells begin with 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// What goes on beside serving and training, until `stop`. Each part of it begins anew after a panic.
async fn keep_up(app: App, stop: CancellationToken) {
    let (upkeep, store, registry) = (&app.upkeep(), app.store(), app.registry());
    let refresh = async || {
        if let Err(error) = registry.refresh().await {
            tracing::warn!(%error, "models of other servers can't be read");
        }
    };
    let all = async {
        tokio::join!(
            again(|| upkeep.run()),
            again(|| upkeep.watch_leases()),
            again(|| store.write_back()),
            again(|| store.follow(refresh)),
        )
    };
    stop.run_until_cancelled(all).await;
}

async fn again<F: Future<Output = ()>>(work: impl Fn() -> F) {
    while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
        tracing::error!("what panicked beside serving begins anew");
        tokio::time::sleep(PAUSE_AFTER_PANIC).await;
    }
}

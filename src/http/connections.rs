use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::guests::{Guest, Guests};
use super::socket::Socket;
use crate::admission::Peer;
use crate::app::App;

/// The pause of the accept loop after the system refused a connection.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The size of the read buffer and of the write buffer of a connection, in bytes.
const BUFFER_BYTES: usize = 16 << 10;

/// The kernel's send buffer, in bytes. Linux doubles it for its own use:
/// <https://man7.org/linux/man-pages/man7/socket.7.html>.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// The response to a connection that is refused.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
    Retry-After: 1\r\nConnection: close\r\nContent-Length: 193\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"this client, or all clients together, have too many open connections\",\"code\":\"too_many_connections\",\"request_id\":null}";

/// The address that a request came from, as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// Serves `listener` until `stop`. Then lets open requests end within the configured time.
///
/// A connection is closed if it sends no request head in time, or if its client does not read the response.
pub async fn serve(listener: TcpListener, router: Router, app: App, stop: CancellationToken) {
    let guests = Guests::new(app.admission().clone());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok((stream, address)) => (stream, address.ip().to_canonical()),
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            }
        };
        let Some(guest) = guests.let_in(Peer::new(address)) else {
            // This does not wait. If the response can't be sent at once, the client only sees the
            // connection close.
            let _ = stream.try_write(FULL);
            if app.metrics().refused("too_many_connections") {
                tracing::warn!(client = %address, "a connection was refused: too many are open");
            }
            continue;
        };
        connections.spawn(answer(stream, address, guest, router.clone(), app.clone(), stop.clone()));
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    let drain = Duration::from_secs_f64(app.config().limits.drain_seconds);
    if tokio::time::timeout(drain, drained).await.is_err() {
        tracing::warn!("connections that did not end in time were closed");
        connections.shutdown().await;
    }
}

async fn answer(
    stream: TcpStream,
    address: IpAddr,
    guest: Guest,
    router: Router,
    app: App,
    stop: CancellationToken,
) {
    // Without `TCP_NODELAY`, small responses wait for an acknowledgement. If setting it fails, responses
    // are only slower.
    let _ = stream.set_nodelay(true);
    // If this fails, the system only buffers more of an unread response.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
    let limits = &app.config().limits;
    let patience = Duration::from_secs(u64::from(limits.write_timeout_seconds));
    let header_timeout = Duration::from_secs(u64::from(limits.header_timeout_seconds));
    let leave = guest.leave.clone();
    let guest = Arc::new(guest);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ClientAddress(address));
        request.extensions_mut().insert(Arc::new(guest.request()));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Socket::new(stream, patience)), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = leave.cancelled() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        if is_stalled(&error) && app.metrics().refused("answer_not_taken") {
            tracing::warn!(client = %address, "a connection was closed: its client does not read the response");
        }
        tracing::debug!(client = %address, %error, "connection ended early");
    }
}

/// Returns whether a connection ended because its client did not read the response; see [`Socket`].
fn is_stalled(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

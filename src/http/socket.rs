use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes that a client must read within [`Socket`]'s patience. A slow client is served. A client that reads a
/// byte now and then is not.
const PROGRESS_BYTES: usize = 16 << 10;

/// A connection whose client must keep reading. A write fails after it has waited `patience` for the next 16
/// KiB to be read. Only time in which bytes wait to be written counts.
pub struct Socket {
    stream: TcpStream,
    patience: Duration,
    /// How long writes have waited since the last 16 KiB were read, and the bytes read since.
    waited: Duration,
    taken: usize,
    waiting: Option<Waiting>,
}

/// A write that waits for the client.
struct Waiting {
    since: Instant,
    deadline: Pin<Box<Sleep>>,
}

impl Socket {
    /// Wraps a connection whose writes fail after `patience`.
    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, waited: Duration::ZERO, taken: 0, waiting: None }
    }

    /// Records the result of a write, and fails a write that has waited too long.
    fn note(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let Some(waiting) = self.waiting.take() {
                self.waited += waiting.since.elapsed();
            }
            self.taken += *written.as_ref().unwrap_or(&0);
            if self.taken >= PROGRESS_BYTES {
                (self.waited, self.taken) = (Duration::ZERO, 0);
            }
            return Poll::Ready(written);
        }
        let left = self.patience.saturating_sub(self.waited);
        let waiting = self.waiting.get_or_insert_with(|| {
            let since = Instant::now();
            Waiting { since, deadline: Box::pin(sleep_until(since + left)) }
        });
        ready!(waiting.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client does not read the response")))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.note(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

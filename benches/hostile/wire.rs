//! Hand-written HTTP/1.1: what an attacker writes to a socket, and what it receives.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::outcome::Outcome;

/// How many bytes of a body are kept. The rest is read and discarded.
const KEPT_BYTES: usize = 16 * 1024;

/// The end of the status in the first line of a response, `HTTP/1.1 200`.
const STATUS_END: usize = 12;

/// The largest head that is read, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The pause between two bytes of a client that pretends to be slow.
const DRIP_EVERY: Duration = Duration::from_secs(1);

/// Formats an address as in `/proc/net/tcp`.
fn table_address(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

/// Returns the address 127.0.0.`last`.
pub fn loopback(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

/// Returns a request with a body, for a connection that is kept open.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut message = head(method, path, headers, body.len()).into_bytes();
    message.extend_from_slice(body);
    message
}

/// Returns the head of a request whose body has `length` bytes.
pub fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if length > 0 || method == "POST" || method == "PUT" {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head.push_str("\r\n");
    head
}

pub fn get(path: &str) -> Vec<u8> {
    request("GET", path, &[], b"")
}

pub fn post(path: &str, body: &str) -> Vec<u8> {
    request("POST", path, &[("Content-Type", "application/json")], body.as_bytes())
}

/// A complete response.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub retry_after: bool,
    /// The first bytes of the body; see [`KEPT_BYTES`].
    pub body: Vec<u8>,
    closes: bool,
}

impl Answer {
    /// Returns the body as JSON, or null if it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// How the length of a body is given.
enum Length {
    Bytes(u64),
    Chunks,
    ToTheEnd,
}

/// A connection to the server from an address of the loopback interface.
pub struct Connection {
    stream: TcpStream,
    /// Bytes that were received and not parsed yet.
    received: Vec<u8>,
    /// The status of the response that is being read.
    begun: Option<u16>,
}

impl Connection {
    pub async fn open(from: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        Self::open_with(from, to, None).await
    }

    /// Opens a connection whose receive buffer has this size.
    pub async fn open_with(from: Ipv4Addr, to: SocketAddr, buffer_bytes: Option<u32>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new(), begun: None })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a request and reads the response, which may arrive before the whole request is sent.
    pub async fn ask(&mut self, message: &[u8]) -> Result<Answer, Outcome> {
        self.begun = None;
        let is_sent = self.send_until_answered(message).await;
        let mut answer = self.answer().await?;
        answer.closes |= !is_sent;
        Ok(answer)
    }

    /// Like [`Self::ask`], but returns the outcome and whether the connection can take another request.
    pub async fn outcome(&mut self, message: &[u8]) -> (Outcome, bool) {
        match self.ask(message).await {
            Ok(answer) => (Outcome::Status(answer.status), !answer.closes),
            Err(outcome) => (outcome, false),
        }
    }

    /// Returns whether everything was sent before a response or the end arrived.
    async fn send_until_answered(&mut self, message: &[u8]) -> bool {
        let (mut read, mut write) = self.stream.split();
        let mut sending = pin!(write.write_all(message));
        let mut piece = [0; 4096];
        tokio::select! {
            biased;
            sent = &mut sending => sent.is_ok(),
            received = read.read(&mut piece) => {
                self.received.extend_from_slice(&piece[..received.unwrap_or(0)]);
                false
            }
        }
    }

    /// Reads one response.
    pub async fn answer(&mut self) -> Result<Answer, Outcome> {
        let head = self.take_head().await.map_err(|error| Outcome::of_error(&error))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
        let status: u16 = status.ok_or(Outcome::Reset)?;
        self.begun = Some(status);
        let mut answer = Answer { status, ..Answer::default() };
        let mut length = Length::ToTheEnd;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().map_or(Length::ToTheEnd, Length::Bytes),
                "transfer-encoding" => length = Length::Chunks,
                "connection" => answer.closes = value.eq_ignore_ascii_case("close"),
                "retry-after" => answer.retry_after = true,
                _ => {}
            }
        }
        if matches!(status, 204 | 304) {
            length = Length::Bytes(0);
        }
        self.take_body(length, &mut answer).await.map_err(|_| Outcome::Cut(status))?;
        Ok(answer)
    }

    async fn take_body(&mut self, length: Length, answer: &mut Answer) -> io::Result<()> {
        match length {
            Length::Bytes(bytes) => self.take(bytes, &mut answer.body).await,
            Length::Chunks => loop {
                let line = self.take_until(b"\r\n").await?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16).map_err(|_| ErrorKind::InvalidData)?;
                self.take(size, &mut answer.body).await?;
                self.take_until(b"\r\n").await?;
                if size == 0 {
                    return Ok(());
                }
            },
            Length::ToTheEnd => {
                answer.closes = true;
                loop {
                    let bytes = self.received.len() as u64;
                    self.take(bytes, &mut answer.body).await?;
                    if self.fill().await? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn take_head(&mut self) -> io::Result<String> {
        self.take_until(b"\r\n\r\n").await
    }

    async fn take_until(&mut self, end: &[u8]) -> io::Result<String> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                let text = String::from_utf8_lossy(&self.received[..at]).into_owned();
                self.received.drain(..at + end.len());
                return Ok(text);
            }
            if self.received.len() > HEAD_BYTES_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            if self.fill().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn take(&mut self, mut bytes: u64, kept: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let count = self.received.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            let room = KEPT_BYTES.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(&self.received[..room]);
            self.received.drain(..count);
            bytes -= count as u64;
            if bytes == 0 {
                return Ok(());
            }
            if self.fill().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.received.reserve(16 * 1024);
        self.stream.read_buf(&mut self.received).await
    }

    /// Returns the state of a connection on which nobody waits for a response. Does not block.
    pub fn state(&mut self) -> Outcome {
        let mut piece = [0; 1024];
        let mut end = Outcome::Open;
        // The status is in the first bytes. The rest stays unread.
        while self.received.len() < STATUS_END {
            match self.stream.try_read(&mut piece) {
                Ok(0) => {
                    end = Outcome::Closed;
                    break;
                }
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    end = Outcome::of_error(&error);
                    break;
                }
            }
        }
        let digits = self.received.get(STATUS_END - 3..STATUS_END);
        let status = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let Some(status) = self.begun.or(status) else { return end };
        let has_ended = end != Outcome::Open || self.has_server_ended().unwrap_or(false);
        if has_ended { Outcome::Cut(status) } else { Outcome::Waiting(status) }
    }

    /// Returns whether the server has closed the connection, without reading what it has sent. After the
    /// close, the kernel's table lists the other end as not established (proc(5), `/proc/net/tcp`).
    fn has_server_ended(&self) -> Option<bool> {
        const ESTABLISHED: &str = "01";
        let (own, server) = (self.stream.local_addr().ok()?, self.stream.peer_addr().ok()?);
        let (own, server) = (table_address(own)?, table_address(server)?);
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let state = table.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            (words.next() == Some(&server) && words.next() == Some(&own)).then(|| words.next()).flatten()
        });
        Some(state != Some(ESTABLISHED))
    }

    /// Sends a byte each second until the server responds or closes the connection.
    pub async fn drip(&mut self, byte: u8) -> Outcome {
        loop {
            if timeout(DRIP_EVERY, self.stream.readable()).await.is_ok() {
                return self.stirred().await;
            }
            if let Err(error) = self.send(&[byte]).await {
                return Outcome::of_error(&error);
            }
        }
    }

    /// Waits until the server sends something or closes the connection.
    pub async fn stirred(&mut self) -> Outcome {
        match self.answer().await {
            Ok(answer) => Outcome::Status(answer.status),
            Err(outcome) => outcome,
        }
    }
}

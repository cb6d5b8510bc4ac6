//! Requests written by hand that client libraries don't send.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::server::TestServer;

/// An answer before it is parsed.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub text: String,
}

/// Connects from 127.0.0.1.
pub async fn connect(server: &TestServer) -> TcpStream {
    connect_from(server, [127, 0, 0, 1]).await
}

/// Connects from another address of this machine.
pub async fn connect_from(server: &TestServer, address: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    // With a small window, an answer that is not read stays at the server.
    socket.set_recv_buffer_size(8 << 10).expect("a buffer");
    socket.bind(SocketAddr::new(IpAddr::from(address), 0)).expect("an address");
    let to = server.url.strip_prefix("http://").expect("a URL").parse().expect("an address");
    socket.connect(to).await.expect("a connection")
}

/// Returns the answer to `request`, read until the server closes the connection.
pub async fn ask(server: &TestServer, request: &str) -> Answer {
    let mut connection = connect(server).await;
    connection.write_all(request.as_bytes()).await.expect("sent");
    read(&mut connection).await
}

/// Reads until the server closes the connection.
pub async fn read(connection: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer also ends the connection.
    let _ = connection.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Answer { status, text }
}

impl Answer {
    pub fn assert(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.text.contains(&format!("\"code\":\"{code}\"")), "{}", self.text);
    }
}

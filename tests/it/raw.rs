//! Hand-written requests that client libraries would not send.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::schema;
use crate::server::TestServer;

/// A response before it is parsed.
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
    // With a small window, a response that is not read stays at the server.
    socket.set_recv_buffer_size(8 << 10).expect("a buffer");
    socket.bind(SocketAddr::new(IpAddr::from(address), 0)).expect("an address");
    let to = server.url.strip_prefix("http://").expect("a URL").parse().expect("an address");
    socket.connect(to).await.expect("a connection")
}

/// Returns the response to `request`, read until the server closes the connection.
pub async fn ask(server: &TestServer, request: &str) -> Answer {
    let mut connection = connect(server).await;
    connection.write_all(request.as_bytes()).await.expect("sent");
    let answer = read(&mut connection).await;
    answer.check(request);
    answer
}

/// Reads until the server closes the connection.
pub async fn read(connection: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the response also ends the connection.
    let _ = connection.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Answer { status, text }
}

impl Answer {
    /// Validates the response against the document, if it is the only response to this request and its body
    /// came in one piece.
    fn check(&self, request: &str) {
        let mut words = request.split(' ');
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
        let Some((head, body)) = self.text.split_once("\r\n\r\n") else { return };
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
        };
        if field("content-length") != Some(body.len().to_string().as_str()) {
            return;
        }
        if body.is_empty() {
            // Input that is not HTTP is refused before it counts as a request.
            return;
        }
        let media_type = field("content-type").and_then(|value| value.split(';').next());
        let path = path.split('?').next().unwrap_or_default();
        let answer = schema::Answer { status: self.status, media_type, body: Some(body.as_bytes()) };
        schema::check(method, path, &answer)
            .unwrap_or_else(|fault| panic!("{request}: {fault}\n{}", self.text));
    }

    pub fn assert(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.text.contains(&format!("\"code\":\"{code}\"")), "{}", self.text);
    }
}

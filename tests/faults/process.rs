//! The binary as a process, and an HTTP/1.1 client with a deadline for each request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::BINARY;
pub use crate::command::{chainrule, output};

/// The time limit for a server to listen.
const START_WITHIN: Duration = Duration::from_secs(60);

/// The default time limit for a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The pause between two polls.
const PAUSE: Duration = Duration::from_millis(5);

/// Polls until `look` returns a value. Returns `None` after `within`.
pub fn poll<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// The command line of a server.
pub struct Serve {
    folder: PathBuf,
    command: Command,
}

impl Serve {
    /// `chainrule serve` on `folder` and a free port of the loopback interface.
    pub fn new(folder: &Path) -> Self {
        let mut command = chainrule(&["serve", "--listen", "127.0.0.1:0", "--log", "warn"]);
        // Most tests look at every job, so retention is off unless they set its flag.
        command.env("CHAINRULE_KEEP_JOBS", "all").arg("--data-dir").arg(folder);
        Self { folder: folder.to_owned(), command }
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts the server and waits until it listens.
    pub fn start(self) -> Server {
        self.try_start().unwrap_or_else(|why| panic!("no server: {why}"))
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Errors
    /// Returns the exit status and standard error if the server ends first.
    pub fn try_start(mut self) -> Result<Server, String> {
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{BINARY}: {error}"))?;
        let errors = collected(child.stderr.take().expect("a pipe"));
        let lines = lines_of(child.stdout.take().expect("a pipe"));
        let mut server =
            Server { child, address: ([127, 0, 0, 1], 0).into(), folder: self.folder, errors, status: None };
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    let Some(address) = line.trim().strip_prefix("listening on http://") else { continue };
                    server.address = address.parse().expect("an address");
                    return Ok(server);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = server.wait(START_WITHIN);
                    // The thread that reads standard error holds a second reference until the end of the
                    // stream.
                    poll(START_WITHIN, || (Arc::strong_count(&server.errors) == 1).then_some(()));
                    return Err(format!("it ended with {status:?}: {}", server.errors()));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(format!("it doesn't listen after {START_WITHIN:?}: {}", server.errors()));
                }
            }
        }
    }
}

/// A running server. It is killed on drop.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub folder: PathBuf,
    errors: Arc<Mutex<String>>,
    status: Option<ExitStatus>,
}

impl Server {
    pub fn client(&self) -> Client {
        Client { address: self.address, within: ANSWER_WITHIN }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what the server has written to standard error so far.
    pub fn errors(&self) -> String {
        self.errors.lock().expect("a lock").clone()
    }

    pub fn is_alive(&mut self) -> bool {
        self.wait(Duration::ZERO).is_none()
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub fn kill(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        self.status = Some(self.child.wait().expect("a process"));
    }

    /// Sends the signal of this name: `TERM`, `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        if self.status.is_some() {
            return;
        }
        let pid = self.pid().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).stderr(Stdio::null()).status();
        // The process may have ended already.
        status.expect("kill runs");
    }

    /// Returns the exit status, or `None` if the process still runs after `within`.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = poll(within, || self.child.try_wait().expect("a process"));
        }
        self.status
    }

    /// Sends SIGTERM and returns the exit status.
    pub fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait(within).unwrap_or_else(|| panic!("it runs {within:?} after SIGTERM: {}", self.errors()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.kill();
        }
    }
}

/// A response of a server.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON, or null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A client of one server. Each request has its own connection and deadline.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub address: SocketAddr,
    pub within: Duration,
}

impl Client {
    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// Returns an error if the response is not complete in time.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let deadline = Instant::now() + self.within;
        let mut stream = TcpStream::connect_timeout(&self.address, self.within)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.within))?;
        let mut message =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            message.push_str(&format!("{name}: {value}\r\n"));
        }
        message.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut message = message.into_bytes();
        message.extend_from_slice(body);
        // A refusal may come before the whole request is sent. The response can be read all the same.
        let sent = stream.write_all(&message);
        let received = read_to_end(&mut stream, deadline)?;
        parse(&received).ok_or_else(|| {
            sent.err().unwrap_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no whole answer"))
        })
    }

    /// Sends `GET path`.
    ///
    /// # Errors
    /// Returns an error if the response is not complete in time.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, &[], b"")
    }

    /// Sends `body` as JSON.
    ///
    /// # Errors
    /// Returns an error if the response is not complete in time.
    pub fn send_json(&self, method: &str, path: &str, body: &Value) -> io::Result<Answer> {
        self.request(method, path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Posts a job, with an idempotency key if there is one.
    ///
    /// # Errors
    /// Returns an error if the response is not complete in time.
    pub fn post_job(&self, spec: &Value, key: Option<&str>) -> io::Result<Answer> {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(key.map(|key| ("Idempotency-Key", key)));
        self.request("POST", "/v1/jobs", &headers, spec.to_string().as_bytes())
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// Returns an error if the response is not complete in time.
    pub fn cancel(&self, id: &str) -> io::Result<Answer> {
        self.request("POST", &format!("/v1/jobs/{id}/cancel"), &[], b"")
    }

    /// Sends `DELETE path`.
    ///
    /// # Errors
    /// Returns an error if the response is not complete in time.
    pub fn delete(&self, path: &str) -> io::Result<Answer> {
        self.request("DELETE", path, &[], b"")
    }

    /// Predicts a blank image.
    ///
    /// # Errors
    /// Returns an error if the response is not complete in time.
    pub fn predict(&self, model: &str) -> io::Result<Answer> {
        let headers = [("Content-Type", "application/octet-stream")];
        self.request("POST", &format!("/v1/models/{model}/predict"), &headers, &[0; 784])
    }

    /// Returns the job, or `None` without a 200 response.
    pub fn job(&self, id: &str) -> Option<Value> {
        let answer = self.get(&format!("/v1/jobs/{id}")).ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Returns the jobs of all pages.
    ///
    /// # Errors
    /// Returns an error if a 200 response is not complete in time.
    pub fn jobs(&self) -> io::Result<Vec<Value>> {
        self.all("/v1/jobs", "jobs")
    }

    /// Returns all models with all their versions. A model that is deleted meanwhile has no versions.
    ///
    /// # Errors
    /// Returns an error if a 200 response is not complete in time.
    pub fn models(&self) -> io::Result<Vec<Value>> {
        let mut models = self.all("/v1/models", "models")?;
        for model in &mut models {
            let path = format!("/v1/models/{}", model["name"].as_str().unwrap_or_default());
            model["versions"] = match self.get(&path)?.status {
                404 => Value::Array(Vec::new()),
                _ => self.all(&path, "versions")?.into(),
            };
        }
        Ok(models)
    }

    /// Returns the rows of all pages of a list.
    ///
    /// # Errors
    /// Returns an error if a 200 response is not complete in time.
    pub fn all(&self, list: &str, name: &str) -> io::Result<Vec<Value>> {
        let mut rows = Vec::new();
        let mut path = format!("{list}?limit=200");
        loop {
            let answer = self.get(&path)?;
            if answer.status != 200 {
                return Err(io::Error::other(format!("GET {path}: {} {}", answer.status, answer.text())));
            }
            let page = answer.json();
            rows.extend(page[name].as_array().cloned().unwrap_or_default());
            let Some(cursor) = page["next_cursor"].as_str() else { return Ok(rows) };
            path = format!("{list}?limit=200&cursor={cursor}");
        }
    }

    /// Polls a job until `is_so` holds for it.
    ///
    /// # Errors
    /// Returns the last state of the job if `is_so` does not hold in time.
    pub fn until(&self, id: &str, within: Duration, is_so: impl Fn(&Value) -> bool) -> Result<Value, Value> {
        let mut last = Value::Null;
        let found = poll(within, || {
            last = self.job(id)?;
            is_so(&last).then(|| last.clone())
        });
        found.ok_or(last)
    }

    /// Polls a job until it has ended.
    ///
    /// # Errors
    /// Returns the last state of the job if it does not end in time.
    pub fn ended(&self, id: &str, within: Duration) -> Result<Value, Value> {
        self.until(id, within, has_ended)
    }
}

/// Returns whether a job is in a final state.
pub fn has_ended(job: &Value) -> bool {
    matches!(job["state"].as_str(), Some("succeeded" | "failed" | "cancelled"))
}

fn read_to_end(stream: &mut TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(received),
            Ok(count) => received.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // The connection to a killed server is reset. The bytes received before may still be a complete
            // response.
            Err(error) if received.is_empty() => return Err(error),
            Err(_) => return Ok(received),
        }
    }
}

/// Parses a response, or returns `None` if it is incomplete.
fn parse(received: &[u8]) -> Option<Answer> {
    let split = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..split]).ok()?;
    let rest = &received[split + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    answer.body = if answer.header("transfer-encoding") == Some("chunked") {
        unchunked(rest)?
    } else {
        match answer.header("content-length") {
            Some(length) => rest.get(..length.parse().ok()?)?.to_vec(),
            None => rest.to_vec(),
        }
    };
    Some(answer)
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// Returns the lines of standard output. Reads to the end, so that the pipe never fills up.
fn lines_of(stdout: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody receives the lines after the first.
            let _ = sender.send(line);
        }
    });
    lines
}

fn collected(mut stderr: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&text);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count) = stderr.read(&mut piece) {
            if count == 0 {
                break;
            }
            shared.lock().expect("a lock").push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    });
    text
}

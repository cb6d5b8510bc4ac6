//! The built binary as a process.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::command::BINARY;
pub use crate::command::{chainrule, output};

/// A process of `chainrule serve`. It is killed on drop.
pub struct Process {
    child: Child,
    pub url: String,
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

impl Process {
    pub fn serve(folder: &Path) -> Self {
        Self::serve_with(folder, &[])
    }

    pub fn serve_with(folder: &Path, flags: &[&str]) -> Self {
        let folder = folder.to_str().expect("a path in UTF-8");
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", folder, "--log", "warn"];
        Self::listening(chainrule(&[&serve, flags].concat()))
    }

    /// Starts a server whose files can't grow beyond this many blocks of 1,024 bytes.
    pub fn serve_with_files_of(folder: &Path, blocks: u32) -> Self {
        let serve =
            "trap '' XFSZ; ulimit -f $0; exec \"$1\" serve --listen 127.0.0.1:0 --data-dir \"$2\" --log off";
        let mut command = Command::new("bash");
        command.args(["-c", serve, &blocks.to_string(), BINARY]).arg(folder);
        Self::listening(command)
    }

    /// Starts a server that logs at most `requests_max` requests in a second, as JSON. Also returns its standard error.
    pub fn serve_logging(folder: &Path, requests_max: u32) -> (Self, ChildStderr) {
        let (folder, requests_max) = (folder.to_str().expect("a path in UTF-8"), requests_max.to_string());
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", folder, "--log-format", "json"];
        let serve = [&serve[..], &["--log-requests-max", &requests_max]].concat();
        let mut process = Self::started(chainrule(&serve), Stdio::piped());
        let log = process.child.stderr.take().expect("a pipe");
        (process, log)
    }

    fn listening(command: Command) -> Self {
        Self::started(command, Stdio::null())
    }

    fn started(mut command: Command, stderr: Stdio) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the binary runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, url }
    }

    /// Sends a request written by hand. Returns the response.
    pub fn ask(&self, request: &str) -> String {
        answer(&self.url, request).expect("an answer")
    }

    pub fn get(&self, path: &str) -> Value {
        request(&self.url, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// Returns whether the server reports that it is ready.
    pub fn is_ready(&self) -> bool {
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        answer(&self.url, request).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    pub fn post_job(&self, body: &str) -> Value {
        self.try_post_job(body).1
    }

    pub fn post(&self, path: &str) -> (u16, Value) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        try_request(&self.url, &head)
    }

    /// Posts a job. Returns the status and the response.
    pub fn try_post_job(&self, body: &str) -> (u16, Value) {
        let head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
        try_request(&self.url, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// Polls a job until `is_so` holds for it.
    pub fn until(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        loop {
            let job = self.get(&format!("/v1/jobs/{id}"));
            if is_so(&job) {
                return job;
            }
        }
    }

    /// Waits until a job is in this epoch. Panics if the job ends before.
    pub fn in_epoch(&self, id: &str, epoch: u64) -> Value {
        loop {
            let job = self.get(&format!("/v1/jobs/{id}"));
            assert!(matches!(job["state"].as_str(), Some("queued" | "running")), "{job}");
            if job["progress"]["epoch"].as_u64() >= Some(epoch) {
                return job;
            }
        }
    }

    pub fn ended(&self, id: &str) -> Value {
        loop {
            let job = self.get(&format!("/v1/jobs/{id}?wait_seconds=30"));
            if !matches!(job["state"].as_str(), Some("queued" | "running")) {
                return job;
            }
        }
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("a process");
        self.child.wait().expect("a process");
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().expect("kill runs").success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("a process")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(url: &str, request: &str) -> Value {
    try_request(url, request).1
}

fn answer(url: &str, request: &str) -> std::io::Result<String> {
    use std::io::Write;
    let address = url.strip_prefix("http://").expect("an address");
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn try_request(url: &str, request: &str) -> (u16, Value) {
    let answer = answer(url, request).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

//! A server to attack: a process with default limits and its own data folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal};

const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// A running server. It is killed on drop.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts `binary` on `folder` with this limit of open files, and waits until it listens.
    pub fn start(binary: &Path, folder: &Path, flags: &[&str], files: &Rlimit) -> Result<Self> {
        let log = folder.with_extension("log");
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--color", "never", "--data-dir"])
            .arg(folder)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("{} can't be run", binary.display()))?;
        let pid = Pid::from_child(&child);
        let stdout = child.stdout.take().context("no pipe")?;
        let mut server = Self { child, address: ([127, 0, 0, 1], 0).into(), log };
        rustix::process::prlimit(Some(pid), Resource::Nofile, *files)?;
        let (sender, lines) = std::sync::mpsc::channel();
        // The thread ends with the server, which holds the other end of the pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody receives the lines after the address.
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = lines.recv_timeout(left) else {
                bail!("{} does not listen: {}", binary.display(), server.last_words());
            };
            if let Some(address) = line.trim().strip_prefix("listening on http://") {
                server.address = address.parse()?;
                return Ok(server);
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns how the server ended, if it did.
    pub fn end(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{status}: {}", self.last_words()))
    }

    /// Returns the last line of the server's log.
    fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word").to_owned()
    }

    /// Sends SIGTERM and waits for the end of the process.
    pub fn stop(mut self) -> Result<()> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + STOP_WITHIN;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                bail!("the server runs {STOP_WITHIN:?} after SIGTERM");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

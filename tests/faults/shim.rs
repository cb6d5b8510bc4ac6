//! The library that is preloaded between a server and its folder (`shim.c`), and the control file's numbers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::command::chainrule;
use crate::process::Serve;

/// Values of `errno.h`.
pub const EIO: i64 = 5;
pub const ENOSPC: i64 = 28;
pub const EROFS: i64 = 30;
pub const EDQUOT: i64 = 122;

/// Classes of operations. They can be combined by addition.
pub const WRITES: i64 = 1;
pub const CREATES: i64 = 2;
pub const REMOVES: i64 = 4;
pub const SYNCS: i64 = 8;

/// The numbers of the control file, in order.
#[derive(Clone, Copy)]
pub enum Number {
    Operations,
    DieAt,
    Clock,
    Error,
    Classes,
    Shots,
    From,
    Where,
    Quota,
    Refused,
    Log,
}

const NUMBERS: usize = Number::Log as usize + 1;

/// The part of the folder in which operations fail.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Anywhere,
    Rows,
    Blobs,
}

/// Which operations fail, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    pub error: i64,
    pub classes: i64,
    pub place: Place,
    /// How many operations fail; negative for all until [`Shim::heal`].
    pub shots: i64,
}

/// The shim around one folder, for the servers that are started with it.
pub struct Shim {
    /// The watched folder, which contains the data folder of the server.
    pub folder: PathBuf,
    control: File,
    control_path: PathBuf,
    log_path: Option<PathBuf>,
}

impl Shim {
    /// Watches `folder`. The shim's own files are in `aside`.
    pub fn new(folder: &Path, aside: &Path) -> Self {
        let control_path = aside.join("control");
        let control = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&control_path)
            .expect("a control file");
        control.set_len(8 * NUMBERS as u64).expect("a length");
        let folder = folder.canonicalize().expect("a folder");
        let shim = Self { folder, control, control_path, log_path: None };
        shim.set(Number::Quota, -1);
        shim
    }

    /// Also logs the operations to `path`.
    pub fn with_log(mut self, path: &Path) -> Self {
        self.log_path = Some(path.to_owned());
        self.set(Number::Log, 1);
        self
    }

    pub fn set(&self, number: Number, value: i64) {
        self.control.write_all_at(&value.to_le_bytes(), 8 * number as u64).expect("a control file");
    }

    pub fn get(&self, number: Number) -> i64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, 8 * number as u64).expect("a control file");
        i64::from_le_bytes(bytes)
    }

    /// Makes operations fail from now on.
    pub fn fail(&self, failure: Failure) {
        self.set(Number::Error, 0);
        self.set(Number::Classes, failure.classes);
        self.set(Number::Where, failure.place as i64);
        self.set(Number::Shots, failure.shots);
        self.set(Number::Error, failure.error);
    }

    /// Ends all failures.
    pub fn heal(&self) {
        self.set(Number::Error, 0);
        self.set(Number::Quota, -1);
    }

    /// Returns the environment of a process that runs with the shim.
    fn environment(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let names = [
            ("LD_PRELOAD", library()),
            ("SHIM_FOLDER", self.folder.as_path()),
            ("SHIM_CONTROL", self.control_path.as_path()),
        ];
        names.into_iter().chain(self.log_path.as_deref().map(|path| ("SHIM_LOG", path)))
    }

    /// Returns a server that runs with the shim.
    pub fn serve(&self, data: &Path) -> Serve {
        self.environment().fold(Serve::new(data), |serve, (name, value)| serve.env(name, value))
    }

    /// Runs a command with the shim and waits for its end.
    pub fn output(&self, arguments: &[&str]) -> Output {
        chainrule(arguments).envs(self.environment()).output().expect("the binary runs")
    }
}

/// Builds the library once per test process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("shim.c");
        std::fs::write(&source, include_str!("shim.c")).expect("a source");
        let path = folder.path().join("shim.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
            .args([&path, &source])
            .arg("-ldl")
            .output()
            .expect("a C compiler");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        (folder, path)
    });
    path
}

/// Returns a temporary folder for data that needs no real disk, in memory if possible.
pub fn scratch() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a folder")
}

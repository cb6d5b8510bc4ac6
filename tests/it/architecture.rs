//! Which room may know which: read from the `use` lines and paths of the source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rooms and the rooms they may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("nn", &[]),
    ("data", &[]),
    ("fields", &[]),
    ("graph", &[]),
    ("train", &["data", "fields", "nn"]),
    ("lab", &["data", "fields", "nn", "train"]),
    ("artifact", &["nn", "train"]),
    ("job", &["train"]),
    ("model", &["job", "nn", "train"]),
    ("fault", &[]),
    ("blobs", &[]),
    ("store", &["blobs", "fault", "job", "model", "nn", "train"]),
    ("inventory", &["blobs", "fault", "job", "store"]),
    ("registry", &["artifact", "blobs", "fields", "job", "model", "nn", "store", "train"]),
    ("integrity", &["artifact", "blobs", "inventory", "job", "store"]),
    ("folder", &["app", "blobs", "store"]),
    ("backup", &["app", "blobs", "folder", "integrity", "inventory", "store"]),
    ("telemetry", &["config", "job"]),
    (
        "worker",
        &["artifact", "blobs", "data", "fault", "job", "nn", "registry", "store", "telemetry", "train"],
    ),
    ("upkeep", &["blobs", "config", "inventory", "job", "registry", "store", "telemetry"]),
    ("config", &["data", "fault", "lab", "train"]),
    (
        "http",
        &[
            "app", "blobs", "config", "data", "fields", "graph", "job", "lab", "model", "nn", "registry",
            "store", "train",
        ],
    ),
    (
        "app",
        &[
            "blobs",
            "config",
            "fault",
            "inventory",
            "job",
            "registry",
            "store",
            "telemetry",
            "upkeep",
            "worker",
        ],
    ),
    ("server", &["app", "config", "http", "worker"]),
    (
        "cli",
        &[
            "app",
            "backup",
            "config",
            "data",
            "fault",
            "fields",
            "folder",
            "graph",
            "http",
            "integrity",
            "job",
            "lab",
            "model",
            "server",
            "telemetry",
            "train",
        ],
    ),
];

/// Crates that only some rooms may name.
const CRATES: &[(&str, &[&str])] = &[
    ("axum", &["http"]),
    ("hyper", &["http"]),
    ("sqlx", &["store"]),
    ("object_store", &["blobs"]),
    ("reqwest", &["cli"]),
    ("clap", &["cli", "config"]),
    ("prometheus_client", &["telemetry"]),
    ("safetensors", &["artifact"]),
    ("image", &["data"]),
    ("flate2", &["data"]),
    ("tar", &["backup"]),
    (
        "tokio",
        &[
            "app",
            "blobs",
            "cli",
            "folder",
            "http",
            "integrity",
            "registry",
            "server",
            "store",
            "upkeep",
            "worker",
        ],
    ),
    ("tracing", &["app", "http", "inventory", "registry", "server", "store", "upkeep", "worker"]),
];

/// Words that the pure rooms don't say.
const IMPURE: &[&str] =
    &["std::time", "Instant", "SystemTime", "std::fs", "std::env::", "std::net", "println!"];
const PURE: &[&str] = &["nn", "graph", "data", "train"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// (room, file, code without comments and tests) of every source file.
fn rooms() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let room = |file: PathBuf| {
        let inside = file.strip_prefix(&root).expect("inside");
        let first = inside.iter().next().expect("a name").to_str().expect("UTF-8");
        let room = first.trim_end_matches(".rs").to_owned();
        let text = std::fs::read_to_string(&file).expect("a file");
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        (room, file, code)
    };
    files.into_iter().map(room).filter(|(room, ..)| room != "lib" && room != "main").collect()
}

/// The rooms that `code` names as `crate::room`, also in braces.
fn imports(code: &str) -> BTreeSet<String> {
    code.match_indices("crate::")
        .filter_map(|(at, found)| {
            let rest = &code[at + found.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
            (end > 0).then(|| rest[..end].to_owned())
        })
        .collect()
}

/// Every forbidden thing in `code` of `room`.
fn forbidden(room: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{room} is no room of the table")];
    };
    for other in imports(code) {
        if other != room && !allowed.contains(&other.as_str()) {
            found.push(format!("{room} imports {other}"));
        }
    }
    for (name, rooms) in CRATES {
        if !rooms.contains(&room) && code.contains(&format!("{name}::")) {
            found.push(format!("{room} names {name}"));
        }
    }
    if PURE.contains(&room) {
        found.extend(
            IMPURE.iter().filter(|word| code.contains(**word)).map(|word| format!("{room} says {word}")),
        );
    }
    if room != "config" && (code.contains("std::env::var") || code.contains("env::var_os")) {
        found.push(format!("{room} reads the environment"));
    }
    found
}

#[test]
fn every_arrow_between_rooms_is_one_of_the_table() {
    for (room, file, code) in rooms() {
        let found = forbidden(&room, &code);
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
}

#[test]
fn unsafe_code_is_in_the_kernels_alone() {
    for (_, file, code) in rooms() {
        let is_kernel = file.components().any(|part| part.as_os_str() == "kernel");
        let says_unsafe = code.split_whitespace().any(|word| word == "unsafe");
        assert!(is_kernel || !says_unsafe, "{}", file.display());
    }
}

#[test]
fn a_forbidden_arrow_a_forbidden_crate_and_a_clock_in_a_pure_room_are_caught() {
    assert_eq!(forbidden("nn", "use crate::http::Problem;"), ["nn imports http"]);
    assert_eq!(forbidden("worker", "let q = sqlx::query(\"\");"), ["worker names sqlx"]);
    assert_eq!(forbidden("train", "let now = Instant::now();"), ["train says Instant"]);
    assert_eq!(forbidden("worker", "std::env::var(\"HOME\")"), ["worker reads the environment"]);
    assert_eq!(forbidden("kitchen", ""), ["kitchen is no room of the table"]);
    assert!(forbidden("train", "use crate::nn::Network;").is_empty());
}

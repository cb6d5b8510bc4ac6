//! Checks which rooms each room imports, by the `use` lines and paths in the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Returns the rooms in ARCHITECTURE.md, and the rooms that each of them may import.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).expect("a file");
    let words = |cell: &str| -> Vec<String> {
        let words = cell.split(',').map(|word| word.trim().trim_matches('`'));
        let names = words.map(|word| word.trim_end_matches(".rs").trim_end_matches('/'));
        names.filter(|name| *name != "–").map(str::to_owned).collect()
    };
    let mut arrows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [rooms, .., others] = cells[..] else { panic!("{line}") };
        for room in words(rooms) {
            arrows.insert(room, words(others).into_iter().collect());
        }
    }
    arrows
}

/// Crates that only some rooms of the server may name. The engine's crates are listed in its `Cargo.toml`, and clippy
/// keeps it from clocks and files (`crates/engine/clippy.toml`).
const CRATES: &[(&str, &[&str])] = &[
    ("axum", &["http"]),
    ("hyper", &["http"]),
    ("sqlx", &["store"]),
    ("object_store", &["blobs"]),
    ("reqwest", &["cli"]),
    ("clap", &["cli", "config"]),
    ("prometheus", &["telemetry"]),
    ("flate2", &["cli", "data", "http"]),
    ("tar", &["backup"]),
    ("utoipa", &["api", "http"]),
    (
        "tokio",
        &[
            "admission",
            "app",
            "blobs",
            "cli",
            "folder",
            "http",
            "integrity",
            "registry",
            "server",
            "service",
            "store",
            "upkeep",
            "worker",
        ],
    ),
    (
        "tracing",
        &[
            "admission",
            "app",
            "blobs",
            "http",
            "inventory",
            "priority",
            "registry",
            "server",
            "service",
            "store",
            "upkeep",
            "worker",
        ],
    ),
];

/// Words that must not occur in the engine. Clippy refuses some of them too (`crates/engine/clippy.toml`).
const PURE: &[&str] = &["nn", "fields", "graph", "data", "train", "lab", "artifact"];
const IMPURE: &[&str] = &["Instant", "SystemTime", "std::fs", "std::env::", "std::net", "println!"];

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

/// Returns room, file and code of every source file. Comments and tests are left out.
fn rooms() -> Vec<(String, PathBuf, String)> {
    ["src", "crates/engine/src"].into_iter().flat_map(rooms_of).collect()
}

fn rooms_of(folder: &str) -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
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

/// Returns the rooms that `code` imports as `crate::room` or `crate::{room, other::Thing}`.
fn imports(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        let rest = &code[at + start.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, c) in list.char_indices() {
            if begins && depth == 0 {
                found.insert(name(&list[at..]));
            }
            begins = c == ',';
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    found.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    found
}

/// Returns everything forbidden in `code` of `room`.
fn forbidden(arrows: &BTreeMap<String, BTreeSet<String>>, room: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Some(allowed) = arrows.get(room) else {
        return vec![format!("{room} is no room of the table")];
    };
    for other in imports(code) {
        if other != room && !allowed.contains(&other) {
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
fn the_arrows_between_rooms_are_those_of_the_table() {
    let arrows = arrows();
    let mut unused = arrows.clone();
    for (room, file, code) in rooms() {
        let found = forbidden(&arrows, &room, &code);
        assert!(found.is_empty(), "{}: {found:?}", file.display());
        let used = imports(&code);
        unused.get_mut(&room).expect("a room").retain(|other| !used.contains(other));
    }
    unused.retain(|_, others| !others.is_empty());
    assert!(unused.is_empty(), "in the table, not in the source: {unused:?}");
}

/// These words are specific to SQLite. They occur only in the files that a second database would replace.
#[test]
fn statements_are_in_the_folder_of_their_database_alone() {
    for (room, file, code) in rooms() {
        let is_of_a_database = file.components().any(|part| part.as_os_str() == "sqlite");
        for word in ["sqlx::query", "SELECT ", "UPDATE ", "INSERT ", "PRAGMA", "SqlitePool", "Transaction<"] {
            let says_it = room == "store" && code.contains(word);
            assert!(is_of_a_database || !says_it, "{} says {word}", file.display());
        }
    }
}

/// The name of the database, and the names of its files. Where the store chooses its database, it names the folder.
#[test]
fn only_the_folder_of_a_database_knows_its_name_and_its_files() {
    for (room, file, code) in rooms() {
        let is_in_store = |name: &str| room == "store" && file.ends_with(name);
        if room == "store" && file.components().any(|part| part.as_os_str() == "sqlite") {
            continue;
        }
        let chooses = is_in_store("store/mod.rs") || is_in_store("store/database.rs");
        let code = code.to_lowercase();
        for word in ["sqlite", "-wal", "-shm", "-journal"] {
            let may_say = chooses && word == "sqlite";
            assert!(may_say || !code.contains(word), "{} says {word}", file.display());
        }
    }
}

#[test]
fn unsafe_code_is_only_in_the_kernels() {
    for (_, file, code) in rooms() {
        let is_kernel = file.components().any(|part| part.as_os_str() == "kernel");
        let says_unsafe = code.split_whitespace().any(|word| word == "unsafe");
        assert!(is_kernel || !says_unsafe, "{}", file.display());
    }
}

#[test]
fn a_forbidden_arrow_a_forbidden_crate_and_a_clock_in_a_pure_room_are_caught() {
    let arrows = arrows();
    assert_eq!(forbidden(&arrows, "nn", "use crate::http::Problem;"), ["nn imports http"]);
    assert_eq!(forbidden(&arrows, "worker", "let q = sqlx::query(\"\");"), ["worker names sqlx"]);
    assert_eq!(forbidden(&arrows, "train", "let now = Instant::now();"), ["train says Instant"]);
    assert_eq!(forbidden(&arrows, "worker", "std::env::var(\"HOME\")"), ["worker reads the environment"]);
    assert_eq!(forbidden(&arrows, "kitchen", ""), ["kitchen is no room of the table"]);
    let several = "use crate::{data::{Dataset, named}, http, nn::Network};";
    assert_eq!(forbidden(&arrows, "train", several), ["train imports http"]);
    assert!(forbidden(&arrows, "train", "use crate::nn::Network;").is_empty());
}

//! Data folders are checked, repaired, backed up and restored.

mod repair;
mod uploaded;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::process::{Process, output, text};
use crate::server::TestServer;

/// A job of a few seconds.
const LONG: &str = r#"{"model": "long", "epochs": 12, "train_samples": 20000, "seed": 5, "checkpoint": {"every_epochs": 1, "keep": 100},
    "network": {"layers": [{"type": "dense", "units": 256}, {"type": "relu"}, {"type": "dense", "units": 10}]}}"#;

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs a command on a data folder. Returns its status, standard output and standard error.
fn on(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = output(&[arguments, &["--data-dir", utf8(folder)]].concat());
    let (results, errors) = (text(&stdout).to_owned(), text(&stderr).to_owned());
    assert!(!errors.contains("panicked") && errors.lines().count() <= 3, "{errors}");
    (status.code(), results, errors)
}

/// Runs a command that must succeed. Returns its output.
fn done(folder: &Path, arguments: &[&str]) -> String {
    let (status, results, errors) = on(folder, arguments);
    assert_eq!(status, Some(0), "{arguments:?}: {results}{errors}");
    results
}

/// Runs a command that must fail. Returns its error.
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let (status, results, errors) = on(folder, arguments);
    assert_eq!(status, Some(1), "{arguments:?}: {results}{errors}");
    assert!(errors.starts_with("error: "), "{errors}");
    results + &errors
}

/// Makes a data folder with one job, its two checkpoints and its published model. Its server has stopped.
async fn trained(folder: &Path) -> Value {
    let server = TestServer::start_in(folder, &[]).await;
    let request =
        json!({ "train_samples": 2_000, "epochs": 2, "checkpoint": { "every_epochs": 1, "keep": 2 } });
    let id = server.create(request).await["id"].as_str().expect("an id").to_owned();
    let job = server.ended(&id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    server.stop().await;
    job
}

/// Returns the file in `blobs` whose name contains `of`, or the last of several.
fn blob(folder: &Path, of: &str) -> PathBuf {
    let files = fs::read_dir(folder.join("blobs").join(of)).expect("a folder");
    let files = files.map(|entry| entry.expect("an entry").path());
    // Sorts by step, since the attempt has one digit.
    files.max_by_key(|path| (utf8(path).len(), path.clone())).expect("a file")
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

fn flip_middle(path: &Path) {
    flip(path, fs::metadata(path).expect("a file").len() as usize / 2);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

fn weights(process: &Process, model: &str) -> Value {
    process.get(&format!("/v1/models/{model}"))["versions"][0]["sha256"].clone()
}

#[test]
fn a_backup_of_a_running_server_contains_all_it_acknowledged_and_its_jobs_resume() {
    let (folder, restored) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("backup.tar");
    let process = Process::serve(folder.path());
    let post = |body: &str| process.post_job(body)["id"].as_str().expect("an id").to_owned();
    let first = post(r#"{"model": "first", "train_samples": 2000, "epochs": 2}"#);
    assert_eq!(process.ended(&first)["state"], "succeeded");
    let long = post(LONG);
    let waiting = post(r#"{"model": "waiting", "train_samples": 2000, "epochs": 1}"#);
    process.in_epoch(&long, 4);
    let told = done(folder.path(), &["backup", utf8(&file), "--json"]);
    assert_eq!(process.get(&format!("/v1/jobs/{long}"))["state"], "running", "it trains meanwhile");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["jobs"], &told["models"]), (&json!(3), &json!(1)), "{told}");
    assert_eq!(told["bytes"], json!(fs::metadata(&file).expect("a file").len()));
    assert_eq!(names(folder.path()).iter().filter(|name| name.contains("partial")).count(), 0);
    done(folder.path(), &["check"]);
    for id in [&long, &waiting] {
        assert_eq!(process.ended(id)["state"], "succeeded");
    }

    let told = done(restored.path(), &["restore", utf8(&file)]);
    assert!(told.contains("3 jobs, 1 model, "), "{told}");
    done(restored.path(), &["check"]);
    let again = Process::serve(restored.path());
    for id in [&first, &long, &waiting] {
        assert_eq!(again.ended(id)["state"], "succeeded");
    }
    assert_eq!(again.get(&format!("/v1/jobs/{long}"))["attempt"], 2, "it went on");
    let digits = folder.path().join("digits.raw");
    fs::write(&digits, [7; 784 * 3]).expect("written");
    for model in ["first", "long", "waiting"] {
        assert_eq!(weights(&again, model), weights(&process, model), "{model}");
        let read = |of: &Process| {
            let read = output(&["predict", "--json", "--server", &of.url, "--model", model, utf8(&digits)]);
            assert!(read.status.success(), "{}", text(&read.stderr));
            text(&read.stdout).to_owned()
        };
        assert_eq!(read(&again), read(&process));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_of_a_model_is_found_by_check_and_by_backup() {
    let folder = tempfile::tempdir().expect("a folder");
    trained(folder.path()).await;
    assert!(done(folder.path(), &["check"]).contains("is sound: 1 job, 1 model, 2 checkpoints"));
    flip_middle(&blob(folder.path(), "models/digits"));
    let found = refused(folder.path(), &["check"]);
    assert!(found.contains("model digits@1: ") && found.contains("has the digest"), "{found}");
    let file = folder.path().join("backup.tar");
    let found = refused(folder.path(), &["backup", utf8(&file)]);
    assert!(found.contains("model digits@1 can't be backed up"), "{found}");
    assert!(!names(folder.path()).iter().any(|name| name.starts_with("backup.tar")), "nothing half is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_found_by_check_and_left_out_of_a_backup() {
    let (folder, restored) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let id = trained(folder.path()).await["id"].as_str().expect("an id").to_owned();
    flip_middle(&blob(folder.path(), &format!("jobs/{id}")));
    let found = refused(folder.path(), &["check"]);
    assert!(found.contains(&format!("the checkpoint of job {id} at step ")), "{found}");
    let file = folder.path().join("backup.tar");
    let (status, told, errors) = on(folder.path(), &["backup", utf8(&file)]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(told.contains("1 job, 1 model, 1 checkpoint, "), "{told}");
    assert!(errors.starts_with("warning: left out the checkpoint of job"), "{errors}");
    done(restored.path(), &["restore", utf8(&file)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_finds_a_flipped_bit_or_a_truncation_of_the_backup_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let restored = folder.path().join("restored");
    trained(folder.path()).await;
    let (file, bad) = (folder.path().join("backup.tar"), folder.path().join("bad.tar"));
    done(folder.path(), &["backup", utf8(&file)]);
    let bytes = fs::read(&file).expect("a file");
    let refused_as = |why: &str| {
        let found = refused(&restored, &["restore", utf8(&bad)]);
        assert!(found.contains(why), "{why} is not in {found}");
        let is_plain = |c: char| c == '\n' || !c.is_control() && c != char::REPLACEMENT_CHARACTER;
        assert!(found.chars().all(is_plain), "{found:?}");
        assert!(names(&restored).is_empty(), "nothing is left");
    };
    // One cut is in the first blob, the other in the database, which comes before the 1,024 bytes that end a
    // tar.
    for (at, why) in [(4_096, "has the digest"), (bytes.len() - 1_024 - 2_048, "digest recorded for it")] {
        fs::write(&bad, &bytes).expect("written");
        flip(&bad, at);
        refused_as(why);
    }
    for length in [0, 512, 5_000, bytes.len() / 2, bytes.len() - 4_096] {
        fs::write(&bad, &bytes[..length]).expect("written");
        refused_as("is not a complete backup");
    }
    fs::write(&bad, "this is no tar, but a text that is a little longer than a block is".repeat(20))
        .expect("written");
    refused_as("is not a complete backup");
    fs::write(&bad, [0x1b, 0x80, 7, 0xff].repeat(1_000)).expect("written");
    refused_as("is not a complete backup");

    done(&restored, &["restore", utf8(&file)]);
    assert_eq!(names(&restored), ["blobs", "chainrule.db"]);
    done(&restored, &["check"]);
}

/// Returns a tar of one file, with any name and kind.
fn tar_of(name: &str, kind: tar::EntryType) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().expect("a header of GNU").name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_link_name("/etc/passwd").expect("a name");
    header.set_size(4);
    header.set_mode(0o644);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, &b"evil"[..]).expect("written");
    tar.into_inner().expect("written")
}

#[test]
fn a_backup_can_not_write_outside_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let restored = folder.path().join("restored");
    let bad = folder.path().join("bad.tar");
    let file = tar::EntryType::Regular;
    for (name, kind) in [
        ("../evil", file),
        ("blobs/../../evil", file),
        ("/tmp/chainrule-evil", file),
        ("blobs/../evil", file),
        ("evil", file),
        ("blobs", file),
        ("blobs/evil", file),
        ("blobs/models/evil.safetensors", file),
        ("blobs/evil", tar::EntryType::Symlink),
        ("blobs/evil", tar::EntryType::Link),
        ("blobs/evil", tar::EntryType::Directory),
    ] {
        fs::write(&bad, tar_of(name, kind)).expect("written");
        let found = refused(&restored, &["restore", utf8(&bad)]);
        assert!(found.contains("can't be in a backup"), "{name}: {found}");
        assert!(names(&restored).is_empty());
    }
    assert_eq!(names(folder.path()), ["bad.tar", "restored"]);
    assert!(!Path::new("/tmp/chainrule-evil").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_commands_are_refused_and_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    trained(path).await;
    let file = path.join("backup.tar");

    fs::write(&file, "precious").expect("written");
    let found = refused(path, &["backup", utf8(&file)]);
    assert!(found.contains("exists") && found.contains("--force"), "{found}");
    assert_eq!(fs::read(&file).expect("a file"), b"precious");
    done(path, &["backup", "--force", utf8(&file)]);
    for part in ["chainrule.db", "chainrule.db-wal", "blobs/models/backup.tar"] {
        let found = refused(path, &["backup", "--force", utf8(&path.join(part))]);
        assert!(found.contains("is part of the data folder"), "{found}");
    }
    let link = path.join("link.tar");
    std::os::unix::fs::symlink("nowhere.tar", &link).expect("a link");
    refused(path, &["backup", utf8(&link)]);
    let found = refused(path, &["backup", "--force", utf8(&link)]);
    assert!(found.contains("is not a regular file"), "{found}");
    done(path, &["check"]);
    let (status, _, errors) = on(path, &["backup", "-"]);
    assert_eq!(status, Some(2), "{errors}");

    let found = refused(path, &["restore", utf8(&file)]);
    assert!(found.contains("is not empty: it holds"), "{found}");
    let other = tempfile::tempdir().expect("a folder");
    fs::create_dir(other.path().join("blobs")).expect("a folder");
    refused(other.path(), &["restore", utf8(&file)]);
    assert_eq!(names(other.path()), ["blobs"]);

    let nowhere = path.join("nowhere");
    for arguments in [&["check"][..], &["check", "--repair"], &["backup", utf8(&path.join("other.tar"))]] {
        let found = refused(&nowhere, arguments);
        assert!(found.contains("there is no chainrule data folder at"), "{found}");
    }
    refused(&nowhere, &["restore", "nowhere.tar"]);
    assert!(!nowhere.exists() && !path.join("other.tar").exists());
    let empty = tempfile::tempdir().expect("a folder");
    refused(empty.path(), &["check"]);
    assert!(names(empty.path()).is_empty());

    let process = Process::serve(path);
    done(path, &["check"]);
    let found = refused(path, &["check", "--repair"]);
    assert!(found.contains("in use by another chainrule process"), "{found}");
    drop(process);
    let held = fs::File::open(path).expect("a file");
    held.lock().expect("a lock");
    let found = refused(path, &["check"]);
    assert!(found.contains("is held by another chainrule process"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_starts_over() {
    let folder = tempfile::tempdir().expect("a folder");
    trained(folder.path()).await;
    let file = folder.path().join("backup.tar");
    done(folder.path(), &["backup", utf8(&file)]);
    let cut = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(cut.path().join("blobs/models")).expect("a folder");
    fs::write(cut.path().join("blobs/models/half"), b"half").expect("written");
    fs::write(cut.path().join("chainrule.db.partial"), b"").expect("written");
    refused(cut.path(), &["check"]);
    done(cut.path(), &["restore", utf8(&file)]);
    assert_eq!(names(cut.path()), ["blobs", "chainrule.db"]);
    assert!(!cut.path().join("blobs/models/half").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_does_not_fit_the_disk_leaves_the_previous_one() {
    let folder = tempfile::tempdir().expect("a folder");
    trained(folder.path()).await;
    let file = folder.path().join("backup.tar");
    fs::write(&file, "the one before").expect("written");
    let script = "trap '' XFSZ; ulimit -f 300; exec \"$0\" backup --force \"$1\" --data-dir \"$2\"";
    let mut command = Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_chainrule")]).arg(&file).arg(folder.path());
    let refused = command.output().expect("bash runs");
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    assert_eq!(fs::read(&file).expect("a file"), b"the one before");
    assert!(!names(folder.path()).iter().any(|name| name.contains("partial")));
}

/// The interruption by the backup does not count as a crash of the job.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ran_during_the_backup_resumes_after_the_restore() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, file) = (folder.path().join("data"), folder.path().join("backup.tar"));
    let process = Process::serve(&data);
    let id = process.post_job(LONG)["id"].as_str().expect("an id").to_owned();
    process.in_epoch(&id, 2);
    done(&data, &["backup", utf8(&file)]);
    drop(process);
    let restored = folder.path().join("restored");
    done(&restored, &["restore", utf8(&file)]);
    let process = Process::serve_with(&restored, &["--crashes-max", "1"]);
    let job = process.ended(&id);
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(2)), "{job}");
}

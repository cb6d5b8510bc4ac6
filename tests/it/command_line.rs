//! The command line, as scripts and people use it.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use chainrule::data::{mnist, picture};
use serde_json::{Value, json};

use crate::process::{Process, chainrule, output, text};
use crate::server::TestServer;
use crate::usage::json_error;

pub fn status(output: &Output) -> Option<i32> {
    output.status.code()
}

pub fn json_lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

#[test]
fn the_demo_trains_reads_ten_digits_and_ends_with_0() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().to_str().expect("UTF-8");
    let demo = output(&["demo", "--exit", "--data-dir", folder]);
    let (result, hints) = (text(&demo.stdout), text(&demo.stderr));
    assert_eq!(status(&demo), Some(0), "{hints}");
    assert!(result.starts_with("test accuracy 9"), "{result}");
    assert_eq!(
        result.lines().filter(|line| line.starts_with("  test ") && line.contains(" %, ")).count(),
        10
    );
    assert_eq!(result.lines().filter(|line| line.starts_with("curl -s ")).count(), 3, "{result}");
    assert_eq!(
        hints.lines().filter(|line| line.starts_with("epoch ") && line.contains("val")).count(),
        5,
        "{hints}"
    );
    assert!(!result.contains('\x1b') && !hints.contains('\x1b'), "no colour in a pipe");
}

#[test]
fn a_client_trains_follows_and_predicts() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve(folder.path());
    let server = process.url.as_str();
    let request = r#"{"train_samples": 2000, "epochs": 2}"#;

    let sent = output(&["train", "--server", server, "--quiet", request]);
    assert_eq!(status(&sent), Some(0));
    let id = text(&sent.stdout).trim();
    assert_eq!(id.len(), 36, "only the id: {id:?}");
    let followed = output(&["train", "--server", server, "--follow", "--job", id, "--json"]);
    let lines = json_lines(&followed.stdout);
    let events: Vec<&str> =
        lines.iter().filter_map(|line| line["event"].as_str()).filter(|event| *event != "progress").collect();
    assert_eq!(events, ["state", "state", "epoch", "epoch", "state", "end"]);
    assert_eq!(lines.last().map(|end| end["id"].clone()), Some(Value::from(id)));

    let missed = output(&[
        "train",
        "--server",
        server,
        "--follow",
        "--min-accuracy",
        "0.999",
        "--progress",
        "none",
        request,
    ]);
    assert_eq!(status(&missed), Some(3));
    assert!(text(&missed.stderr).contains("below 99.90 %"), "{}", text(&missed.stderr));

    let mut piped = chainrule(&["train", "--server", server, "--follow", "-"]);
    let mut piped =
        piped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    piped.stdin.take().expect("a pipe").write_all(request.as_bytes()).expect("written");
    let piped = piped.wait_with_output().expect("it ends");
    assert_eq!(status(&piped), Some(0));
    assert!(text(&piped.stdout).starts_with("test accuracy "), "{}", text(&piped.stdout));

    let digit = folder.path().join("digit.png");
    std::fs::write(&digit, picture::to_png(mnist::dataset().test.image(0))).expect("written");
    let digit = digit.to_str().expect("UTF-8");
    let read = output(&["predict", "--server", server, digit]);
    assert_eq!(status(&read), Some(0), "{}", text(&read.stderr));
    assert!(text(&read.stdout).starts_with(&format!("{digit}  7  ")), "{}", text(&read.stdout));
    let label = output(&["predict", "--server", server, "-q", "--model", "digits@1", digit, digit]);
    assert_eq!(text(&label.stdout), "7\n7\n");
    let json = json_lines(&output(&["predict", "--server", server, "--json", digit]).stdout);
    assert_eq!(json[0]["prediction"]["label"], 7);

    let damaged = folder.path().join("damaged.png");
    std::fs::write(&damaged, b"\x89PNG\r\n\x1a\n").expect("written");
    let damaged = damaged.to_str().expect("UTF-8");
    let some = output(&["predict", "--server", server, digit, "/nowhere.png", damaged, digit]);
    assert_eq!(status(&some), Some(1));
    assert_eq!(text(&some.stdout).lines().filter(|line| line.starts_with(digit)).count(), 2);
    let errors = text(&some.stderr);
    assert!(
        errors.contains("can't read /nowhere.png") && errors.contains(&format!("{damaged}: ")),
        "{errors}"
    );
    assert!(errors.ends_with("error: 2 of 4 failed\n"), "{errors}");
    let unknown = output(&["predict", "--server", server, "--model", "digit", digit, digit]);
    assert_eq!(text(&unknown.stderr).lines().count(), 1, "told once");
    assert_eq!(status(&unknown), Some(1));
    assert!(text(&unknown.stderr).contains("did you mean \"digits\"?"), "{}", text(&unknown.stderr));
    let refused = output(&["train", "--server", server, r#"{"epochs": 0, "epoch": 3}"#]);
    assert_eq!(status(&refused), Some(1));
    assert!(
        text(&refused.stderr).contains("/epochs") && text(&refused.stderr).lines().count() <= 3,
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(text(&output(&["health", "--server", server]).stdout), "ready\n");
}

#[test]
fn without_a_server_commands_end_with_5_and_say_how_to_start_one() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let server = format!("http://{free}");
    for command in [&["health"][..], &["train", "--follow"], &["predict", "-"]] {
        let mut arguments = command.to_vec();
        arguments.extend(["--server", &server]);
        let mut child = chainrule(&arguments);
        let mut child = child.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("a pipe").write_all(&[0; 784]).unwrap_or(());
        let output = child.wait_with_output().expect("it ends");
        let error = text(&output.stderr);
        assert_eq!(status(&output), Some(5), "{command:?}: {error}");
        assert!(error.contains("chainrule serve") && error.lines().count() <= 3, "{error}");
    }
}

#[test]
fn a_job_that_waits_for_a_worker_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve(folder.path());
    process.post_job(&crate::server::endless().to_string());
    let mut waiting = chainrule(&["train", "--server", &process.url, "--follow", "--progress", "plain"]);
    let mut waiting = waiting.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(waiting.stderr.take().expect("a pipe")).lines();
    let said = lines.any(|line| line.expect("UTF-8").starts_with("waiting for a worker"));
    waiting.kill().expect("it runs");
    waiting.wait().expect("it ends");
    assert!(said);
}

#[test]
fn without_a_command_the_program_says_how_to_begin() {
    let bare = output(&[]);
    let said = text(&bare.stderr);
    assert_eq!((status(&bare), text(&bare.stdout)), (Some(2), ""));
    assert!(said.starts_with("chainrule trains ") && said.lines().count() < 10, "{said}");
    for command in ["chainrule demo", "chainrule serve", "chainrule train", "chainrule --help"] {
        assert!(said.contains(command), "{said}");
    }
}

#[test]
fn a_closed_standard_error_does_not_change_the_exit_status() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = chainrule(&["jobs", "show", "nosuch"]);
    assert_eq!(command.stderr(writer).status().expect("it runs").code(), Some(2));
}

#[test]
fn jobs_models_and_data_sets_are_listed_shown_and_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve(folder.path());
    let run = |arguments: &[&str]| {
        let output = output(&[arguments, &["--server", &process.url]].concat());
        assert_eq!(status(&output), Some(0), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    let none = output(&["jobs", "--server", &process.url]);
    assert_eq!((status(&none), text(&none.stdout)), (Some(0), ""));
    assert!(text(&none.stderr).contains("chainrule train"), "{}", text(&none.stderr));

    let train = ["train", "--follow", "-q", r#"{"train_samples": 2000, "epochs": 1}"#];
    let [first, second] = [(); 2].map(|()| {
        let quiet = output(&[&train[..], &["--server", &process.url]].concat());
        assert_eq!(text(&quiet.stderr), "", "only the id");
        text(&quiet.stdout).trim().to_owned()
    });
    assert_eq!(run(&["jobs", "-q"]), format!("{second}\n{first}\n"), "newest first");
    let jobs = run(&["jobs", "list", "--state", "succeeded", "--model", "digits"]);
    assert!(jobs.starts_with("ID  ") && jobs.contains("digits@2") && jobs.lines().count() == 3, "{jobs}");
    let page = output(&["jobs", "list", "--limit", "1", "--server", &process.url]);
    let cursor = text(&page.stderr).trim().strip_prefix("there are more: --cursor ").expect("a cursor");
    assert_eq!(run(&["jobs", "list", "-q", "--cursor", cursor]), format!("{first}\n"));
    assert_eq!(json_lines(run(&["jobs", "--json"]).as_bytes())[0]["jobs"][1]["id"], first.as_str());
    let shown = run(&["jobs", "show", &second]);
    assert!(shown.contains("state     succeeded") && shown.contains("digits@2"), "{shown}");

    let endless = process.post_job(&crate::server::endless().to_string());
    let endless = endless["id"].as_str().expect("an id");
    assert_eq!(run(&["jobs", "cancel", endless]), format!("{endless} cancelled\n"));
    assert_eq!(run(&["jobs", "resume", endless, "-q"]), format!("{endless}\n"));
    run(&["jobs", "cancel", endless]);
    let twice = output(&["jobs", "cancel", "--server", &process.url, endless, &first]);
    assert_eq!(status(&twice), Some(1));
    let errors = text(&twice.stderr);
    assert!(
        errors.contains("has been cancelled already") && errors.contains("has succeeded already"),
        "{errors}"
    );
    assert!(errors.ends_with("error: 2 of 2 failed\n"), "{errors}");
    assert_eq!(run(&["jobs", "delete", endless, &first]), format!("deleted {endless}\ndeleted {first}\n"));

    let models = run(&["models"]);
    assert!(models.starts_with("NAME") && models.contains("digits  2 "), "{models}");
    assert_eq!(run(&["models", "-q"]), "digits\n");
    assert_eq!(run(&["models", "alias", "digits@1", "champion"]), "digits@champion is digits@1\n");
    let versions = run(&["models", "show", "digits"]);
    let last = versions.lines().last().expect("a line");
    assert!(last.starts_with("digits@1 ") && last.ends_with(" champion"), "{versions}");
    let aliased = json_error(&["models", "delete", "digits@1", "--json", "--server", &process.url]);
    assert_eq!((aliased.0, &aliased.1["code"]), (Some(1), &Value::from("model_aliased")));
    assert_eq!(aliased.1["status"], 409, "the problem as it came");
    assert_eq!(run(&["models", "unalias", "digits@champion"]), "deleted digits@champion\n");
    assert_eq!(
        json_lines(run(&["models", "delete", "digits@1", "--json"]).as_bytes())[0]["deleted"],
        "digits@1"
    );
    assert_eq!(run(&["models", "show", "digits", "-q"]), "digits@2\n");

    assert_eq!(run(&["datasets", "-q"]), "mnist\n");
    assert!(run(&["datasets", "show", "mnist"]).ends_with("all    60000  10000\n"));
    let unknown = output(&["datasets", "show", "mnits", "--server", &process.url]);
    assert_eq!(status(&unknown), Some(1));
    assert!(text(&unknown.stderr).contains("did you mean \"mnist\"?"));
}

#[test]
fn help_teaches_by_example_and_completions_are_written() {
    for command in [
        "serve",
        "demo",
        "train",
        "predict",
        "jobs",
        "models",
        "datasets",
        "graph",
        "summary",
        "gradient-check",
        "check",
        "trace",
        "health",
        "backup",
        "restore",
        "openapi",
        "completions",
    ] {
        let help = output(&[command, "--help"]);
        assert!(text(&help.stdout).contains("Example"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&output(&["completions", shell]).stdout).contains("chainrule"), "{shell}");
    }
}

/// Returns the error of a server that can't start. Asserts exit status 1, at most three lines and no
/// backtrace.
fn refusal(arguments: &[&str]) -> String {
    let output = output(arguments);
    let error = text(&output.stderr).to_owned();
    assert_eq!(status(&output), Some(1), "{error}");
    assert!(output.stdout.is_empty());
    assert!(error.starts_with("error: ") && error.lines().count() <= 3, "{error}");
    assert!(!error.contains("panicked") && !error.contains("backtrace"), "{error}");
    error
}

#[test]
fn a_server_that_can_not_start_says_why_and_what_to_try() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    let serve = |listen: &str, folder: &str| {
        refusal(&["serve", "--log", "off", "--listen", listen, "--data-dir", folder])
    };

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    assert!(serve(&taken, path).contains("--listen"));

    // Nobody can create a folder there, not even root.
    let error = serve("127.0.0.1:0", "/proc/chainrule");
    let is_root = rustix::process::getuid().is_root();
    let hint = if is_root { "the file system of /proc does not allow it" } else { "sudo chown -R" };
    assert!(error.contains("can't write the data folder /proc/chainrule") && error.contains(hint), "{error}");

    // Root can write anywhere. So the user nobody runs a copy of the binary, in a folder that nobody can
    // read.
    let open = tempfile::tempdir().expect("a folder");
    let (binary, locked) = (open.path().join("chainrule"), open.path().join("locked"));
    std::fs::set_permissions(open.path(), Permissions::from_mode(0o755)).expect("a folder of ours");
    std::fs::copy(env!("CARGO_BIN_EXE_chainrule"), &binary).expect("copied");
    std::fs::create_dir(&locked).expect("a folder");
    std::fs::set_permissions(&locked, Permissions::from_mode(0o555)).expect("a folder of ours");
    let mut command = Command::new(binary);
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "off", "--data-dir"]).arg(&locked);
    if is_root {
        command.uid(65_534);
    }
    // Another test may fork at this moment. Until its child has executed its own program, the child keeps the
    // copy open for writing.
    let output = loop {
        match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => break output.expect("the binary runs"),
        }
    };
    let locked = locked.display();
    let error = text(&output.stderr);
    assert_eq!(status(&output), Some(1), "{error}");
    let hint = if is_root { "sudo chown -R 65534" } else { "chmod -R u+w" };
    assert!(
        error.contains(&format!("can't write the data folder {locked}")) && error.contains(hint),
        "{error}"
    );
    let unmounted = tempfile::tempdir().expect("a folder");
    std::fs::write(unmounted.path().join("chainrule.db"), "").expect("a file");
    let error = serve("127.0.0.1:0", unmounted.path().to_str().expect("UTF-8"));
    assert!(error.contains("blobs is missing or has no blobs, but the database next to it names"), "{error}");
    assert!(!unmounted.path().join("blobs").exists());
    let lost = tempfile::tempdir().expect("a folder");
    let model = lost.path().join("blobs/models/digits/1-a-1.safetensors");
    std::fs::create_dir_all(model.parent().expect("a folder")).expect("folders");
    for database in [None, Some("")] {
        std::fs::write(&model, "weights").expect("a file");
        if let Some(bytes) = database {
            std::fs::write(lost.path().join("chainrule.db"), bytes).expect("a file");
        }
        let error = serve("127.0.0.1:0", lost.path().to_str().expect("UTF-8"));
        assert!(
            error.contains("chainrule.db is missing or empty, but blobs next to it has files"),
            "{error}"
        );
        assert!(error.contains("put it back, or restore a backup"), "{error}");
        assert!(model.exists());
    }
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/databases/1/chainrule.db");
    std::fs::copy(fixture, unmounted.path().join("chainrule.db")).expect("a copy");
    // An empty disk is mounted there.
    std::fs::create_dir_all(unmounted.path().join("blobs/lost+found")).expect("a folder");
    std::fs::write(unmounted.path().join("blobs/probe#1"), "probe").expect("a file");
    for _ in 0..2 {
        let error = serve("127.0.0.1:0", unmounted.path().to_str().expect("UTF-8"));
        let expected = "blobs is missing or has no blobs, but the database next to it names";
        assert!(error.contains(expected), "{error}");
    }
    let error = serve("127.0.0.1:0", "Cargo.toml");
    assert!(error.contains("is not a folder"), "{error}");

    let held = std::fs::File::open(folder.path()).expect("a folder");
    held.lock().expect("a lock");
    let error = serve("127.0.0.1:0", path);
    assert!(error.contains("held by another chainrule process"), "{error}");
    drop(held);

    let other = tempfile::tempdir().expect("a folder");
    std::fs::write(other.path().join("chainrule.db"), "this is no database, but a text of some length")
        .expect("written");
    std::fs::create_dir(other.path().join("blobs")).expect("a folder");
    let error = serve("127.0.0.1:0", other.path().to_str().expect("UTF-8"));
    assert!(error.contains("can't open the database") && error.contains("move it away"), "{error}");
}

#[test]
fn the_lab_works_without_a_server_and_a_trace_with_one() {
    let lesson = ["graph", "x = a + b; y = b + c; x*y", "a=-1", "b=3", "c=4"];
    let worked = output(&lesson);
    assert_eq!(status(&worked), Some(0));
    assert!(text(&worked.stdout).contains("∂f/∂b = ∂f/∂x·∂x/∂b + ∂f/∂y·∂y/∂b = 7·1 + 2·1 = 9"));
    let folder = tempfile::tempdir().expect("a folder");
    let drawing = folder.path().join("graph.svg");
    let drawn = output(&[&lesson[..], &["--json", "--svg", drawing.to_str().expect("UTF-8")]].concat());
    assert_eq!(json_lines(&drawn.stdout)[0]["gradients"]["b"], 9.0);
    assert!(std::fs::read_to_string(&drawing).expect("a drawing").starts_with("<svg"));
    let wrong = output(&["graph", "a + (b", "a=1", "b=2"]);
    assert_eq!(status(&wrong), Some(2));
    let lines: Vec<&str> = text(&wrong.stderr).lines().collect();
    assert_eq!(lines[1..], ["  a + (b", "        ^"], "{lines:?}");
    assert_eq!(status(&output(&["graph", "a", "a=x"])), Some(2));
    assert_eq!(status(&output(&["trace", "0", "--learning-rate", "nan"])), Some(2));
    let wide = output(&["graph", "가 + )", "가=1"]);
    assert_eq!(
        text(&wide.stderr).lines().last(),
        Some("       ^"),
        "below the parenthesis, for 가 is two wide"
    );

    let summary = output(&["summary", "lesson", "--json", "--batch-size", "100"]);
    assert_eq!(json_lines(&summary.stdout)[0]["parameters"], 39_760);
    assert!(text(&output(&["summary", "cnn"]).stdout).contains("max_pool2d"));
    let unknown = output(&["summary", "cn"]);
    assert_eq!(status(&unknown), Some(2));
    assert!(text(&unknown.stderr).contains("did you mean \"cnn\"?"), "{}", text(&unknown.stderr));

    let check = output(&["gradient-check", "lesson", "--samples", "2", "--json"]);
    assert!(json_lines(&check.stdout)[0]["max_relative_error"].as_f64() < Some(1e-4));

    let process = Process::serve(folder.path());
    let server = process.url.as_str();
    let request = r#"{"train_samples": 2000, "epochs": 1}"#;
    assert_eq!(
        status(&output(&["train", "--server", server, "--follow", "--progress", "none", request])),
        Some(0)
    );
    let trace = output(&["trace", "--server", server, "0"]);
    assert!(text(&trace.stdout).contains("an image of class 7") && text(&trace.stdout).contains("0.dense"));
    let missing = output(&["trace", "--server", server, "--model", "digit", "0"]);
    assert_eq!(status(&missing), Some(1));
    assert!(text(&missing.stderr).contains("did you mean \"digits\"?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lab_prints_the_json_that_the_api_sends() {
    let server = TestServer::start(&[]).await;
    let of_api = async |path: &str, request: Value| {
        server.post(path, "application/json", request.to_string()).await.text().await.expect("JSON")
    };
    let of_command = |arguments: &[&str]| text(&output(arguments).stdout).trim_end().to_owned();
    let request = json!({ "expression": "relu(x) + x*y", "inputs": { "x": 0, "y": 3 } });
    assert_eq!(
        of_command(&["graph", "--json", "relu(x) + x*y", "x=0", "y=3"]),
        of_api("/v1/graph", request).await
    );
    let request = json!({ "network": "cnn", "batch_size": 64 });
    assert_eq!(
        of_command(&["summary", "--json", "cnn", "--batch-size", "64"]),
        of_api("/v1/networks/summary", request).await
    );
    let request = json!({ "network": "lesson", "samples": 2 });
    let without_times = |check: &str| {
        let mut check: Value = serde_json::from_str(check).expect("JSON");
        for (name, value) in check.as_object_mut().expect("an object") {
            if name.contains("seconds") || name == "ratio" {
                *value = Value::Null;
            }
        }
        check
    };
    assert_eq!(
        without_times(&of_command(&["gradient-check", "--json", "lesson", "--samples", "2"])),
        without_times(&of_api("/v1/gradient-check", request).await)
    );
    server.stop().await;
}

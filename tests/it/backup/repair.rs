//! Damage to a data folder is found and repaired.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_model_is_rebuilt_from_the_last_checkpoint_of_its_job() {
    let folder = tempfile::tempdir().expect("a folder");
    trained(folder.path()).await;
    let model = blob(folder.path(), "models/digits");
    let bytes = fs::read(&model).expect("a file");
    fs::remove_file(&model).expect("removed");
    let found = refused(folder.path(), &["check"]);
    assert!(found.contains("is missing (--repair writes it again"), "{found}");
    let told = done(folder.path(), &["check", "--repair"]);
    assert!(told.contains("model digits@1 is written again"), "{told}");
    assert!(fs::read(&model).expect("a file") == bytes, "the very same bytes");
    done(folder.path(), &["check"]);

    // A damaged file is moved aside, so that it can be examined.
    flip_middle(&model);
    done(folder.path(), &["check", "--repair"]);
    assert!(fs::read(&model).expect("a file") == bytes, "the very same bytes");
    let told = done(folder.path(), &["check"]);
    assert!(told.contains("set aside earlier"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_model_that_can_not_be_rebuilt_is_deleted_with_its_aliases() {
    let folder = tempfile::tempdir().expect("a folder");
    let id = trained(folder.path()).await["id"].as_str().expect("an id").to_owned();
    let server = TestServer::start_in(folder.path(), &[]).await;
    let alias =
        server.http.put(server.path("/v1/models/digits/aliases/champion")).json(&json!({ "version": 1 }));
    assert!(alias.send().await.expect("an answer").status().is_success());
    let deleted = server.http.delete(server.path(&format!("/v1/jobs/{id}"))).send().await.expect("an answer");
    assert!(deleted.status().is_success());
    server.stop().await;

    flip_middle(&blob(folder.path(), "models/digits"));
    let found = refused(folder.path(), &["check"]);
    assert!(
        found.contains("(--repair sets it aside and deletes the version and its alias champion)"),
        "{found}"
    );
    let told = done(folder.path(), &["check", "--repair"]);
    assert!(told.contains("model digits@1 is deleted, and with it its alias champion"), "{told}");
    done(folder.path(), &["check"]);
    let process = Process::serve(folder.path());
    assert_eq!(process.get("/v1/models")["models"], json!([]));
}

#[test]
fn a_job_whose_newest_checkpoint_is_damaged_resumes_from_the_one_before_after_a_repair() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::serve(folder.path());
    let id = process.post_job(LONG)["id"].as_str().expect("an id").to_owned();
    process.in_epoch(&id, 4);
    // A killed server could leave a checkpoint without a row.
    process.signal("TERM");
    process.wait();
    let checkpoints = names(&folder.path().join("blobs/jobs").join(&id)).len();
    assert!(checkpoints >= 2, "{checkpoints}");
    let newest = blob(folder.path(), &format!("jobs/{id}"));
    fs::write(&newest, b"cut").expect("written");
    let found = refused(folder.path(), &["check"]);
    assert!(found.contains("has 3 bytes, its row says"), "{found}");
    let told = done(folder.path(), &["check", "--repair"]);
    assert!(told.contains("is forgotten; the damaged file is kept as blobs/damaged/jobs/"), "{told}");
    done(folder.path(), &["check"]);

    let process = Process::serve(folder.path());
    let job = process.ended(&id);
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(2)), "{job}");
    let undisturbed = LONG.replace(r#""model": "long""#, r#""model": "undisturbed""#);
    let undisturbed = process.post_job(&undisturbed)["id"].as_str().expect("an id").to_owned();
    assert_eq!(process.ended(&undisturbed)["attempt"], 1);
    assert_eq!(weights(&process, "long"), weights(&process, "undisturbed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_deletes_orphans_and_leaves_files_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let id = trained(folder.path()).await["id"].as_str().expect("an id").to_owned();
    let blobs = folder.path().join("blobs");
    let orphan = blobs.join(format!("jobs/{id}/7-9.safetensors"));
    let temporary = blobs.join(format!("models/{id}-7.safetensors#2"));
    let foreign = blobs.join("README");
    for path in [&orphan, &temporary, &foreign] {
        fs::write(path, b"x").expect("written");
    }
    let found = refused(folder.path(), &["check"]);
    assert!(found.contains("is not tidy: 2 stray files"), "{found}");
    assert!(
        found.contains("no row names blobs/jobs/") && found.contains("was not written completely"),
        "{found}"
    );
    assert!(found.contains("blobs/README does not belong to chainrule"), "{found}");
    let (status, found, _) = on(folder.path(), &["check", "--json"]);
    let found: Value = serde_json::from_str(&found).expect("one object");
    assert_eq!((status, &found["is_sound"]), (Some(1), &json!(false)));
    let kinds: Vec<&str> =
        found["findings"].as_array().expect("a list").iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["foreign_file", "orphan", "temporary_file"]);
    done(folder.path(), &["check", "--repair"]);
    assert!(!orphan.exists() && !temporary.exists() && foreign.exists());
    done(folder.path(), &["check"]);
}

/// The numbers of files and rows are right, but one file is too short.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_blob_is_found_although_every_row_has_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    trained(folder.path()).await;
    let model = blob(folder.path(), "models/digits");
    let length = fs::metadata(&model).expect("a file").len();
    fs::OpenOptions::new().write(true).open(&model).and_then(|file| file.set_len(length - 1)).expect("cut");
    let found = refused(folder.path(), &["check"]);
    assert!(found.contains(&format!("has {} bytes, its row says {length}", length - 1)), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_found_and_not_repaired() {
    let folder = tempfile::tempdir().expect("a folder");
    trained(folder.path()).await;
    let database = folder.path().join("chainrule.db");
    let mut bytes = fs::read(&database).expect("a file");
    let length = bytes.len();
    bytes[8_192..length - 4_096].fill(0x5a);
    fs::write(&database, bytes).expect("written");
    for arguments in [&["check"][..], &["check", "--repair"]] {
        let found = refused(folder.path(), arguments);
        assert!(found.contains("database"), "{found}");
    }
    let file = folder.path().join("backup.tar");
    refused(folder.path(), &["backup", utf8(&file)]);
    assert!(!file.exists());
}

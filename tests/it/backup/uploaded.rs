//! Models that no job has trained.

use std::fs;

use chainrule::data::{mnist, picture};
use chainrule::folder::Folder;
use chainrule::integrity::check;
use chainrule::inventory::sweep;
use chainrule::job::BlobKey;
use chainrule::model::{ModelRef, ModelSource, Selector};
use chainrule::registry::Registry;
use chainrule::store::{DeletedVersion, NewModel};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;

use super::{blob, done, flip_middle, trained, utf8};
use crate::process::{output, text};
use crate::server::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_no_job_has_trained_is_listed_served_checked_and_backed_up() {
    let folder = tempfile::tempdir().expect("a folder");
    trained(folder.path()).await;
    let key = "models/sent/1-01a21745-5cf3-72cd-b758-266f94277363.safetensors";
    let path = folder.path().join("blobs").join(key);
    fs::create_dir(path.parent().expect("a folder")).expect("a folder");
    fs::copy(blob(folder.path(), "models/digits"), &path).expect("a copy");
    let options = SqliteConnectOptions::new().filename(folder.path().join("chainrule.db"));
    let mut rows = options.connect().await.expect("a connection");
    for statement in [
        "INSERT INTO models (name, last_version) VALUES ('sent', 1)",
        "INSERT INTO model_versions (name, version, source, owner, parameters, layers, classes, blob_key, size_bytes,
                                     sha256, created_at)
         SELECT 'sent', 1, 'upload', '127.0.0.1', parameters, layers, classes, $1, size_bytes, sha256, created_at
         FROM model_versions",
    ] {
        sqlx::query(statement).bind(key).execute(&mut rows).await.expect("rows");
    }
    rows.close().await.expect("closed");

    let server = TestServer::start_in(folder.path(), &[]).await;
    let shown = server.get_json("/v1/models/sent").await["versions"][0].clone();
    assert_eq!(shown["source"], "upload");
    assert!(shown["job_id"].is_null() && shown["test_accuracy"].is_null(), "{shown}");
    let png = picture::to_png(mnist::dataset().test.image(0));
    let answer = server.post("/v1/models/sent@1/predict", "image/png", png).await;
    assert!(answer.status().is_success(), "{answer:?}");
    let listed = output(&["models", "show", "sent", "--server", &server.path("")]);
    assert!(text(&listed.stdout).contains("upload"), "{listed:?}");
    let page = server.get("/").await.text().await.expect("a page");
    assert!(page.contains("sent"), "{page}");
    server.stop().await;

    assert!(done(folder.path(), &["check"]).contains("2 models"));
    let (file, restored) = (folder.path().join("backup.tar"), folder.path().join("restored"));
    done(folder.path(), &["backup", utf8(&file)]);
    done(&restored, &["restore", utf8(&file)]);
    assert!(fs::read(restored.join("blobs").join(key)).expect("a file") == fs::read(&path).expect("a file"));

    // No checkpoint gives the same bytes.
    flip_middle(&path);
    let told = done(folder.path(), &["check", "--repair"]);
    assert!(told.contains("model sent@1 is deleted"), "{told}");
    done(folder.path(), &["check"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_model_is_published_under_the_next_version_and_is_kept_until_it_is_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    trained(folder.path()).await;
    let bytes = fs::read(blob(folder.path(), "models/digits")).expect("a file");
    let Folder { store, blobs, lock, .. } = Folder::beside(folder.path()).await.expect("a folder");
    let name = "digits".to_owned();
    let put = async |version| {
        let key = BlobKey::UploadedModel { name: name.clone(), version, upload: Uuid::now_v7() };
        blobs.put(&key.to_string(), bytes.clone().into()).await.expect("a blob")
    };
    let job = store.models().await.expect("rows").versions.remove(0);
    let model = |version, blob| NewModel {
        name: name.clone(),
        version,
        parameters: job.row.parameters,
        layers: job.row.layers.clone(),
        classes: job.row.classes.clone(),
        blob,
    };

    // While a server runs, the file may belong to an upload whose row is not written yet.
    let unnamed = put(2).await;
    assert_eq!(sweep(&store, &blobs, false).await.expect("a sweep"), 0);
    assert!(check(&store, &blobs, false).await.expect("a check").is_sound());
    assert_eq!(sweep(&store, &blobs, true).await.expect("a sweep"), 1);
    assert!(blobs.get(&unnamed.key, &unnamed.sha256).await.is_err(), "an upload that died leaves nothing");

    let publish = async |model: &NewModel| {
        store.publish_model("x", ModelSource::Upload, model, Some(0.5)).await.expect("rows")
    };
    let taken = model(1, put(1).await);
    assert_eq!(publish(&taken).await, None, "the job has this version");
    blobs.delete_dead([taken.blob.key]).await;
    let sent = model(store.next_version(&name).await.expect("rows"), put(2).await);
    let published = publish(&sent).await.expect("the next version");
    assert_eq!((published.row.version, published.row.source), (2, ModelSource::Upload));
    assert_eq!((published.owner.as_str(), published.row.job_id), ("x", None));
    assert_eq!(published.row.test_accuracy, Some(0.5));
    let as_of_a_job = model(3, put(3).await);
    assert!(store.publish_model("x", ModelSource::Job, &as_of_a_job, None).await.is_err());
    blobs.delete_dead([as_of_a_job.blob.key]).await;
    assert_eq!(store.next_version(&name).await.expect("rows"), 3, "a refused model takes no version");

    let registry = Registry::open(store.clone(), blobs.clone(), 1 << 30, 1).await.expect("a registry");
    let reference = |selector| ModelRef { name: name.clone(), selector };
    let served = registry.get(&reference(Selector::Default), ()).await.expect("a model");
    assert_eq!(served.version, 2);
    assert_eq!(sweep(&store, &blobs, true).await.expect("a sweep"), 0);
    assert!(check(&store, &blobs, true).await.expect("a check").is_sound());
    let (file, restored) = (folder.path().join("backup.tar"), folder.path().join("restored"));
    done(folder.path(), &["backup", utf8(&file)]);
    done(&restored, &["restore", utf8(&file)]);
    assert!(done(&restored, &["check"]).contains("2 models"));

    let deleted = store.delete_version(&name, 2).await.expect("rows");
    assert_eq!(deleted, DeletedVersion::Gone(sent.blob.key.clone()));
    blobs.delete_dead([sent.blob.key]).await;
    registry.refresh().await.expect("rows");
    assert!(registry.get(&reference(Selector::Version(2)), ()).await.is_err());
    assert!(check(&store, &blobs, true).await.expect("a check").is_sound());
    store.close().await;
    drop(lock);
}

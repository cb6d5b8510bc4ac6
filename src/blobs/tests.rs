use futures_util::{TryStreamExt, stream};
use object_store::memory::InMemory;

use super::*;

fn of(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A folder, and an object store that is not a folder.
fn stores(folder: &Path) -> [Blobs; 2] {
    let in_memory = Blobs { store: Arc::new(InMemory::new()), folder: None };
    [Blobs::open(folder).expect("a folder"), in_memory]
}

fn keys(found: Vec<StoredFile>) -> Vec<String> {
    found.into_iter().map(|file| file.key).collect()
}

#[tokio::test]
async fn blobs_are_kept_by_key_in_a_folder_and_in_what_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    for blobs in stores(folder.path()) {
        let blob = blobs.put("models/a/1-x", of("weights")).await.expect("written");
        assert_eq!((blob.size_bytes, &blob.sha256), (7, &digest(b"weights")));
        assert_eq!(blobs.get(&blob.key, &blob.sha256).await.expect("bytes"), of("weights"));
        let stream = blobs.stream(&blob).await.expect("bytes");
        assert_eq!(stream.try_collect::<Vec<_>>().await.expect("bytes").concat(), b"weights");
        blobs.verify(&blob, || true).await.expect("sound");
        assert!(
            blobs.verify(&blob, || false).await.is_err_and(|error| !error.is_damage()),
            "it was cut short"
        );
        blobs.probe().await.expect("written and removed");

        blobs.put("jobs/b/1-2", of("state")).await.expect("written");
        assert_eq!(keys(blobs.list().await.expect("a list")), ["jobs/b/1-2", "models/a/1-x"]);
        assert!(blobs.may_have_under("jobs").await && !blobs.may_have_under("job").await);
        blobs.delete("jobs/b/1-2").await.expect("deleted");
        assert!(!blobs.may_have_under("jobs").await);

        blobs.remove(&blobs.list().await.expect("a list")[0]).await.expect("removed");
        blobs.delete(&blob.key).await.expect("it is gone already");
        assert_eq!(blobs.list().await.expect("a list"), []);
        let missing = blobs.verify(&blob, || true).await.expect_err("nothing is there");
        assert!(matches!(missing, BlobError::Missing(_)), "{missing}");
    }
}

#[tokio::test]
async fn a_stream_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    for blobs in stores(folder.path()) {
        let part = Bytes::from(vec![7; 3 << 20]);
        let parts = [part.clone(), of("weights"), part.clone(), part.clone()];
        let bytes = stream::iter(parts.clone().map(Ok::<_, BlobError>));
        let blob = blobs.put_stream("models/a/1-x", bytes).await.expect("written");
        let whole = parts.concat();
        assert_eq!((blob.size_bytes, &blob.sha256), (whole.len() as u64, &digest(&whole)));
        assert!(blobs.get(&blob.key, &blob.sha256).await.expect("bytes") == whole);
        let nothing = blobs.put_stream("jobs/b/1-2", stream::empty::<Result<_, BlobError>>()).await;
        assert_eq!(nothing.expect("written").sha256, digest(b""));

        let cut = || BlobError::Missing("its end".to_owned());
        let bytes = stream::iter([Ok(part.clone()), Ok(part), Err(cut())]);
        let refused = blobs.put_stream("models/b/1-x", bytes).await.expect_err("it has no end");
        assert!(matches!(refused, BlobError::Missing(_)), "{refused}");
        assert_eq!(keys(blobs.list().await.expect("a list")), ["jobs/b/1-2", "models/a/1-x"]);
    }
}

#[tokio::test]
async fn a_damaged_blob_in_a_folder_is_set_aside_and_no_longer_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(folder.path()).expect("a folder");
    let folder = blobs.folder().expect("a folder");
    for key in ["models/a/1-x", "jobs/b/1-2"] {
        blobs.put(key, of("state")).await.expect("written");
    }
    let aside = folder.set_aside("jobs/b/1-2").await.expect("moved");
    assert_eq!(aside.as_deref(), Some("damaged/jobs/b/1-2"));
    assert_eq!(folder.set_aside("jobs/b/1-2").await.expect("nothing to move"), None);
    assert_eq!(keys(blobs.list().await.expect("a list")), ["models/a/1-x"]);
    assert_eq!(keys(folder.damaged().await.expect("a list")), ["damaged/jobs/b/1-2"]);
    assert!(folder.has_folder("models") && !folder.has_folder("model"));
}

#[tokio::test]
async fn bytes_that_are_not_what_was_written_are_found_wherever_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    for blobs in stores(folder.path()) {
        let blob = blobs.put("models/a/1-x", of("weights")).await.expect("written");
        for (other, is_of_size) in [("weightz", false), ("weight", true)] {
            blobs.put(&blob.key, of(other)).await.expect("written");
            let found = blobs.verify(&blob, || true).await.expect_err("damage");
            assert_eq!(matches!(found, BlobError::Size { .. }), is_of_size, "{found}");
            assert!(found.is_damage() && blobs.get(&blob.key, &blob.sha256).await.is_err());
        }
        assert!(matches!(blobs.stream(&blob).await.err(), Some(BlobError::Size { .. })));
    }
}

#[tokio::test]
async fn a_folder_alone_holds_more_than_blobs_and_has_room_that_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let [blobs, in_memory] = stores(folder.path());
    assert!(in_memory.folder().is_none());
    assert!(blobs.folder().expect("a folder").free_bytes().expect("a number") > 0);
    std::fs::create_dir(folder.path().join("jobs")).expect("a folder");
    std::fs::write(folder.path().join("jobs/1-2#7"), b"half").expect("a file");
    let found = blobs.list().await.expect("a list");
    let half = StoredFile { key: "jobs/1-2#7".to_owned(), size_bytes: 4, is_temporary: true };
    assert_eq!(found, [half]);
    blobs.remove(&found[0]).await.expect("removed");
    std::fs::remove_dir(folder.path().join("jobs")).expect("it is kept, and empty");
    std::fs::write(folder.path().join("probe#1"), b"half").expect("a file");
    blobs.remove(&blobs.list().await.expect("a list")[0]).await.expect("removed");
    blobs.put("models/a/1-x", of("weights")).await.expect("the folder is still there");
    blobs.delete("models/a/1-x").await.expect("deleted");
    assert_eq!(blobs.list().await.expect("a list"), []);
}

#[tokio::test]
async fn another_folder_in_its_place_is_not_written_or_believed() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("blobs");
    std::fs::create_dir(&folder).expect("a folder");
    let blobs = Blobs::open(&folder).expect("a folder");
    let blob = blobs.put("a", of("weights")).await.expect("written");
    std::fs::rename(&folder, parent.path().join("moved")).expect("moved");
    std::fs::create_dir(&folder).expect("a folder");
    assert!(blobs.put("b", of("weights")).await.is_err());
    assert!(blobs.verify(&blob, || true).await.is_err_and(|error| !error.is_damage()));
}

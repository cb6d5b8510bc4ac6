use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use tar::{Archive, Entry};

use super::{BackupError, Contents, DIGEST, be_one_file, file_error, sync_folder};
use crate::blobs::{Blobs, Digesting};
use crate::dispatch::Dispatch;
use crate::folder::{BLOBS, DATABASE, DATABASE_PARTIAL, FolderError, FolderLock};
use crate::integrity::{FolderCounts, check};
use crate::job::BlobKey;
use crate::store::{Store, files};

/// How many bytes of an entry are read at a time.
const PART_BYTES: usize = 1 << 20;

/// Names that may exist in an empty folder. File systems create them in their root.
const EMPTY: &[&str] = &["lost+found"];

/// Returns the names that an interrupted restore may have left. The partial database is the last of them.
fn left() -> impl Iterator<Item = PathBuf> {
    std::iter::once(BLOBS.into()).chain(files(Path::new(DATABASE_PARTIAL)).into_iter().rev())
}

/// Restores the backup `file` into `folder`, which is empty or doesn't exist, and checks the result. Returns
/// what the backup contains.
///
/// The database gets its final name last. Without that name, the folder is not a data folder. A restore into
/// the remains of an interrupted one starts from the beginning.
///
/// # Errors
/// Returns an error if the file is not a complete and sound backup, or if the folder is not empty, in use or
/// not writable. Then the folder is as empty as before.
pub async fn restore(file: &Path, folder: &Path) -> Result<Contents, BackupError> {
    let tar = File::open(file).map_err(file_error("can't read", file))?;
    let bytes = tar.metadata().map_err(file_error("can't read", file))?.len();
    be_empty(folder)?;
    let lock = FolderLock::whole(folder)?.ok_or_else(|| FolderError::Shared(folder.to_owned()))?;
    // Another restore may have finished before this one got the lock.
    be_empty(folder)?;
    clear(folder)?;
    let restored = fill(tar, file, folder).await;
    if restored.is_err() {
        // The first error is more useful than an error of the cleanup.
        let _ = take_back_name(folder).and_then(|()| clear(folder));
    }
    drop(lock);
    Ok(Contents { counts: restored?, bytes })
}

/// Checks that a folder holds only files that a restore may delete.
fn be_empty(folder: &Path) -> Result<(), BackupError> {
    let error = |source| file_error("can't read", folder)(source);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(error)?,
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let names = entries.map(name).collect::<Result<BTreeSet<_>, _>>().map_err(error)?;
    let was_cut = names.contains(DATABASE_PARTIAL);
    let may_be =
        |name: &str| EMPTY.contains(&name) || (was_cut && left().any(|left| left == Path::new(name)));
    match names.into_iter().find(|name| !may_be(name)) {
        Some(name) => Err(BackupError::NotEmpty { path: folder.to_owned(), name }),
        None => Ok(()),
    }
}

/// Renames the database back to its partial name, if it already has its final one. Then the folder is not a
/// data folder.
fn take_back_name(folder: &Path) -> Result<(), BackupError> {
    let (name, partial) = (folder.join(DATABASE), folder.join(DATABASE_PARTIAL));
    match std::fs::rename(&name, &partial) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error("can't write", name)(error)),
        Ok(()) => sync_folder(folder),
    }
}

/// Deletes what a restore has written. The partial database goes last, because it marks the other files as
/// belonging to a restore.
fn clear(folder: &Path) -> Result<(), BackupError> {
    for name in left() {
        let path = folder.join(name);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(file_error("can't remove", path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn fill(tar: File, file: &Path, folder: &Path) -> Result<FolderCounts, BackupError> {
    let (rows, blobs) = (folder.join(DATABASE_PARTIAL), folder.join(BLOBS));
    File::create(&rows).map_err(file_error("can't write", &rows))?;
    std::fs::create_dir(&blobs).map_err(file_error("can't make", &blobs))?;
    let blobs = Blobs::open(&blobs)?;
    unpack(tar, file, &rows, &blobs).await?;
    sync_folder(folder)?;
    // Opening the store runs the migrations that an older backup needs.
    let dispatch = Dispatch::new(Store::open(&rows).await?);
    let store = dispatch.store();
    let checked = async {
        // The rows are a copy, so no worker holds any of their jobs.
        for held in store.held().await? {
            dispatch.release(held.claim).await?;
        }
        Ok::<_, BackupError>(check(store, &blobs, true).await?)
    };
    let report = checked.await;
    dispatch.close().await;
    be_one_file(&rows)?;
    let report = report?;
    if let Some(finding) = report.faults().next() {
        return Err(BackupError::Unsound { what: file.display().to_string(), finding: finding.to_string() });
    }
    let error = |source| file_error("can't write", &rows)(source);
    File::open(&rows).and_then(|rows| rows.sync_all()).map_err(error)?;
    std::fs::rename(&rows, folder.join(DATABASE)).map_err(error)?;
    sync_folder(folder)?;
    Ok(report.counts)
}

/// Writes the blobs of a tar under their keys, and the database to `rows`. All of them are durable when this returns.
async fn unpack(tar: File, file: &Path, rows: &Path, blobs: &Blobs) -> Result<(), BackupError> {
    let refuse = |why: String| BackupError::NoBackup { path: file.to_owned(), why };
    let unreadable = |error: std::io::Error| match error.raw_os_error() {
        Some(_) => refuse(error.to_string()),
        // The tar library's message quotes the file. Its bytes may be unsafe to print on a terminal.
        None => refuse("it is not a tar, or it is damaged".to_owned()),
    };
    let mut archive = Archive::new(tar);
    let mut names = HashSet::new();
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let (name, key) = name_of(&entry).map_err(refuse)?;
        if !names.insert(name.clone()) {
            return Err(refuse(format!("it holds {name} twice")));
        }
        let cut = || refuse(format!("it ends within {name}"));
        match key {
            Some(key) => {
                let parts = stream::iter(parts_of(entry, file, cut));
                blobs.put_stream(&key.to_string(), parts).await?;
            }
            None => {
                let expected = digest_in(&mut entry).map_err(refuse)?;
                if write_rows(rows, parts_of(entry, file, cut))? != expected {
                    let why = format!("its {DATABASE} does not have the digest recorded for it");
                    return Err(refuse(why));
                }
            }
        }
    }
    if names.contains(DATABASE) { Ok(()) } else { Err(refuse(format!("{DATABASE} is missing in it"))) }
}

/// Returns the name of an entry, and its key if it is a blob. The only other entry that a backup may hold is the
/// database.
fn name_of<R: Read>(entry: &Entry<R>) -> Result<(String, Option<BlobKey>), String> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let key = name.strip_prefix(BLOBS).and_then(|rest| rest.strip_prefix('/')).and_then(BlobKey::named);
    if entry.header().entry_type().is_file() && (key.is_some() || name == DATABASE) {
        Ok((name, key))
    } else {
        Err(format!("{name:?} can't be in a backup"))
    }
}

/// Returns the content of an entry of `file`, a part at a time. If the file ends before the entry does, the last part is
/// the error `cut`.
fn parts_of(
    mut entry: Entry<'_, File>,
    file: &Path,
    cut: impl Fn() -> BackupError,
) -> impl Iterator<Item = Result<Bytes, BackupError>> {
    let size_bytes = entry.size();
    (0..size_bytes).step_by(PART_BYTES).map(move |begin| {
        let expected = (size_bytes - begin).min(PART_BYTES as u64);
        let mut part = Vec::with_capacity(expected as usize);
        let found = (&mut entry).take(expected).read_to_end(&mut part);
        let found = found.map_err(file_error("can't read", file))?;
        if found as u64 == expected { Ok(part.into()) } else { Err(cut()) }
    })
}

/// Writes the database, durably. Returns its SHA-256 in hex.
fn write_rows(
    path: &Path,
    parts: impl Iterator<Item = Result<Bytes, BackupError>>,
) -> Result<String, BackupError> {
    let error = |source| file_error("can't write", path)(source);
    let mut rows = File::create(path).map_err(error)?;
    let mut digesting = Digesting::new(());
    for part in parts {
        let part = part?;
        rows.write_all(&part).map_err(error)?;
        digesting.update(&part);
    }
    rows.sync_all().map_err(error)?;
    Ok(digesting.finish().1)
}

/// Returns the digest in the header of the database's entry.
fn digest_in<R: Read>(entry: &mut Entry<R>) -> Result<String, String> {
    let extensions = entry.pax_extensions().map_err(|error| error.to_string())?;
    let digest = extensions.into_iter().flatten().flatten().find(|extension| extension.key() == Ok(DIGEST));
    let digest = digest.and_then(|digest| digest.value().ok().map(str::to_owned));
    digest.ok_or_else(|| format!("its {DATABASE} has no digest"))
}

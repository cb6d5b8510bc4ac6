use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use futures_util::StreamExt;
use tar::{Builder, Header};

use super::partial::{Partial, may_be_written, parent};
use super::{BackupError, Contents, DIGEST, be_one_file, file_error};
use crate::blobs::{BlobError, Blobs, Digesting, digest_of};
use crate::folder::{BLOBS, DATABASE, Folder};
use crate::integrity::FolderCounts;
use crate::store::{BlobOwner, BlobRow, Store, files};

/// A block of a tar, <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>.
const PADDING: [u8; 512] = [0; 512];

/// How many times a backup is tried if models are deleted while it is being written.
const TRIES: u32 = 3;

/// Writes a backup of `folder` to `file`. Servers may use the folder at the same time. An existing file is
/// replaced only if `replace` is set. Returns what the backup contains, and a line for each damaged
/// checkpoint that was left out.
///
/// The backup holds the rows of one moment and the blobs that they name. The row of a checkpoint is dropped
/// from the backup if its blob was deleted meanwhile or is damaged.
///
/// # Errors
/// Returns an error if a model or the database is damaged, or a file can't be read or written. Then `file` is
/// as it was before. Exception: if only the last flush of its folder failed, `file` is a complete backup.
pub async fn backup(
    folder: &Folder,
    file: &Path,
    replace: bool,
) -> Result<(Contents, Vec<String>), BackupError> {
    may_be_written(file, replace)?;
    if is_part(folder, file) {
        return Err(BackupError::Own(file.to_owned()));
    }
    let partial = Partial::begin(file)?;
    for _ in 0..TRIES {
        let Some((counts, left_out)) = pack(folder, &partial).await? else { continue };
        let bytes = partial.finish(replace)?;
        return Ok((Contents { counts, bytes }, left_out));
    }
    Err(BackupError::Restless)
}

/// Returns whether `file` is part of the database or lies among the blobs.
fn is_part(folder: &Folder, file: &Path) -> bool {
    let Ok(place) = parent(file).canonicalize() else { return false };
    let is_at = |path: &Path| path.canonicalize().is_ok_and(|path| place.starts_with(path));
    let rows = files(Path::new(DATABASE));
    let is_of_the_rows = file.file_name().is_some_and(|name| rows.iter().any(|one| one == Path::new(name)));
    is_at(&folder.path.join(BLOBS))
        || is_of_the_rows && folder.path.canonicalize().is_ok_and(|path| path == place)
}

/// Writes all entries. Returns `None` if a model was deleted during that time.
async fn pack(
    folder: &Folder,
    partial: &Partial,
) -> Result<Option<(FolderCounts, Vec<String>)>, BackupError> {
    let path = partial.scratch.join(DATABASE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file_error("can't remove", path)(error));
        }
        _ => {}
    }
    folder.store.snapshot(&path).await?;
    let rows = Store::open_existing(&path).await?;
    let packed = pack_blobs(folder, &rows, partial).await;
    // Closing also writes the log back into the database.
    rows.close().await;
    let Some((tar, counts, left_out)) = packed? else { return Ok(None) };
    be_one_file(&path)?;
    append_rows(tar, &path)?;
    Ok(Some((counts, left_out)))
}

type Packed = (Builder<File>, FolderCounts, Vec<String>);

async fn pack_blobs(folder: &Folder, rows: &Store, partial: &Partial) -> Result<Option<Packed>, BackupError> {
    if let Some(finding) = rows.integrity().await?.into_iter().next() {
        return Err(BackupError::Unsound { what: "the database".to_owned(), finding });
    }
    let mut tar = Builder::new(partial.writer()?);
    let (mut blobs, jobs) = rows.blob_rows().await?;
    blobs.sort_by(|one, other| one.key.cmp(&other.key));
    let mut counts = FolderCounts { jobs: jobs.len(), ..FolderCounts::default() };
    let mut left_out = Vec::new();
    for row in blobs {
        let Err(error) = append_blob(&mut tar, &folder.blobs, &row).await? else {
            match row.owner {
                BlobOwner::Checkpoint { .. } => counts.checkpoints += 1,
                BlobOwner::Model { .. } => counts.models += 1,
            }
            continue;
        };
        let is_dropped = !folder.store.blob_rows().await?.0.contains(&row);
        match &row.owner {
            BlobOwner::Model { .. } if is_dropped => return Ok(None),
            BlobOwner::Model { .. } => {
                return Err(BackupError::Model { owner: row.owner.to_string(), source: error });
            }
            BlobOwner::Checkpoint { job, .. } => {
                rows.drop_checkpoint(*job, &row.key).await?;
                if !is_dropped {
                    left_out.push(format!("{}: {error}", row.owner));
                }
            }
        }
    }
    Ok(Some((tar, counts, left_out)))
}

/// Appends a blob and verifies it against its row. If it is damaged, truncates the tar to the state before.
async fn append_blob(
    tar: &mut Builder<File>,
    blobs: &Blobs,
    row: &BlobRow,
) -> Result<Result<(), BlobError>, BackupError> {
    let blob = row.blob();
    let mut bytes = match blobs.stream(&blob).await {
        Err(error) if error.is_damage() => return Ok(Err(error)),
        bytes => bytes?,
    };
    let name = format!("{BLOBS}/{}", row.key);
    let error = |source| file_error("can't copy", &name)(source);
    let begin = tar.get_mut().stream_position().map_err(error)?;
    // Appends the header only. The bytes are written as they are read.
    append(tar, &name, blob.size_bytes, std::io::empty()).map_err(error)?;
    let mut digesting = Digesting::new(());
    while let Some(part) = bytes.next().await {
        let part = part.map_err(BlobError::from)?;
        tar.get_mut().write_all(&part).map_err(error)?;
        digesting.update(&part);
    }
    let compared = blob.compare(digesting.finish());
    let file = tar.get_mut();
    match &compared {
        Ok(()) => file.write_all(&PADDING[..padding_of(blob.size_bytes)]),
        Err(_) => file.set_len(begin).and_then(|()| file.seek(SeekFrom::Start(begin)).map(|_| ())),
    }
    .map_err(error)?;
    Ok(compared)
}

/// Returns how many bytes fill the last block of an entry. A block is as long as [`PADDING`].
fn padding_of(size_bytes: u64) -> usize {
    (size_bytes.wrapping_neg() % PADDING.len() as u64) as usize
}

/// Appends the database with its digest, and ends the tar.
fn append_rows(mut tar: Builder<File>, path: &Path) -> Result<(), BackupError> {
    let error = |source| file_error("can't copy", path)(source);
    let open = || File::open(path).map_err(error);
    let (size_bytes, sha256) = digest_of(open()?).map_err(error)?;
    tar.append_pax_extensions([(DIGEST, sha256.as_bytes())]).map_err(error)?;
    append(&mut tar, DATABASE, size_bytes, open()?).map_err(error)?;
    tar.into_inner().map_err(error)?;
    Ok(())
}

fn append(tar: &mut Builder<File>, name: &str, size_bytes: u64, reader: impl Read) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(size_bytes);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, reader)
}

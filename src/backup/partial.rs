use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{BackupError, file_error, sync_folder};

/// A file that is called `NAME.partial` until it is complete. If it was not finished, it is removed on
/// drop.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
    /// A folder next to the file, for temporary files.
    pub scratch: PathBuf,
    is_renamed: bool,
}

impl Partial {
    /// Begins a file that will be renamed to `target`. Removes the remains of an earlier process that died.
    pub fn begin(target: &Path) -> Result<Self, BackupError> {
        let (path, scratch) = (beside(target, ".partial"), beside(target, ".partial-rows"));
        let error = |error| file_error("can't write", &path)(error);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BackupError::UnderWay(target.to_owned())),
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        // The process that held the lock before may have renamed the file.
        let of_file = file.metadata().map_err(error)?;
        let is_ours = std::fs::metadata(&path)
            .is_ok_and(|of_path| (of_path.dev(), of_path.ino()) == (of_file.dev(), of_file.ino()));
        if !is_ours {
            return Err(BackupError::UnderWay(target.to_owned()));
        }
        let begun = Self { file, path, target: target.to_owned(), scratch, is_renamed: false };
        begun.clear()?;
        std::fs::create_dir(&begun.scratch).map_err(file_error("can't make", &begun.scratch))?;
        Ok(begun)
    }

    /// Discards what was written so far.
    fn clear(&self) -> Result<(), BackupError> {
        self.file.set_len(0).map_err(file_error("can't write", &self.path))?;
        match std::fs::remove_dir_all(&self.scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(file_error("can't remove", &self.scratch)(error))
            }
            _ => Ok(()),
        }
    }

    /// Empties the file and returns another handle to it.
    pub fn writer(&self) -> Result<File, BackupError> {
        use std::io::Seek;
        let rewound = || {
            self.file.set_len(0)?;
            let mut file = self.file.try_clone()?;
            file.rewind()?;
            Ok(file)
        };
        rewound().map_err(file_error("can't write", &self.path))
    }

    /// Flushes the file and renames it to its target. Returns its size in bytes.
    pub fn finish(mut self, replace: bool) -> Result<u64, BackupError> {
        self.file.sync_all().map_err(file_error("can't write", &self.path))?;
        let bytes = self.file.metadata().map_err(file_error("can't read", &self.path))?.len();
        may_be_written(&self.target, replace)?;
        // The content of the scratch folder is in the file by now. The folder must be gone before the
        // backup counts as finished.
        std::fs::remove_dir_all(&self.scratch).map_err(file_error("can't remove", &self.scratch))?;
        std::fs::rename(&self.path, &self.target).map_err(file_error("can't write", &self.target))?;
        self.is_renamed = true;
        sync_folder(parent(&self.target))?;
        Ok(bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Whatever can't be removed now is removed by the next backup.
        let _ = std::fs::remove_dir_all(&self.scratch);
        if !self.is_renamed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Checks that `target` doesn't exist, or is a regular file and `replace` is set.
pub(super) fn may_be_written(target: &Path, replace: bool) -> Result<(), BackupError> {
    match target.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) if !replace => Err(BackupError::Exists(target.to_owned())),
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(BackupError::NoFile(target.to_owned())),
    }
}

fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Returns the folder that contains `path`.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

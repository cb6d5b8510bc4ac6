//! Copies of data folders, for both test binaries.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;

/// Copies all files of `from` into `to`.
///
/// # Errors
/// Returns an error if a file can't be read or written.
pub fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_into(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Copies `folder` into a temporary folder.
pub fn copy_of(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    copy_into(folder, copy.path()).expect("a copy");
    copy
}

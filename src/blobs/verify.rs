use std::fs::File;
use std::io::{ErrorKind, Read};

use sha2::{Digest, Sha256};

use super::{Blob, BlobError, Blobs, hex};
use crate::fault::{self, InjectedFault};

/// A reader that counts and digests what passes through it.
pub struct Digesting<R> {
    inner: R,
    sha256: Sha256,
    size_bytes: u64,
}

impl<R: Read> Digesting<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, sha256: Sha256::new(), size_bytes: 0 }
    }

    /// Number and SHA-256, in hex, of the bytes that have passed.
    pub fn finish(self) -> (u64, String) {
        (self.size_bytes, hex(&self.sha256.finalize()))
    }
}

/// Bytes of a blob that are read between two looks whether to go on.
const READ_AT_ONCE: u64 = 1 << 20;

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.sha256.update(&buffer[..length]);
        self.size_bytes += length as u64;
        Ok(length)
    }
}

/// Number and SHA-256 of all that `reader` gives, which is not held.
///
/// # Errors
/// If it can't be read.
pub fn digest_of(reader: impl Read) -> std::io::Result<(u64, String)> {
    let mut reader = Digesting::new(reader);
    std::io::copy(&mut reader, &mut std::io::sink())?;
    Ok(reader.finish())
}

impl Blob {
    /// Whether bytes of this number and digest are its own.
    ///
    /// # Errors
    /// If they are not.
    pub fn compare(&self, found: (u64, String)) -> Result<(), BlobError> {
        let (size_bytes, sha256) = found;
        if size_bytes != self.size_bytes {
            return Err(BlobError::Size {
                key: self.key.clone(),
                found: size_bytes,
                expected: self.size_bytes,
            });
        }
        if sha256 != self.sha256 {
            return Err(BlobError::Digest {
                key: self.key.clone(),
                found: sha256,
                expected: self.sha256.clone(),
            });
        }
        Ok(())
    }
}

impl Blobs {
    /// Opens a blob to be read through once; what has passed is to be compared with it at the end.
    ///
    /// # Errors
    /// If it is missing or of another size, or can't be opened.
    pub fn reader(&self, blob: &Blob) -> Result<Digesting<File>, BlobError> {
        let file = File::open(self.path(&blob.key)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => BlobError::Missing(blob.key.clone()),
            _ => error.into(),
        })?;
        let found = file.metadata()?.len();
        if found != blob.size_bytes {
            return Err(BlobError::Size { key: blob.key.clone(), found, expected: blob.size_bytes });
        }
        Ok(Digesting::new(file))
    }

    /// Reads a blob through, without holding it, and sees that it is what was written.
    ///
    /// # Errors
    /// If it is missing or has changed, or can't be read.
    pub async fn verify(&self, blob: &Blob) -> Result<(), BlobError> {
        let (blobs, blob) = (self.clone(), blob.clone());
        let verified = tokio::task::spawn_blocking(move || blobs.read_through(&blob, &|| true));
        verified.await.map_err(object_store::Error::from)?
    }

    /// [`Self::verify`] on this thread, for as long as `go_on` says so.
    ///
    /// # Errors
    /// If it is missing or has changed, or can't be read, or not to its end.
    pub fn read_through(&self, blob: &Blob, go_on: &dyn Fn() -> bool) -> Result<(), BlobError> {
        let mut reader = self.reader(blob)?;
        while std::io::copy(&mut reader.by_ref().take(READ_AT_ONCE), &mut std::io::sink())? > 0 {
            if !go_on() {
                return Err(std::io::Error::other("it was not read to its end").into());
            }
        }
        match blob.compare(reader.finish()) {
            Err(BlobError::Digest { .. }) if fault::has(InjectedFault::NoDigests) => Ok(()),
            compared => compared,
        }
    }
}

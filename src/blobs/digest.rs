use std::io::Read;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Blob, BlobError};

/// Counts and digests bytes that are read through it or added with [`Self::update`].
pub struct Digesting<R> {
    inner: R,
    sha256: Sha256,
    size_bytes: u64,
}

impl<R> Digesting<R> {
    /// Starts with an empty digest.
    pub fn new(inner: R) -> Self {
        Self { inner, sha256: Sha256::new(), size_bytes: 0 }
    }

    /// Adds bytes to the digest.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size_bytes += bytes.len() as u64;
    }

    /// Returns the number of bytes, and their SHA-256 in hex.
    pub fn finish(self) -> (u64, String) {
        (self.size_bytes, hex(&self.sha256.finalize()))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.update(&buffer[..length]);
        Ok(length)
    }
}

/// Returns the number and SHA-256 of all bytes of `reader`, without keeping them.
///
/// # Errors
/// Returns an error if reading fails.
pub fn digest_of(reader: impl Read) -> std::io::Result<(u64, String)> {
    let mut reader = Digesting::new(reader);
    std::io::copy(&mut reader, &mut std::io::sink())?;
    Ok(reader.finish())
}

impl Blob {
    pub(super) fn compare_size(&self, found: u64) -> Result<(), BlobError> {
        if found == self.size_bytes {
            return Ok(());
        }
        Err(BlobError::Size { key: self.key.clone(), found, expected: self.size_bytes })
    }

    /// Compares a number of bytes and a digest with the size and digest of the blob.
    ///
    /// # Errors
    /// Returns an error if they differ.
    pub fn compare(&self, found: (u64, String)) -> Result<(), BlobError> {
        let (size_bytes, sha256) = found;
        self.compare_size(size_bytes)?;
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

/// Returns the SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Digests bytes on a blocking thread. Returns them with the digest.
pub(super) async fn digested(bytes: Bytes) -> Result<(Bytes, String), BlobError> {
    let digested = tokio::task::spawn_blocking(move || {
        let sha256 = digest(&bytes);
        (bytes, sha256)
    });
    Ok(digested.await.map_err(object_store::Error::from)?)
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

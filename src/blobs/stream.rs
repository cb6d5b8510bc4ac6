use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;

use super::{Blob, BlobError, Blobs, Digesting};
use crate::failpoint::{self, InjectedFault};

/// The content of a blob, in parts.
pub type ByteStream = BoxStream<'static, object_store::Result<Bytes>>;

/// The memory for verifying a blob, in bytes.
pub const VERIFY_BYTES: usize = PART as usize;

/// How many bytes of a blob are read at a time to verify it.
const PART: u64 = 1 << 20;

impl Blobs {
    /// Streams a blob, so that it is never in memory as a whole. [`Self::verify`] checks its content.
    ///
    /// # Errors
    /// Returns an error if the blob is missing or has the wrong size, or if it can't be read.
    pub async fn stream(&self, blob: &Blob) -> Result<ByteStream, BlobError> {
        let key = blob.key.as_str();
        let found = self.store.get(&Key::from(key)).await.map_err(|error| self.unreadable(key, error))?;
        blob.compare_size(found.meta.size)?;
        Ok(found.into_stream().boxed())
    }

    /// Verifies the content of a blob without keeping it in memory. Calls `go_on` after each part and stops
    /// if it returns false.
    ///
    /// # Errors
    /// Returns an error if the blob is missing or damaged, if it can't be read, or if the verification was
    /// stopped.
    pub async fn verify(&self, blob: &Blob, go_on: impl Fn() -> bool) -> Result<(), BlobError> {
        let key = Key::from(blob.key.as_str());
        let unreadable = |error| self.unreadable(&blob.key, error);
        blob.compare_size(self.store.head(&key).await.map_err(unreadable)?.size)?;
        let mut digesting = Digesting::new(());
        for begin in (0..blob.size_bytes).step_by(PART as usize) {
            let part = begin..blob.size_bytes.min(begin + PART);
            digesting.update(&self.store.get_range(&key, part).await.map_err(unreadable)?);
            if !go_on() {
                return Err(std::io::Error::other("the verification was stopped").into());
            }
        }
        match blob.compare(digesting.finish()) {
            Err(BlobError::Digest { .. }) if failpoint::has(InjectedFault::NoDigests) => Ok(()),
            compared => compared,
        }
    }
}

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;

use super::{Blob, BlobError, Blobs, Digesting};
use crate::fault::{self, InjectedFault};

/// The bytes of a blob, bit by bit.
pub type ByteStream = BoxStream<'static, object_store::Result<Bytes>>;

/// Bytes of a blob that are read at a time to verify it.
const PART: u64 = 1 << 20;

impl Blobs {
    /// The bytes of a blob bit by bit, which are never held all together; [`Self::verify`] tells whether they are its own.
    ///
    /// # Errors
    /// If they are missing, of another number, or can't be read.
    pub async fn stream(&self, blob: &Blob) -> Result<ByteStream, BlobError> {
        let key = blob.key.as_str();
        let found = self.store.get(&Key::from(key)).await.map_err(|error| self.unreadable(key, error))?;
        blob.compare_size(found.meta.size)?;
        Ok(found.into_stream().boxed())
    }

    /// Reads a blob through, without holding it, and sees that it is what was written. It ends where `go_on`, asked after each part, says no.
    ///
    /// # Errors
    /// If it is missing or has changed, or can't be read, or not to its end.
    pub async fn verify(&self, blob: &Blob, go_on: impl Fn() -> bool) -> Result<(), BlobError> {
        let key = Key::from(blob.key.as_str());
        let unreadable = |error| self.unreadable(&blob.key, error);
        blob.compare_size(self.store.head(&key).await.map_err(unreadable)?.size)?;
        let mut digesting = Digesting::new(());
        for begin in (0..blob.size_bytes).step_by(PART as usize) {
            let part = begin..blob.size_bytes.min(begin + PART);
            digesting.update(&self.store.get_range(&key, part).await.map_err(unreadable)?);
            if !go_on() {
                return Err(std::io::Error::other("it was not read to its end").into());
            }
        }
        match blob.compare(digesting.finish()) {
            Err(BlobError::Digest { .. }) if fault::has(InjectedFault::NoDigests) => Ok(()),
            compared => compared,
        }
    }
}

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;

use super::{Blob, BlobError, Blobs};

/// The bytes of a blob, bit by bit.
pub type ByteStream = BoxStream<'static, object_store::Result<Bytes>>;

impl Blobs {
    /// The bytes of a blob bit by bit, which are never held all together; [`Self::read_through`] tells whether they are its own.
    ///
    /// # Errors
    /// If they are missing or can't be read.
    pub async fn stream(&self, blob: &Blob) -> Result<ByteStream, BlobError> {
        let key = blob.key.as_str();
        let found = self.store.get(&Key::from(key)).await.map_err(|error| self.unreadable(key, error))?;
        Ok(found.into_stream().boxed())
    }
}

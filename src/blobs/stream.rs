use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use sha2::{Digest, Sha256};

use super::{Blob, BlobError, Blobs, hex};
use crate::fault::{self, Fault};

impl Blobs {
    /// The bytes of a blob bit by bit, which are never held all together. They are read through and digested first, so that
    /// damage is known before anything is sent.
    ///
    /// # Errors
    /// Where they are missing or have changed, or can't be read.
    pub async fn stream(
        &self,
        blob: &Blob,
    ) -> Result<BoxStream<'static, object_store::Result<Bytes>>, BlobError> {
        let mut sha256 = Sha256::new();
        let mut size_bytes = 0;
        let mut parts = self.parts(&blob.key).await?;
        while let Some(part) = parts.try_next().await? {
            size_bytes += part.len() as u64;
            sha256.update(&part);
        }
        let found = (size_bytes, hex(&sha256.finalize()));
        if !fault::has(Fault::NoDigests) {
            blob.compare(found)?;
        }
        self.parts(&blob.key).await
    }

    async fn parts(&self, key: &str) -> Result<BoxStream<'static, object_store::Result<Bytes>>, BlobError> {
        let found = self.store.get(&Key::from(key)).await.map_err(|error| self.unreadable(key, error))?;
        Ok(found.into_stream().boxed())
    }
}

use std::pin::pin;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayloadMut};

use super::{Blob, BlobError, Blobs, Digesting};
use crate::failpoint::{self, InjectedFault};

/// The content of a blob, in parts.
pub type ByteStream = BoxStream<'static, object_store::Result<Bytes>>;

/// The memory for verifying a blob, in bytes.
pub const VERIFY_BYTES: usize = PART as usize;

/// How many bytes of a blob are read at a time to verify it.
const PART: u64 = 1 << 20;

/// The smallest part of an upload, except the last one:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
const SENT_BYTES_MIN: usize = 5 << 20;

impl Blobs {
    /// Writes a blob from a stream, so that it is never in memory as a whole. It is durable when this returns. If the
    /// stream fails, nothing is written.
    ///
    /// # Errors
    /// Returns the error of the stream, or an error if the blob can't be written.
    pub async fn put_stream<E: From<BlobError>>(
        &self,
        key: &str,
        bytes: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Blob, E> {
        self.is_in_place()?;
        let upload = self.store.put_multipart(&Key::from(key)).await;
        let mut upload = upload.map_err(BlobError::from)?;
        match send(&mut *upload, bytes).await {
            Ok((size_bytes, sha256)) => Ok(Blob { key: key.to_owned(), size_bytes, sha256 }),
            Err(error) => {
                // The first error is more useful than an error of the cleanup.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }

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

/// Sends a stream in parts and completes the upload. Returns the number of bytes and their SHA-256 in hex.
async fn send<E: From<BlobError>>(
    upload: &mut dyn MultipartUpload,
    bytes: impl Stream<Item = Result<Bytes, E>>,
) -> Result<(u64, String), E> {
    let mut digesting = Digesting::new(());
    let mut part = PutPayloadMut::new();
    let mut bytes = pin!(bytes);
    while let Some(more) = bytes.next().await.transpose()? {
        digesting.update(&more);
        part.push(more);
        if part.content_length() >= SENT_BYTES_MIN {
            upload.put_part(std::mem::take(&mut part).into()).await.map_err(BlobError::from)?;
        }
    }
    if !part.is_empty() {
        upload.put_part(part.into()).await.map_err(BlobError::from)?;
    }
    upload.complete().await.map_err(BlobError::from)?;
    Ok(digesting.finish())
}

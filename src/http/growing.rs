//! A body in memory that becomes longer while it is received or decompressed.

use std::sync::Arc;

use bytes::Bytes;

use super::Problem;
use super::guests::Busy;
use crate::admission::{Charge, Crew, Peer, Refusal, SMALL_BYTES};
use crate::api::Code;
use crate::service::OperationError;

/// Returns the bytes of memory needed to receive a body of this length. A body of several parts is in memory
/// twice while they are joined.
pub fn bytes_to_receive(length: usize) -> usize {
    if length > SMALL_BYTES { 2 * length } else { length }
}

/// A body that becomes longer. Memory is charged before it is allocated.
pub struct GrowingBody {
    peer: Peer,
    /// The data. All parts but the last have [`SMALL_BYTES`].
    parts: Vec<Vec<u8>>,
    /// Total length of the parts.
    length: usize,
    charge: Charge,
    bytes_max: usize,
    announced: Option<u64>,
    busy: Option<Arc<Busy>>,
    crew: Arc<Crew>,
}

impl GrowingBody {
    /// An empty body that may have up to `bytes_max` bytes. `announced` is its length, if that is known.
    pub fn new(
        charge: Charge,
        peer: Peer,
        bytes_max: usize,
        announced: Option<u64>,
        busy: Option<Arc<Busy>>,
        crew: &Arc<Crew>,
    ) -> Self {
        let crew = Arc::clone(crew);
        Self { peer, parts: Vec::new(), length: 0, charge, bytes_max, announced, busy, crew }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Makes `bytes` the whole body.
    ///
    /// # Errors
    /// Returns 503 if there is no memory for it.
    pub fn whole(mut self, bytes: Bytes) -> Result<(Bytes, Charge), Problem> {
        self.room_for(bytes.len())?;
        Ok((bytes, self.charge))
    }

    /// Appends bytes. Returns whether another part of [`SMALL_BYTES`] was begun.
    ///
    /// # Errors
    /// Returns 413 if the body becomes too large, or 503 if there is no memory for it.
    pub fn push(&mut self, mut frame: &[u8]) -> Result<bool, Problem> {
        let parts = self.parts.len();
        if self.length + frame.len() > self.bytes_max {
            return Err(too_large(self.bytes_max));
        }
        loop {
            if let Some(part) = self.parts.last_mut() {
                let (now, later) = frame.split_at(frame.len().min(part.capacity() - part.len()));
                part.extend_from_slice(now);
                self.length += now.len();
                frame = later;
            }
            if frame.is_empty() {
                return Ok(self.parts.len() > parts);
            }
            let length = self.length;
            let left =
                self.announced.map_or(SMALL_BYTES, |announced| (announced as usize).saturating_sub(length));
            let capacity = left.max(frame.len()).min(SMALL_BYTES);
            self.room_for(length + capacity)?;
            self.parts.push(Vec::with_capacity(capacity));
        }
    }

    /// Joins the parts. For long bodies the crew does this.
    ///
    /// # Errors
    /// Returns 503 if there is no memory for it.
    pub async fn joined(mut self) -> Result<(Bytes, Charge), Problem> {
        if self.parts.len() < 2 {
            return Ok((self.parts.pop().unwrap_or_default().into(), self.charge));
        }
        self.room_for(bytes_to_receive(self.length))?;
        let Self { parts, length, mut charge, crew, .. } = self;
        let join = move || {
            let mut whole = Vec::with_capacity(length);
            parts.into_iter().for_each(|part| whole.extend_from_slice(&part));
            charge.resize(length);
            (Bytes::from(whole), charge)
        };
        Ok(crew.done(join).await.map_err(OperationError::from)?)
    }

    /// Charges this many bytes. If there is no memory for a small body, closes a connection whose client
    /// keeps the server waiting.
    fn room_for(&mut self, bytes: usize) -> Result<(), Problem> {
        if self.charge.resize(bytes) {
            return Ok(());
        }
        if bytes <= SMALL_BYTES
            && let Some(busy) = &self.busy
        {
            busy.make_room(self.peer);
        }
        if self.charge.resize(bytes) { Ok(()) } else { Err(Refusal::Memory.into()) }
    }
}

/// 413 for a body that is too large.
pub fn too_large(bytes_max: usize) -> Problem {
    let detail = format!("the body is larger than {bytes_max} bytes");
    Problem::new(Code::BodyTooLarge, detail)
}

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Charge, Peer};

/// Bytes that a connection may take besides its request and answer: what has been read and not yet understood, and what has been
/// handed over and not yet taken. See [`super::connections`].
const CONNECTION_BYTES: usize = 48 << 10;

/// The open connections. When there is no place for another, the one whose client has been waited for longest makes room.
#[derive(Clone)]
pub struct Guests {
    admission: Admission,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    number: u64,
    connections: HashMap<u64, Connection>,
}

struct Connection {
    peer: Peer,
    /// Since when the server waits for the client: for its next request, or the next part of a body; `None` while the client
    /// waits for the server.
    idle_since: Option<Instant>,
    /// Cancelled when the connection has to make room.
    leave: CancellationToken,
    _place: Charge,
    _memory: Charge,
}

/// An open connection, for as long as this lives.
pub struct Guest {
    guests: Guests,
    number: u64,
    /// Cancelled when the connection has to make room.
    pub leave: CancellationToken,
}

/// A request under way on a connection, which is idle again when this is dropped.
pub struct Busy {
    guests: Guests,
    number: u64,
}

/// A request under way whose client is waited for.
pub struct Waits<'a>(&'a Busy);

impl Guests {
    /// None yet.
    pub fn new(admission: Admission) -> Self {
        Self { admission, open: Arc::default() }
    }

    /// Lets a connection of `peer` in, if there is room for it, or can be made.
    pub fn let_in(&self, peer: Peer) -> Option<Guest> {
        let (place, memory) = self.room_for(peer).or_else(|| {
            self.make_room_for(peer);
            self.room_for(peer)
        })?;
        let leave = CancellationToken::new();
        let mut open = self.lock();
        open.number += 1;
        let number = open.number;
        let connection = Connection {
            peer,
            idle_since: Some(Instant::now()),
            leave: leave.clone(),
            _place: place,
            _memory: memory,
        };
        open.connections.insert(number, connection);
        drop(open);
        Some(Guest { guests: self.clone(), number, leave })
    }

    fn room_for(&self, peer: Peer) -> Option<(Charge, Charge)> {
        let place = self.admission.connection(peer)?;
        Some((place, self.admission.charge(peer, CONNECTION_BYTES).ok()?))
    }

    /// Closes the connection whose client has been waited for longest: of this peer, if it has all that one peer may have, so
    /// that no other makes room in vain.
    fn make_room_for(&self, peer: Peer) {
        let is_of_peer = self.admission.has_its_share(peer);
        let mut open = self.lock();
        let candidates = open.connections.iter().filter(|(_, one)| !is_of_peer || one.peer == peer);
        let idle = candidates.filter_map(|(&number, one)| Some((one.idle_since?, number)));
        if let Some((_, number)) = idle.min()
            && let Some(connection) = open.connections.remove(&number)
        {
            connection.leave.cancel();
        }
    }

    fn set_idle(&self, number: u64, idle_since: Option<Instant>) {
        if let Some(connection) = self.lock().connections.get_mut(&number) {
            connection.idle_since = idle_since;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy {
    /// Closes the connection whose client has been waited for longest, so that this one of `peer` finds room.
    pub fn make_room(&self, peer: Peer) {
        self.guests.make_room_for(peer);
    }

    /// Notes that the client is waited for, until what this returns is dropped.
    pub fn waits_for_client(&self) -> Waits<'_> {
        self.guests.set_idle(self.number, Some(Instant::now()));
        Waits(self)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.guests.set_idle(self.0.number, None);
    }
}

impl Guest {
    /// Notes that a request is under way.
    pub fn request(&self) -> Busy {
        self.guests.set_idle(self.number, None);
        Busy { guests: self.guests.clone(), number: self.number }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.lock().connections.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.guests.set_idle(self.number, Some(Instant::now()));
    }
}

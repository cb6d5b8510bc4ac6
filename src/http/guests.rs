use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Charge, Peer};

/// Bytes that a connection may use in addition to its request and response: received bytes that are not
/// parsed yet, and written bytes that are not sent yet. See [`super::connections`].
const CONNECTION_BYTES: usize = 48 << 10;

/// The open connections. If there is no place for a new one, the server closes the connection whose client
/// has kept it waiting longest.
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
    /// When the server began to wait for the client to send a request or more of a body. `None` while the
    /// client waits for the server.
    idle_since: Option<Instant>,
    /// Cancelled when the connection must close to make room.
    leave: CancellationToken,
    _place: Charge,
    _memory: Charge,
}

/// An open connection. Dropping it frees its place.
pub struct Guest {
    guests: Guests,
    number: u64,
    /// Cancelled when the connection must close to make room.
    pub leave: CancellationToken,
}

/// A request in progress on a connection. Dropping it makes the connection idle.
pub struct Busy {
    guests: Guests,
    number: u64,
}

/// A request in progress that waits for its client. Dropping it ends the wait.
pub struct Waits<'a>(&'a Busy);

impl Guests {
    /// No connections yet.
    pub fn new(admission: Admission) -> Self {
        Self { admission, open: Arc::default() }
    }

    /// Admits a connection of `peer`. If necessary, closes another connection. Returns `None` if that makes
    /// no room.
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

    /// Closes the connection whose client has kept the server waiting longest. If this peer is at its limit,
    /// closes one of the peer's own connections, because closing another one would make no room.
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
    /// Closes the connection whose client has kept the server waiting longest, to make room for a connection of
    /// `peer`.
    pub fn make_room(&self, peer: Peer) {
        self.guests.make_room_for(peer);
    }

    /// Marks the connection as waiting for its client until the returned value is dropped.
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
    /// Marks the connection as busy until the returned value is dropped.
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

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Peer;

/// One part in `RESERVE_OF` of the memory is reserved for small charges, so that large requests can't block
/// small ones.
const RESERVE_OF: usize = 4;

/// The largest small charge, in bytes.
pub const SMALL_BYTES: usize = 64 << 10;

/// Bodies may take one part in `BODIES_OF` of the memory for large charges. So waiting bodies leave memory
/// for the work on others.
const BODIES_OF: usize = 3;

/// The least number of released bytes that wakes requests waiting for memory.
const FREED_BYTES_MIN: usize = 16 << 10;

/// A limited amount that all peers share. One peer can never have all of it.
#[derive(Debug)]
pub struct Share {
    max: usize,
    /// A large charge is refused if the total, small charges included, would exceed this.
    large_max: usize,
    /// A large charge is refused if its peer's total would exceed this.
    large_peer_max: usize,
    /// Any charge is refused if its peer's total would exceed this.
    peer_max: usize,
    /// The most that large bodies may take of `large_max`.
    bodies_max: usize,
    /// The most that large bodies of one peer may take.
    bodies_peer_max: usize,
    /// The largest amount that counts as a small charge.
    small: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    of_all: Amount,
    of_peers: HashMap<Peer, Amount>,
}

impl Taken {
    /// Returns the amounts of all peers and of `peer` after a charge has changed from `old` to `new`.
    fn changed(&self, peer: Peer, purpose: Purpose, old: usize, new: usize) -> (Amount, Amount) {
        let of_peer = self.of_peers.get(&peer).copied().unwrap_or_default();
        (self.of_all.changed(purpose, old, new), of_peer.changed(purpose, old, new))
    }
}

/// The amount taken by all peers or by one.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    total: usize,
    /// The part of `total` that is for bodies.
    bodies: usize,
}

impl Amount {
    /// Returns the amount after a charge of this purpose has changed from `old` to `new`.
    fn changed(self, purpose: Purpose, old: usize, new: usize) -> Self {
        let bodies = match purpose {
            Purpose::Body => self.bodies - old + new,
            Purpose::Work => self.bodies,
        };
        Self { total: self.total - old + new, bodies }
    }
}

/// What a charge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A body that arrives, or that has arrived and waits for its work to begin.
    Body,
    /// Everything else.
    Work,
}

/// An amount taken from a [`Share`]. It is returned on drop.
#[derive(Debug)]
pub struct Charge {
    share: Arc<Share>,
    peer: Peer,
    purpose: Purpose,
    amount: usize,
}

impl Share {
    /// A share of `max` bytes. A quarter is reserved for charges of at most [`SMALL_BYTES`]. A large charge
    /// is refused if its peer would then hold more than 9/16 of all bytes, and a small charge if its peer
    /// would hold more than 7/8. Large bodies can have a third of the memory for large charges.
    pub fn of_bytes(max: usize) -> Arc<Self> {
        let large_max = Self::large(max);
        Arc::new(Self {
            max,
            large_max,
            large_peer_max: Self::large_of_peer(max),
            peer_max: max - max / 8,
            bodies_max: large_max / BODIES_OF,
            bodies_peer_max: Self::bodies_of_peer(max),
            small: SMALL_BYTES,
            taken: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Returns how many of `max` bytes all large charges together may take.
    fn large(max: usize) -> usize {
        max - max / RESERVE_OF
    }

    /// Returns how many of `max` bytes the large charges of one peer may take.
    pub fn large_of_peer(max: usize) -> usize {
        Self::large(max) - Self::large(max) / 4
    }

    /// Returns how many of `max` bytes the large bodies of one peer may take.
    pub fn bodies_of_peer(max: usize) -> usize {
        Self::large_of_peer(max) / BODIES_OF
    }

    /// A share of `max` places, of which one peer can have half.
    pub fn of_places(max: usize) -> Arc<Self> {
        Self::of_places_with(max, max.div_ceil(2))
    }

    /// A share of `max` places, of which one peer can have `peer_max`.
    pub fn of_places_with(max: usize, peer_max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            large_max: max,
            large_peer_max: peer_max,
            peer_max,
            bodies_max: 0,
            bodies_peer_max: 0,
            small: 0,
            taken: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Takes `amount` for `peer`, or returns `None` if there is not enough.
    pub fn take(self: &Arc<Self>, peer: Peer, amount: usize) -> Option<Charge> {
        let mut charge = self.nothing(peer, Purpose::Work);
        charge.resize(amount).then_some(charge)
    }

    /// Returns an empty charge of `peer`, to be resized.
    pub fn nothing(self: &Arc<Self>, peer: Peer, purpose: Purpose) -> Charge {
        Charge { share: Arc::clone(self), peer, purpose, amount: 0 }
    }

    /// Returns a future that completes at the next single release of at least `FREED_BYTES_MIN`. Smaller
    /// releases do not add up.
    pub fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Returns the amount that is taken now.
    pub fn taken(&self) -> usize {
        self.lock().of_all.total
    }

    /// Returns whether `more` would exceed the share of `peer`.
    pub fn is_spent(&self, peer: Peer, more: usize) -> bool {
        self.lock().of_peers.get(&peer).is_some_and(|taken| taken.total + more > self.peer_max)
    }

    /// Returns whether a peer that holds nothing could take a small charge.
    pub fn has_room(&self) -> bool {
        self.lock().of_all.total + self.small.max(1) <= self.max
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a charge of `peer` from `old` to `new`. Returns `false` and changes nothing if there is no
    /// room.
    fn change(&self, peer: Peer, purpose: Purpose, old: usize, new: usize) -> bool {
        let mut taken = self.lock();
        let (of_all, of_peer) = taken.changed(peer, purpose, old, new);
        if new > old && !self.has_room_for(purpose, new <= self.small, of_all, of_peer) {
            return false;
        }
        taken.of_all = of_all;
        match of_peer.total {
            0 => drop(taken.of_peers.remove(&peer)),
            _ => drop(taken.of_peers.insert(peer, of_peer)),
        }
        drop(taken);
        // A smaller release would wake waiting requests for nothing.
        if old >= new + FREED_BYTES_MIN {
            self.freed.notify_waiters();
        }
        true
    }

    /// Returns whether these totals are within the limits for such a charge.
    fn has_room_for(&self, purpose: Purpose, is_small: bool, of_all: Amount, of_peer: Amount) -> bool {
        match (is_small, purpose) {
            (true, _) => of_all.total <= self.max && of_peer.total <= self.peer_max,
            (false, Purpose::Work) => of_all.total <= self.large_max && of_peer.total <= self.large_peer_max,
            (false, Purpose::Body) => {
                self.has_room_for(Purpose::Work, false, of_all, of_peer)
                    && of_all.bodies <= self.bodies_max
                    && of_peer.bodies <= self.bodies_peer_max
            }
        }
    }
}

impl Charge {
    /// Changes the charge to `amount`. Returns `false` and leaves the charge unchanged if there is no room.
    pub fn resize(&mut self, amount: usize) -> bool {
        let is_changed = self.share.change(self.peer, self.purpose, self.amount, amount);
        if is_changed {
            self.amount = amount;
        }
        is_changed
    }

    /// Returns whether [`Self::resize`] to `amount` would succeed now.
    pub fn could_be(&self, amount: usize) -> bool {
        let share = &self.share;
        let (of_all, of_peer) = share.lock().changed(self.peer, self.purpose, self.amount, amount);
        share.has_room_for(self.purpose, amount <= share.small, of_all, of_peer)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.share.change(self.peer, self.purpose, self.amount, 0);
    }
}

/// A value, and the charge for the memory that it occupies.
#[derive(Debug)]
pub struct Charged<T> {
    value: T,
    _charge: Charge,
}

impl<T> Charged<T> {
    /// Holds `charge` for as long as `value` lives.
    pub fn new(value: T, charge: Charge) -> Self {
        Self { value, _charge: charge }
    }
}

impl<T> std::ops::Deref for Charged<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Peer;

/// One part in this many of the memory is for small charges alone, so that large requests can't shut them out.
const RESERVE_OF: usize = 4;

/// Bytes of a small charge, at most.
pub const SMALL_BYTES: usize = 64 << 10;

/// One part in this many of what large charges may take is for bodies: those that wait leave room for work on others.
const BODIES_OF: usize = 3;

/// Bytes that are given back at a time, from which on those who wait for memory look again.
const FREED_BYTES_MIN: usize = 16 << 10;

/// An amount that all peers share, and of which one peer can't have everything.
#[derive(Debug)]
pub struct Share {
    max: usize,
    /// What may be taken in all, small charges included, for a large charge to be added.
    large_max: usize,
    /// The same of one peer.
    large_peer_max: usize,
    /// What one peer may have.
    peer_max: usize,
    /// Of it what large bodies may take.
    bodies_max: usize,
    /// The same of one peer.
    bodies_peer_max: usize,
    /// A charge up to here is a small one.
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
    /// What all and a peer have with a charge changed from `old` to `new`.
    fn changed(&self, peer: Peer, purpose: Purpose, old: usize, new: usize) -> (Amount, Amount) {
        let of_peer = self.of_peers.get(&peer).copied().unwrap_or_default();
        (self.of_all.changed(purpose, old, new), of_peer.changed(purpose, old, new))
    }
}

/// What is taken, by all or by one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    total: usize,
    /// Of it for bodies.
    bodies: usize,
}

impl Amount {
    /// It with a charge of this purpose changed from `old` to `new`.
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
    /// A body that arrives, or has arrived and waits to be worked on.
    Body,
    /// Everything else.
    Work,
}

/// A part of a [`Share`], given back when dropped.
#[derive(Debug)]
pub struct Charge {
    share: Arc<Share>,
    peer: Peer,
    purpose: Purpose,
    amount: usize,
}

impl Share {
    /// So many bytes. A quarter of them is for charges up to [`SMALL_BYTES`]. A large charge is refused if its peer would then
    /// hold more than 9/16 of all, a small one if it would hold more than 7/8. Large bodies have a third of what large charges have.
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

    /// What large charges may take together of so many bytes.
    fn large(max: usize) -> usize {
        max - max / RESERVE_OF
    }

    /// What one peer may have in large charges of so many bytes.
    pub fn large_of_peer(max: usize) -> usize {
        Self::large(max) - Self::large(max) / 4
    }

    /// What one peer may have in large bodies of so many bytes.
    pub fn bodies_of_peer(max: usize) -> usize {
        Self::large_of_peer(max) / BODIES_OF
    }

    /// So many places, of which one peer can have half.
    pub fn of_places(max: usize) -> Arc<Self> {
        Self::of_places_with(max, max.div_ceil(2))
    }

    /// The same, with so many for one peer.
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

    /// `amount` for `peer`, if it is there.
    pub fn take(self: &Arc<Self>, peer: Peer, amount: usize) -> Option<Charge> {
        let mut charge = self.nothing(peer, Purpose::Work);
        charge.resize(amount).then_some(charge)
    }

    /// A charge of `peer` for what is to come.
    pub fn nothing(self: &Arc<Self>, peer: Peer, purpose: Purpose) -> Charge {
        Charge { share: Arc::clone(self), peer, purpose, amount: 0 }
    }

    /// Comes to its end when some of it is given back from now on.
    pub fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// What is taken now.
    pub fn taken(&self) -> usize {
        self.lock().of_all.total
    }

    /// Whether `peer` has so much that `more` would be too much for one peer.
    pub fn is_spent(&self, peer: Peer, more: usize) -> bool {
        self.lock().of_peers.get(&peer).is_some_and(|taken| taken.total + more > self.peer_max)
    }

    /// Whether a peer that has nothing could have a small charge.
    pub fn has_room(&self) -> bool {
        self.lock().of_all.total + self.small.max(1) <= self.max
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a charge of `peer` from `old` to `new`; whether it could be.
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
        // Less helps nobody who waits.
        if old >= new + FREED_BYTES_MIN {
            self.freed.notify_waiters();
        }
        true
    }

    /// Whether all and a peer may have so much, for a charge that is small or not.
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
    /// Makes it as large as this; `false`, and it stays as it is, if there is no room for more.
    pub fn resize(&mut self, amount: usize) -> bool {
        let is_changed = self.share.change(self.peer, self.purpose, self.amount, amount);
        if is_changed {
            self.amount = amount;
        }
        is_changed
    }

    /// Whether it could be made as large as this now.
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

/// A value with the memory that is charged for it.
#[derive(Debug)]
pub struct Charged<T> {
    value: T,
    _charge: Charge,
}

impl<T> Charged<T> {
    /// The value, for which `charge` is held as long as it lives.
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

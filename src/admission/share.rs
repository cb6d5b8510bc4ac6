use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Peer;

/// One part in this many of the memory is for small charges alone, so that large requests can't shut them out.
const RESERVE_OF: usize = 4;

/// Bytes of a small charge, at most.
pub const SMALL_BYTES: usize = 64 << 10;

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
    /// A charge up to here is a small one.
    small: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    peers: HashMap<Peer, usize>,
}

/// A part of a [`Share`], given back when dropped.
#[derive(Debug)]
pub struct Charge {
    share: Arc<Share>,
    peer: Peer,
    amount: usize,
}

impl Share {
    /// So many bytes. A quarter of them is for charges up to [`SMALL_BYTES`]. A large charge is refused if its peer would then
    /// hold more than 9/16 of all, a small one if it would hold more than 7/8.
    pub fn of_bytes(max: usize) -> Arc<Self> {
        let large_max = Self::large(max);
        Arc::new(Self {
            max,
            large_max,
            large_peer_max: Self::large_of_peer(max),
            peer_max: max - max / 8,
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
            small: 0,
            taken: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// `amount` for `peer`, if it is there.
    pub fn take(self: &Arc<Self>, peer: Peer, amount: usize) -> Option<Charge> {
        let mut charge = Charge { share: Arc::clone(self), peer, amount: 0 };
        charge.resize(amount).then_some(charge)
    }

    /// Comes to its end when some of it is given back from now on.
    pub fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// What is taken now.
    pub fn taken(&self) -> usize {
        self.lock().total
    }

    /// Whether `peer` has so much that `more` would be too much for one peer.
    pub fn is_spent(&self, peer: Peer, more: usize) -> bool {
        self.lock().peers.get(&peer).is_some_and(|&taken| taken + more > self.peer_max)
    }

    /// Whether a peer that has nothing could have a small charge.
    pub fn has_room(&self) -> bool {
        self.lock().total + self.small.max(1) <= self.max
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a charge of `peer` from `old` to `new`; whether it could be.
    fn change(&self, peer: Peer, old: usize, new: usize) -> bool {
        let mut taken = self.lock();
        let of_peer = taken.peers.get(&peer).copied().unwrap_or_default() - old + new;
        let total = taken.total - old + new;
        let (max, peer_max) = match new <= self.small {
            true => (self.max, self.peer_max),
            false => (self.large_max, self.large_peer_max),
        };
        if new > old && (total > max || of_peer > peer_max) {
            return false;
        }
        taken.total = total;
        match of_peer {
            0 => drop(taken.peers.remove(&peer)),
            of_peer => drop(taken.peers.insert(peer, of_peer)),
        }
        drop(taken);
        // Less helps nobody who waits.
        if old >= new + FREED_BYTES_MIN {
            self.freed.notify_waiters();
        }
        true
    }
}

impl Charge {
    /// Makes it as large as this; `false`, and it stays as it is, if there is no room for more.
    pub fn resize(&mut self, amount: usize) -> bool {
        let is_changed = self.share.change(self.peer, self.amount, amount);
        if is_changed {
            self.amount = amount;
        }
        is_changed
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.share.change(self.peer, self.amount, 0);
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

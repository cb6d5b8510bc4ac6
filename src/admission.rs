//! What requests may take of the server, decided before it is taken.
//!
//! Every request has a price: bytes of memory, and a place in the lane of its kind of work. Memory is charged to one
//! ledger and given back with the last byte that it was charged for. Work waits in bounded lanes, so that no kind of
//! request starves another, and no client ([`Peer`]) can hold all of anything.

mod crew;
mod lane;
mod price;
mod share;
#[cfg(test)]
mod tests;
mod ticket;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

pub use crew::{Crew, NICENESS, lower_priority};
pub use lane::{Lane, LaneLimits, LaneUse, Place};
pub use price::Price;
pub use share::{Charge, Charged, Share};
pub use ticket::{Stop, Ticket, WorkError};

use lane::Queue;

/// Whose a request is: an IPv4 address, or the 64 bits of an IPv6 address that name a network. Whoever has one address of such a
/// network has all of them (RFC 4291, section 2.5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl Peer {
    /// The peer at an address.
    pub fn new(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        })
    }
}

/// Why a request is not let in: there is too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Other requests hold the memory.
    #[error("other requests hold the memory of the server")]
    Memory,
    /// As many requests wait for this kind of work as may.
    #[error("too many requests wait for a place in the lane {0}")]
    LaneFull(Lane),
    /// No place became free in time.
    #[error("no place in the lane {0} became free in time")]
    LaneSlow(Lane),
}

/// How much there is to share.
#[derive(Clone, Debug)]
pub struct AdmissionLimits {
    /// Open connections.
    pub connections_max: usize,
    /// Of them those of one peer.
    pub connections_per_peer_max: usize,
    /// Bytes of memory that all requests hold at a time.
    pub memory_bytes_max: usize,
    /// Long polls that wait.
    pub waits_max: usize,
    /// Open event streams.
    pub streams_max: usize,
    /// Places of each lane.
    pub lanes: [LaneLimits; Lane::ALL.len()],
}

impl AdmissionLimits {
    /// Bytes of memory that a request can have at most: one that needs more is to be refused for good.
    pub fn charge_max(&self) -> usize {
        Share::large_of_peer(self.memory_bytes_max)
    }
}

/// A handle to what requests share; clones share it.
#[derive(Clone, Debug)]
pub struct Admission {
    connections: Arc<Share>,
    memory: Arc<Share>,
    waits: Arc<Share>,
    streams: Arc<Share>,
    lanes: Arc<[Queue; Lane::ALL.len()]>,
    crew: Arc<Crew>,
}

impl Admission {
    /// Shares out what `limits` has.
    ///
    /// # Errors
    /// If the system gives no thread for long work.
    pub fn new(limits: &AdmissionLimits) -> std::io::Result<Self> {
        let lanes = Lane::ALL.map(|lane| Queue::new(lane, limits.lanes[lane as usize]));
        let long_work = Lane::ALL.iter().filter(|lane| lane.is_long());
        let threads = long_work.map(|&lane| limits.lanes[lane as usize].running).sum::<usize>();
        let (connections, per_peer) = (limits.connections_max, limits.connections_per_peer_max);
        Ok(Self {
            connections: Share::of_places_with(connections, per_peer),
            memory: Share::of_bytes(limits.memory_bytes_max),
            waits: Share::of_places(limits.waits_max),
            streams: Share::of_places(limits.streams_max),
            lanes: Arc::new(lanes),
            // One more packs answers, so that none of them waits for work to end.
            crew: Arc::new(Crew::start(threads + 1)?),
        })
    }

    /// A place for one more connection, if there is one.
    pub fn connection(&self, peer: Peer) -> Option<Charge> {
        self.connections.take(peer, 1)
    }

    /// Whether `peer` has all the connections it may have.
    pub fn has_all_connections(&self, peer: Peer) -> bool {
        self.connections.is_spent(peer)
    }

    /// Charges `bytes` of memory to `peer`.
    ///
    /// # Errors
    /// If other requests, or others of this peer, hold too much.
    pub fn charge(&self, peer: Peer, bytes: usize) -> Result<Charge, Refusal> {
        self.memory.take(peer, bytes).ok_or(Refusal::Memory)
    }

    /// A place among the long polls that wait, if there is one.
    pub fn wait(&self, peer: Peer) -> Option<Charge> {
        self.waits.take(peer, 1)
    }

    /// A place among the open event streams, if there is one.
    pub fn stream(&self, peer: Peer) -> Option<Charge> {
        self.streams.take(peer, 1)
    }

    /// A place in a lane, once there is one.
    ///
    /// # Errors
    /// If too many wait for one already, or none becomes free in time.
    pub async fn enter(&self, lane: Lane, peer: Peer) -> Result<Place, Refusal> {
        self.lanes[lane as usize].enter(peer).await
    }

    /// Leave to do work of this price, once there is room for it.
    ///
    /// # Errors
    /// If too many wait for a place already, or place and memory are not free in time.
    pub async fn admit(&self, price: Price, peer: Peer) -> Result<Ticket, Refusal> {
        let queue = &self.lanes[price.lane as usize];
        let deadline = tokio::time::Instant::now() + queue.limits().wait;
        loop {
            let freed = self.memory.freed();
            let place = queue.enter(peer).await?;
            if let Some(charge) = self.memory.take(peer, price.memory_bytes) {
                return Ok(Ticket::new(place, charge, Arc::clone(&self.crew)));
            }
            // Whoever waits for memory keeps nobody else from working.
            drop(place);
            tokio::time::timeout_at(deadline, freed).await.map_err(|_| Refusal::Memory)?;
        }
    }

    /// Whether a prediction of one image would be let in now.
    pub fn takes_predictions(&self) -> Result<(), Refusal> {
        if self.lanes[Lane::Predict as usize].is_full() {
            return Err(Refusal::LaneFull(Lane::Predict));
        }
        if self.memory.has_room() { Ok(()) } else { Err(Refusal::Memory) }
    }

    /// The threads for long work.
    pub fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Bytes of memory that are charged now.
    pub fn memory_bytes(&self) -> usize {
        self.memory.taken()
    }

    /// How many connections are open, long polls wait, and event streams are open.
    pub fn open(&self) -> [(&'static str, usize); 3] {
        [
            ("connections", self.connections.taken()),
            ("waits", self.waits.taken()),
            ("streams", self.streams.taken()),
        ]
    }

    /// How busy each lane is.
    pub fn lanes(&self) -> impl Iterator<Item = LaneUse> + '_ {
        self.lanes.iter().map(Queue::usage)
    }
}

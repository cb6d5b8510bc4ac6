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

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use tokio::sync::Semaphore;

pub use crew::Crew;
pub use lane::{Lane, LaneLimits, LaneUse, Place};
pub use price::Price;
pub use share::{Charge, Charged, Purpose, SMALL_BYTES, Share};
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

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
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
    /// More than one request can have, whatever others hold.
    #[error("it would take {bytes} bytes of memory, this server gives {max} to one request")]
    TooLarge {
        /// What it would take.
        bytes: usize,
        /// What there is.
        max: usize,
    },
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
    /// Of so many bytes of memory those that a request can have at most, besides its connection and a small body: one that needs more is
    /// to be refused for good.
    pub fn charge_max(memory_bytes_max: usize) -> usize {
        Share::large_of_peer(memory_bytes_max) - 2 * SMALL_BYTES
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
    /// Whose turn it is to read more of a long body.
    turn: Arc<Semaphore>,
    charge_max: usize,
    body_max: usize,
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
            turn: Arc::new(Semaphore::new(1)),
            charge_max: AdmissionLimits::charge_max(limits.memory_bytes_max),
            // One that came in parts is there twice while they are joined.
            body_max: Share::bodies_of_peer(limits.memory_bytes_max) / 2,
        })
    }

    /// A place for one more connection, if there is one.
    pub fn connection(&self, peer: Peer) -> Option<Charge> {
        self.connections.take(peer, 1)
    }

    /// Whether `peer` has all the connections that it may have, or all the memory for small charges.
    pub fn has_its_share(&self, peer: Peer) -> bool {
        self.connections.is_spent(peer, 1) || self.memory.is_spent(peer, SMALL_BYTES)
    }

    /// Charges `bytes` of memory to `peer`.
    ///
    /// # Errors
    /// If other requests, or others of this peer, hold too much, or it is more than any request can have.
    pub fn charge(&self, peer: Peer, bytes: usize) -> Result<Charge, Refusal> {
        self.can_be(bytes)?;
        self.memory.take(peer, bytes).ok_or(Refusal::Memory)
    }

    /// Bytes of memory that a request can have at most.
    pub fn charge_max(&self) -> usize {
        self.charge_max
    }

    /// Bytes that a body can have at most.
    pub fn body_max(&self) -> usize {
        self.body_max
    }

    /// Charges `peer` for a body that arrives: nothing yet.
    pub fn body(&self, peer: Peer) -> Charge {
        self.memory.nothing(peer, Purpose::Body)
    }

    /// Waits until it is this body's turn to go on arriving. Long ones take turns (first come, first served), and between two
    /// turns whatever else is ready is done.
    pub async fn turn(&self) {
        // It is never closed.
        let _turn = self.turn.acquire().await;
        tokio::task::yield_now().await;
    }

    fn can_be(&self, bytes: usize) -> Result<(), Refusal> {
        let max = self.charge_max;
        if bytes > max { Err(Refusal::TooLarge { bytes, max }) } else { Ok(()) }
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
        let queue = &self.lanes[lane as usize];
        if let Some(place) = queue.place(peer) {
            return Ok(place);
        }
        let _seat = queue.seat(peer)?;
        tokio::time::timeout(queue.limits().wait, queue.wait(peer)).await.map_err(|_| Refusal::LaneSlow(lane))
    }

    /// Leave to do work of this price, once there is room for it.
    ///
    /// # Errors
    /// If too many wait already, or place and memory are not free in time, or no request can have so much memory.
    pub async fn admit(&self, price: Price, peer: Peer) -> Result<Ticket, Refusal> {
        self.can_be(price.memory_bytes)?;
        let ticket = |place: Place, charge: Charge| {
            Ticket::new(place, charge, Arc::clone(&self.crew), price.is_instant)
        };
        let queue = &self.lanes[price.lane as usize];
        if let Some(place) = queue.place(peer)
            && let Some(charge) = self.memory.take(peer, price.memory_bytes)
        {
            return Ok(ticket(place, charge));
        }
        let _seat = queue.seat(peer)?;
        let mut lacks = Refusal::LaneSlow(price.lane);
        let admitted = async {
            loop {
                let freed = self.memory.freed();
                let place = queue.wait(peer).await;
                if let Some(charge) = self.memory.take(peer, price.memory_bytes) {
                    return ticket(place, charge);
                }
                // Whoever waits for memory keeps nobody else from working.
                drop(place);
                lacks = Refusal::Memory;
                freed.await;
            }
        };
        tokio::time::timeout(queue.limits().wait, admitted).await.map_err(|_| lacks)
    }

    /// Leave to go on for work that has begun and made way to others, once it is its turn: however long that takes, and
    /// however many wait.
    pub async fn again(&self, lane: Lane, peer: Peer, charge: Charge) -> Ticket {
        Ticket::new(self.lanes[lane as usize].wait(peer).await, charge, Arc::clone(&self.crew), false)
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

//! Admission control: decides what a request may use before it uses it.
//!
//! Every request has a price: a number of bytes of memory, and a place in the lane of its kind of work. The
//! bytes are charged to one ledger and returned when the memory is freed. Work waits in bounded lanes, so no
//! kind of request starves another, and no client ([`Peer`]) can hold all of a resource.

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
pub use lane::{Lane, LaneLimits, LanePlace, LaneUse};
pub use price::Price;
pub use share::{Charge, Charged, Purpose, SMALL_BYTES, Share};
pub use ticket::{Stop, Ticket, WorkError};

use lane::Queue;

/// The client that a request is counted against: an IPv4 address, or the upper 64 bits of an IPv6 address. A
/// host usually controls all addresses of its /64 network (RFC 4291, section 2.5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl Peer {
    /// Returns the peer of an address. An IPv4-mapped IPv6 address gives the same peer as the IPv4 address.
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

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Other requests hold too much of the memory.
    #[error("other requests hold the memory of the server")]
    Memory,
    /// The lane's queue is full.
    #[error("too many requests wait for a place in the lane {0}")]
    LaneFull(Lane),
    /// No place became free within the lane's time limit.
    #[error("no place in the lane {0} became free in time")]
    LaneSlow(Lane),
    /// The request needs more memory than one request can ever have.
    #[error("the request needs {bytes} bytes of memory; the limit of a request is {max}")]
    TooLarge {
        /// Bytes that the request needs.
        bytes: usize,
        /// Bytes that one request can have.
        max: usize,
    },
}

/// The capacity that requests share.
#[derive(Clone, Debug)]
pub struct AdmissionLimits {
    /// Open connections.
    pub connections_max: usize,
    /// Open connections of one peer.
    pub connections_per_peer_max: usize,
    /// Bytes of memory that all requests together may hold.
    pub memory_bytes_max: usize,
    /// Waiting long polls.
    pub waits_max: usize,
    /// Open event streams.
    pub streams_max: usize,
    /// Places in each lane, indexed by `Lane as usize`.
    pub lanes: [LaneLimits; Lane::ALL.len()],
}

impl AdmissionLimits {
    /// Returns how many of `memory_bytes_max` bytes one request can be charged, not counting its connection
    /// and a small body. A request that needs more can never be admitted.
    pub fn charge_max(memory_bytes_max: usize) -> usize {
        Share::large_of_peer(memory_bytes_max) - 2 * SMALL_BYTES
    }
}

/// A handle to the shared capacity. Clones share the same capacity.
#[derive(Clone, Debug)]
pub struct Admission {
    connections: Arc<Share>,
    memory: Arc<Share>,
    waits: Arc<Share>,
    streams: Arc<Share>,
    lanes: Arc<[Queue; Lane::ALL.len()]>,
    crew: Arc<Crew>,
    /// Held by the one long body that is being read; see [`Self::turn`].
    turn: Arc<Semaphore>,
    charge_max: usize,
    body_max: usize,
}

impl Admission {
    /// Opens the lanes and starts the threads for long work.
    ///
    /// # Errors
    /// Returns an error if a thread can't be started.
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
            // The extra thread compresses responses, so that a response never waits for long work to end.
            crew: Arc::new(Crew::start(threads + 1)?),
            turn: Arc::new(Semaphore::new(1)),
            charge_max: AdmissionLimits::charge_max(limits.memory_bytes_max),
            // Joining the parts of a body needs its length twice.
            body_max: Share::bodies_of_peer(limits.memory_bytes_max) / 2,
        })
    }

    /// Takes a place for one more connection, or returns `None` if there is none.
    pub fn connection(&self, peer: Peer) -> Option<Charge> {
        self.connections.take(peer, 1)
    }

    /// Returns whether `peer` has used up its share of connections, or its share of memory for small
    /// charges.
    pub fn has_its_share(&self, peer: Peer) -> bool {
        self.connections.is_spent(peer, 1) || self.memory.is_spent(peer, SMALL_BYTES)
    }

    /// Charges `bytes` of memory to `peer`.
    ///
    /// # Errors
    /// Returns an error if all requests together or those of this peer hold too much, or if `bytes` is more
    /// than any request can have.
    pub fn charge(&self, peer: Peer, bytes: usize) -> Result<Charge, Refusal> {
        self.can_be(bytes)?;
        self.memory.take(peer, bytes).ok_or(Refusal::Memory)
    }

    /// Returns how many bytes the body of a request can have.
    pub fn body_max(&self) -> usize {
        self.body_max
    }

    /// Returns an empty charge for a body that is about to arrive.
    pub fn body(&self, peer: Peer) -> Charge {
        self.memory.nothing(peer, Purpose::Body)
    }

    /// Waits until this body may be read further. Long bodies take turns, first come, first served. Each
    /// turn lets other ready tasks run first.
    pub async fn turn(&self) {
        // The semaphore is never closed.
        let _turn = self.turn.acquire().await;
        tokio::task::yield_now().await;
    }

    fn can_be(&self, bytes: usize) -> Result<(), Refusal> {
        let max = self.charge_max;
        if bytes > max { Err(Refusal::TooLarge { bytes, max }) } else { Ok(()) }
    }

    /// Takes a place for a long poll, or returns `None` if there is none.
    pub fn wait(&self, peer: Peer) -> Option<Charge> {
        self.waits.take(peer, 1)
    }

    /// Takes a place for an event stream, or returns `None` if there is none.
    pub fn stream(&self, peer: Peer) -> Option<Charge> {
        self.streams.take(peer, 1)
    }

    /// Waits for a place in a lane.
    ///
    /// # Errors
    /// Returns an error if the queue of the lane is full, or no place becomes free in time.
    pub async fn enter(&self, lane: Lane, peer: Peer) -> Result<LanePlace, Refusal> {
        let queue = &self.lanes[lane as usize];
        if let Some(place) = queue.place(peer) {
            return Ok(place);
        }
        let _seat = queue.seat(peer)?;
        tokio::time::timeout(queue.limits().wait, queue.wait(peer)).await.map_err(|_| Refusal::LaneSlow(lane))
    }

    /// Waits until work of this price may begin.
    ///
    /// # Errors
    /// Returns an error if the queue of the lane is full, if the place or the memory is not free in time, or
    /// if the memory is more than any request can have.
    pub async fn admit(&self, price: Price, peer: Peer) -> Result<Ticket, Refusal> {
        self.can_be(price.memory_bytes)?;
        let ticket = |place: LanePlace, charge: Charge| {
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
                // A request that waits for memory must not block a place.
                drop(place);
                lacks = Refusal::Memory;
                freed.await;
            }
        };
        tokio::time::timeout(queue.limits().wait, admitted).await.map_err(|_| lacks)
    }

    /// Waits for a place for work that has begun and has made way for others. The wait has no time limit and
    /// takes no seat in the queue.
    pub async fn again(&self, lane: Lane, peer: Peer, charge: Charge) -> Ticket {
        Ticket::new(self.lanes[lane as usize].wait(peer).await, charge, Arc::clone(&self.crew), false)
    }

    /// Checks whether a prediction of one image would be admitted now.
    pub fn takes_predictions(&self) -> Result<(), Refusal> {
        if self.lanes[Lane::Predict as usize].is_full() {
            return Err(Refusal::LaneFull(Lane::Predict));
        }
        if self.memory.has_room() { Ok(()) } else { Err(Refusal::Memory) }
    }

    /// Returns the threads for long work.
    pub fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Returns the bytes of memory that are charged now.
    pub fn memory_bytes(&self) -> usize {
        self.memory.taken()
    }

    /// Returns how many connections and event streams are open, and how many long polls wait.
    pub fn open(&self) -> [(&'static str, usize); 3] {
        [
            ("connections", self.connections.taken()),
            ("waits", self.waits.taken()),
            ("streams", self.streams.taken()),
        ]
    }

    /// Returns how busy each lane is.
    pub fn lanes(&self) -> impl Iterator<Item = LaneUse> + '_ {
        self.lanes.iter().map(Queue::usage)
    }
}

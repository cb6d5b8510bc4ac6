use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;

fn peer(last: u8) -> Peer {
    Peer::new(Ipv4Addr::new(127, 0, 0, last).into())
}

fn limits() -> AdmissionLimits {
    let lane = LaneLimits { running: 1, running_per_peer: 1, waiting: 4, wait: Duration::from_secs(600) };
    AdmissionLimits {
        connections_max: 4,
        connections_per_peer_max: 3,
        memory_bytes_max: 16 << 20,
        waits_max: 4,
        streams_max: 4,
        lanes: [lane; Lane::ALL.len()],
    }
}

#[test]
fn an_ipv6_network_is_one_peer_and_so_is_an_ipv4_address_in_either_notation() {
    let v6 = |low: u16| Peer::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, low, 0, 0, low).into());
    assert_eq!(v6(1), v6(2));
    assert_ne!(v6(1), Peer::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 8, 1, 0, 0, 1).into()));
    assert_eq!(Peer::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()), peer(1));
}

#[test]
fn all_memory_is_returned_and_one_peer_can_not_have_all_of_it() {
    let memory = Share::of_bytes(16 << 20);
    let large = Share::large_of_peer(16 << 20);
    let mut first = memory.take(peer(1), large).expect("as much as one may have");
    assert!(memory.take(peer(1), 128 << 10).is_none(), "no more large ones");
    assert!(!first.resize(large + 1));
    let other = memory.take(peer(2), 1 << 20).expect("others have room");
    assert!(memory.take(peer(2), 4 << 20).is_none(), "large ones leave a quarter");
    let small: Vec<Charge> = std::iter::from_fn(|| memory.take(peer(3), 64 << 10)).collect();
    assert!(small.len() * (64 << 10) >= 3 << 20, "which small ones may have: {}", small.len());
    assert!(memory.taken() <= 16 << 20);
    assert!(first.resize(1 << 20));
    drop((first, other, small));
    assert_eq!(memory.taken(), 0);
    assert!(memory.take(peer(1), large).is_some(), "nothing is remembered of who has nothing");
}

#[test]
fn no_sequence_of_charges_exceeds_the_limit() {
    let memory = Share::of_bytes(1 << 20);
    let mut charges: Vec<(Charge, usize)> = Vec::new();
    // A linear congruential generator (Knuth, volume 2, section 3.2.1).
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..20_000 {
        match (next(3), charges.len()) {
            (0, 1..) => drop(charges.swap_remove(next(charges.len()))),
            (1, 1..) => {
                let index = next(charges.len());
                let amount = next(300_000);
                let (charge, held) = &mut charges[index];
                if charge.resize(amount) {
                    *held = amount;
                }
            }
            _ => {
                let (last, amount) = (next(5) as u8, next(200_000));
                charges.extend(memory.take(peer(last), amount).map(|charge| (charge, amount)));
            }
        }
        let held: usize = charges.iter().map(|(_, held)| held).sum();
        assert_eq!(memory.taken(), held);
        assert!(held <= 1 << 20);
    }
}

#[tokio::test]
async fn a_lane_limits_who_runs_and_who_waits_and_one_peer_has_half_of_the_queue() {
    let admission = Admission::new(&limits()).expect("threads");
    let place = admission.enter(Lane::Lab, peer(1)).await.expect("a place");
    let enter = |last: u8| {
        let admission = admission.clone();
        tokio::spawn(async move { admission.enter(Lane::Lab, peer(last)).await })
    };
    let mut waiting = vec![enter(1), enter(1), enter(2), enter(2)];
    let lab = |admission: &Admission| admission.lanes().find(|lane| lane.lane == Lane::Lab).expect("a lane");
    while lab(&admission).waiting < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(admission.enter(Lane::Lab, peer(1)).await.err(), Some(Refusal::LaneFull(Lane::Lab)));
    assert_eq!(admission.enter(Lane::Lab, peer(3)).await.err(), Some(Refusal::LaneFull(Lane::Lab)));
    assert!(admission.enter(Lane::Predict, peer(1)).await.is_ok(), "other lanes have places of their own");
    assert!(admission.takes_predictions().is_ok());
    drop(place);
    let next = waiting.remove(0).await.expect("a task").expect("first come, first served");
    assert_eq!((lab(&admission).running, lab(&admission).waiting), (1, 3));
    drop(next);
    admission.crew().dismiss();
}

/// Queues these peers for a lane of one place. Returns the order in which they entered it.
async fn order_of_entry(peers: &[u8]) -> Vec<u8> {
    let mut limits = limits();
    limits.lanes.iter_mut().for_each(|lane| lane.waiting = 64);
    let admission = Admission::new(&limits).expect("threads");
    let place = admission.enter(Lane::Batch, peer(99)).await.expect("a place");
    let (entered, mut order) = tokio::sync::mpsc::unbounded_channel();
    for &last in peers {
        let (waiting, entered) = (admission.clone(), entered.clone());
        tokio::spawn(async move {
            let place = waiting.enter(Lane::Batch, peer(last)).await.expect("a place");
            entered.send(last).expect("somebody listens");
            drop(place);
        });
        tokio::task::yield_now().await;
    }
    drop((entered, place));
    let mut found = Vec::new();
    while let Some(last) = order.recv().await {
        found.push(last);
    }
    admission.crew().dismiss();
    found
}

#[tokio::test]
async fn peers_take_turns_however_many_requests_each_has() {
    assert_eq!(order_of_entry(&[1, 1, 1, 1, 2, 1, 3, 2]).await, [1, 2, 3, 1, 2, 1, 1, 1]);
}

#[tokio::test]
async fn a_peer_at_its_limit_waits_while_others_are_admitted() {
    let mut limits = limits();
    limits.lanes[Lane::Lab as usize] = LaneLimits { running: 4, running_per_peer: 2, ..limits.lanes[0] };
    let admission = Admission::new(&limits).expect("threads");
    let enter = |last: u8| {
        let admission = admission.clone();
        async move { admission.enter(Lane::Lab, peer(last)).await.expect("a place") }
    };
    let (first, _second) = (enter(1).await, enter(1).await);
    let mut third = Box::pin(enter(1));
    assert!(futures_util::poll!(&mut third).is_pending());
    let _others = (enter(2).await, enter(3).await);
    drop(first);
    let _third = third.await;
    assert_eq!(admission.lanes().find(|lane| lane.lane == Lane::Lab).map(|lane| lane.running), Some(4));
    admission.crew().dismiss();
}

#[tokio::test]
async fn the_place_of_a_waiter_that_gave_up_goes_to_the_next() {
    let admission = Admission::new(&limits()).expect("threads");
    let place = admission.enter(Lane::Batch, peer(1)).await.expect("a place");
    let enter = |last: u8| {
        let admission = admission.clone();
        Box::pin(async move { admission.enter(Lane::Batch, peer(last)).await.expect("a place") })
    };
    let (mut gone_before, mut gone_after, mut stays) = (enter(2), enter(2), enter(3));
    for waiting in [&mut gone_before, &mut gone_after, &mut stays] {
        assert!(futures_util::poll!(waiting).is_pending());
    }
    assert!(place.is_wanted());
    drop(gone_before);
    drop(place);
    // This request has been given the place, but ends without taking it.
    drop(gone_after);
    let place = stays.await;
    assert!(!place.is_wanted());
    drop(place);
    assert!(admission.lanes().all(|lane| (lane.running, lane.waiting) == (0, 0)));
    admission.crew().dismiss();
}

#[tokio::test]
async fn work_that_makes_way_continues_after_the_other_request() {
    let admission = Admission::new(&limits()).expect("threads");
    let ticket = admission.admit(Price::new(Lane::Batch, 1 << 10), peer(1)).await.expect("leave");
    let mut other = Box::pin(admission.enter(Lane::Batch, peer(2)));
    assert!(futures_util::poll!(&mut other).is_pending());
    let (is_wanted, charge) = ticket.run(|stop| stop.is_place_wanted()).await.expect("work");
    assert!(is_wanted);
    let mut again = Box::pin(admission.again(Lane::Batch, peer(1), charge));
    assert!(futures_util::poll!(&mut again).is_pending(), "the other one is there");
    drop(other.await.expect("its turn"));
    let (is_wanted, _) = again.await.run(|stop| stop.is_place_wanted()).await.expect("work");
    assert!(!is_wanted);
    admission.crew().dismiss();
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_refused() {
    let mut limits = limits();
    limits.lanes.iter_mut().for_each(|lane| lane.wait = Duration::ZERO);
    let admission = Admission::new(&limits).expect("threads");
    let _place = admission.enter(Lane::Batch, peer(1)).await.expect("a place");
    assert_eq!(admission.enter(Lane::Batch, peer(2)).await.err(), Some(Refusal::LaneSlow(Lane::Batch)));
    let _memory = admission.charge(peer(1), 8 << 20).expect("memory");
    let _more = admission.charge(peer(2), 4 << 20).expect("memory");
    let price = Price::new(Lane::Lab, 8 << 20);
    assert_eq!(admission.admit(price, peer(3)).await.err(), Some(Refusal::Memory));
    admission.crew().dismiss();
}

#[tokio::test]
async fn work_of_a_disconnected_client_is_stopped_and_holds_its_place_until_it_has() {
    let admission = Admission::new(&limits()).expect("threads");
    let ticket = admission.admit(Price::new(Lane::Lab, 1 << 20), peer(1)).await.expect("leave");
    let (started, has_started) = tokio::sync::oneshot::channel();
    let client = tokio::spawn(ticket.run(move |stop| {
        let _ = started.send(());
        while !stop.is_set() {
            std::thread::yield_now();
        }
    }));
    has_started.await.expect("the work begins");
    assert_eq!(admission.memory_bytes(), 1 << 20);
    client.abort();
    let _next = admission.enter(Lane::Lab, peer(2)).await.expect("its place, once it has stopped");
    while admission.memory_bytes() > 0 {
        tokio::task::yield_now().await;
    }
    admission.crew().dismiss();
}

#[tokio::test]
async fn a_panic_of_long_work_costs_no_thread() {
    let admission = Admission::new(&limits()).expect("threads");
    for _ in 0..4 {
        let ticket = admission.admit(Price::new(Lane::Lab, 1), peer(1)).await.expect("leave");
        let lost = ticket
            .run(|_| {
                if true {
                    panic!("as a bug would")
                }
            })
            .await
            .err();
        assert_eq!(lost, Some(WorkError::Lost));
    }
    let ticket = admission.admit(Price::new(Lane::Lab, 1), peer(1)).await.expect("leave");
    assert_eq!(ticket.run(|_| 7).await.expect("an answer").0, 7);
    // A thread that unwinds releases its charge last.
    while admission.memory_bytes() > 0 {
        tokio::task::yield_now().await;
    }
    admission.crew().dismiss();
}

#[test]
fn bodies_that_wait_leave_room_for_the_work_on_them() {
    const PART: usize = 128 << 10;
    let fill = |purpose: Purpose| {
        let memory = Share::of_bytes(16 << 20);
        let taken: Vec<Charge> = (1..=4)
            .flat_map(|last| {
                let memory = &memory;
                std::iter::from_fn(move || {
                    let mut charge = memory.nothing(peer(last), purpose);
                    charge.resize(PART).then_some(charge)
                })
            })
            .collect();
        (memory, taken)
    };
    let (memory, bodies) = fill(Purpose::Body);
    assert_eq!(bodies.len() * PART, 4 << 20, "a third of the three quarters that large charges have");
    let work = memory.take(peer(1), 4 << 20).expect("who has all the bodies it may have works on them");
    assert!(
        memory.nothing(peer(5), Purpose::Body).resize(SMALL_BYTES),
        "small bodies have room of their own"
    );
    drop((work, bodies));
    let (memory, work) = fill(Purpose::Work);
    assert_eq!(work.len() * PART, 12 << 20);
    assert!(memory.take(peer(1), 4 << 20).is_none(), "without that bound nothing is left");
}

#[tokio::test]
async fn work_learns_that_nobody_waits_for_it() {
    let admission = Admission::new(&limits()).expect("threads");
    let ticket = admission.admit(Price::new(Lane::Text, 1), peer(1)).await.expect("a ticket");
    let runtime = tokio::runtime::Handle::current();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (heard, has_heard) = tokio::sync::oneshot::channel();
    let work = tokio::spawn(ticket.run(move |stop| {
        begun.send(()).expect("somebody listens");
        runtime.block_on(stop.set());
        heard.send(stop.is_set()).expect("somebody listens");
    }));
    has_begun.await.expect("work that begins");
    work.abort();
    assert!(has_heard.await.expect("work that hears"));
    admission.crew().dismiss();
}

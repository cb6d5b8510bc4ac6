//! Known-bad twins. The comparison with a model and the search for an order must detect them.

use chainrule::job::JobState;

use super::history::{Event, Told, linearize};
use super::model::{Answer, Twist};
use super::sequential::{Call, difference, run, shortest};
use super::threads::courses;
use super::traffic::{Record, traffic};
use super::{DATABASES, MakeRows, Rows};

const CASES: u32 = 400;

#[test]
fn a_model_whose_rescue_ignores_the_beat_is_found_and_told_in_five_calls() {
    let (why, calls) = difference(Rows::sqlite, CASES, Twist::RescueIgnoresBeat, true).expect("a difference");
    let calls = shortest(Rows::sqlite, calls, Twist::RescueIgnoresBeat, true);
    let is_shortest = matches!(
        &calls[..],
        [
            Call::Insert { .. } | Call::InsertFrom { .. } | Call::InsertWithKey { .. },
            Call::Claim,
            Call::Look,
            Call::Renew { .. } | Call::Record { .. } | Call::Checkpoint { .. },
            Call::Rescue { .. },
        ]
    );
    assert!(is_shortest && why.contains("rescued: found None, expected Some(Queued)"), "{why}\n{calls:?}");
}

#[tokio::test]
async fn every_defect_of_the_model_is_found() {
    let insert = |model, client| Call::Insert { model, client, priority: 0 };
    for (twist, calls) in [
        (
            Twist::CrashesOutliveCheckpoints,
            vec![
                insert(0, 0),
                Call::Claim,
                Call::Look,
                Call::Rescue { seen: 0 },
                Call::Claim,
                Call::Checkpoint { claim: 0 },
                Call::Look,
                Call::Rescue { seen: 0 },
            ],
        ),
        (
            Twist::VersionsComeBack,
            vec![
                insert(0, 0),
                Call::Claim,
                Call::Succeed { claim: 0 },
                Call::DeleteVersion { model: 0, version: 1 },
                insert(0, 0),
                Call::Claim,
                Call::Succeed { claim: 0 },
            ],
        ),
        (Twist::ModelsRunTwice, vec![insert(0, 0), insert(0, 0), Call::Claim, Call::Claim]),
        (Twist::ClientsTakeNoTurns, vec![insert(0, 0), insert(1, 0), insert(2, 1), Call::Claim, Call::Claim]),
        (
            Twist::ResumedJobsKeepTheirPlace,
            vec![insert(0, 0), insert(0, 0), Call::Cancel { job: 1 }, Call::Resume { job: 1 }, Call::Claim],
        ),
    ] {
        for make_rows in DATABASES {
            assert_eq!(run(make_rows, &calls, Twist::None, true).await, Ok(()), "{twist:?}");
            assert!(run(make_rows, &calls, twist, true).await.is_err(), "{twist:?}");
        }
    }
}

#[test]
fn a_queue_without_fencing_is_found_by_its_model() {
    for make_rows in DATABASES {
        let (why, calls) = difference(make_rows, CASES, Twist::None, false).expect("a difference");
        assert!(calls.iter().filter(|call| matches!(call, Call::Claim)).count() > 1, "{why}\n{calls:?}");
    }
}

async fn record(make_rows: MakeRows, threads: usize, calls: usize, seed: u64, is_fenced: bool) -> Record {
    let rows = make_rows();
    let dispatch = rows.open().await;
    let record = traffic(&vec![dispatch.clone(); threads], calls, seed, is_fenced).await;
    dispatch.close().await;
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_queue_without_fencing_has_no_order_that_explains_it() {
    for make_rows in DATABASES {
        assert!(courses(&record(make_rows, 4, 150, 21, false).await).is_err());
    }
}

/// Returns a different result of the same call that can't be true as well.
fn forged(told: Told) -> Told {
    match told {
        Told::Inserted => Told::Deleted(Answer::Done, None),
        Told::Claimed { attempt, step } => Told::Claimed { attempt: attempt + 1, step },
        Told::Recorded { attempt, step, has_checkpoint, is_taken } => {
            Told::Recorded { attempt, step, has_checkpoint, is_taken: !is_taken }
        }
        Told::Left { attempt, state, is_taken } => Told::Left { attempt, state, is_taken: !is_taken },
        Told::Succeeded { attempt, step, version } => {
            Told::Succeeded { attempt, step, version: if version.is_some() { None } else { Some(1) } }
        }
        Told::Held { attempt, is_held } => Told::Held { attempt, is_held: !is_held },
        Told::Rescued { attempt, beat, state } => {
            let state = if state.is_some() { None } else { Some(JobState::Queued) };
            Told::Rescued { attempt, beat, state }
        }
        Told::Cancelled(Answer::Done, _) => Told::Cancelled(Answer::Unknown, None),
        Told::Cancelled(..) => Told::Cancelled(Answer::Done, None),
        Told::Resumed(Answer::Done, _) => Told::Resumed(Answer::Unknown, None),
        Told::Resumed(..) => Told::Resumed(Answer::Done, None),
        Told::Deleted(Answer::Done, _) => Told::Deleted(Answer::Unknown, None),
        Told::Deleted(..) => Told::Deleted(Answer::Done, None),
        Told::Seen(seen) => Told::Seen(seen.map_or(Some((JobState::Queued, 0, 0)), |_| None)),
        Told::Looked(looked) => Told::Looked(looked.map_or(Some((1, 1)), |_| None)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_forged_answer_to_one_thread_is_found_wherever_it_is() {
    for (id, events) in record(Rows::sqlite, 1, 300, 31, true).await.histories() {
        assert!(linearize(&events).is_ok(), "{id}");
        // A job does not exist before its insertion, just as after its deletion.
        let inserted = events.iter().find(|event| event.told == Told::Inserted).expect("an insertion").begin;
        for place in (0..events.len()).filter(|&place| events[place].begin >= inserted) {
            let mut events = events.clone();
            events[place].told = forged(events[place].told);
            assert!(linearize(&events).is_err(), "{id}: {:?}", events[place]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_doubled_claim_and_a_lost_write_are_found_among_many_threads() {
    let (mut doubled, mut lost) = (0, 0);
    for events in record(Rows::sqlite, 4, 150, 41, true).await.histories().values() {
        assert!(linearize(events).is_ok());
        for (place, event) in events.iter().enumerate() {
            let is_read = |step: u64| {
                let shows = |other: &Event| match other.told {
                    Told::Seen(Some((.., seen))) => seen == step,
                    Told::Claimed { step: seen, .. } => seen == step,
                    _ => false,
                };
                events.iter().any(shows)
            };
            match event.told {
                Told::Claimed { .. } => {
                    let twice = [&events[..], &[*event]].concat();
                    assert!(linearize(&twice).is_err(), "{event:?}");
                    doubled += 1;
                }
                Told::Recorded { step, is_taken: true, .. } if is_read(step) => {
                    let without = [&events[..place], &events[place + 1..]].concat();
                    assert!(linearize(&without).is_err(), "{event:?}");
                    lost += 1;
                }
                _ => {}
            }
        }
    }
    assert!(doubled > 0 && lost > 0, "{doubled} claims, {lost} writes");
}

#[test]
fn a_read_during_a_write_may_come_before_or_after_it_and_a_later_read_only_after() {
    let event = |begin, end, told| Event { begin, end, told };
    let seen = |state, attempt| Told::Seen(Some((state, attempt, 0)));
    let claimed = event(2, 7, Told::Claimed { attempt: 1, step: 0 });
    let inserted = event(0, 1, Told::Inserted);
    for (begin, end, told, is_explained) in [
        (3, 4, seen(JobState::Queued, 0), true),
        (3, 4, seen(JobState::Running, 1), true),
        (8, 9, seen(JobState::Running, 1), true),
        (8, 9, seen(JobState::Queued, 0), false),
    ] {
        let events = [inserted, claimed, event(begin, end, told)];
        assert_eq!(linearize(&events).is_ok(), is_explained, "{told:?} at {begin}");
    }
    // Two successive reads overlap the claim. The second one can't see an older state than the first.
    let back =
        [inserted, claimed, event(3, 4, seen(JobState::Running, 1)), event(5, 6, seen(JobState::Queued, 0))];
    assert!(linearize(&back).is_err());
}

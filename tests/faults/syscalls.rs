//! The server dies, or an operation fails, at each durable operation of a short scenario.

use std::time::Duration;

use crate::checker::{self, History, Law, Violation};
use crate::random::Random;
use crate::scenario::{PATIENT, STOPPED_WITHIN, aftermath, live, lose_an_accepted_job};
use crate::shim::{CREATES, EIO, ENOSPC, Failure, Number, Place, REMOVES, SYNCS, Shim, WRITES, scratch};

const SEED: u64 = 5;

/// The result of one scenario.
struct Life {
    /// Operations until its end.
    operations: i64,
    /// How many operations were refused.
    refused: i64,
    died: bool,
    violations: Vec<Violation>,
}

/// Runs the scenario on an empty folder with a fault at operation `at`. Afterwards starts one server for each
/// number in `again`, which dies at that operation. Then checks the folder.
fn life(at: i64, failure: Option<Failure>, again: &[i64]) -> Life {
    let (folder, aside) = (scratch(), scratch());
    let shim = Shim::new(folder.path(), aside.path());
    let data = shim.folder.join("data");
    match failure {
        None => shim.set(Number::DieAt, at),
        Some(failure) => {
            shim.set(Number::From, at);
            shim.fail(failure);
        }
    }
    let history = History::new();
    let serve = || shim.serve(&data).args(&PATIENT).try_start();
    let died = serve().map_or(true, |mut server| {
        // The history has what the server promised until then.
        let _ = live(&server.client(), &history);
        server.signal("TERM");
        server.wait(STOPPED_WITHIN).is_none_or(|status| !status.success())
    });
    let operations = shim.get(Number::Operations);
    for at in again {
        shim.set(Number::Operations, 0);
        shim.set(Number::DieAt, *at);
        if let Ok(mut server) = serve() {
            // A server that never reaches the operation has nothing left to do.
            server.wait(Duration::from_secs(2));
        }
    }
    let violations = aftermath(&data, &history);
    Life { operations, refused: shim.get(Number::Refused), died, violations }
}

/// Returns how many operations a scenario without a fault performs.
fn operations() -> i64 {
    let life = life(0, None, &[]);
    assert!(life.violations.is_empty() && !life.died, "{}", checker::in_words(&life.violations));
    life.operations
}

fn assert_sound(life: &Life, words: &str) {
    let violations = &life.violations;
    assert!(violations.is_empty(), "{words}:{}", checker::in_words(violations));
}

fn single_shots() -> Vec<Failure> {
    let shot = |error, classes| Failure { error, classes, place: Place::Anywhere, shots: 1 };
    vec![shot(EIO, SYNCS), shot(EIO, WRITES), shot(ENOSPC, WRITES | CREATES), shot(EIO, CREATES | REMOVES)]
}

#[test]
fn a_death_at_some_operations_loses_nothing() {
    let all = operations();
    let mut random = Random::new(SEED);
    for part in 0..10 {
        let at = 1 + all * part / 10 + random.below(all as usize / 10) as i64;
        assert_sound(&life(at, None, &[]), &format!("seed {SEED}: died at operation {at} of {all}"));
    }
}

#[test]
fn a_refusal_of_some_operations_loses_nothing() {
    let all = operations();
    let mut random = Random::new(SEED);
    for failure in single_shots() {
        let at = 1 + random.below(all as usize) as i64;
        let words = format!("seed {SEED}: {failure:?} from operation {at} of {all}");
        assert_sound(&life(at, Some(failure), &[]), &words);
    }
}

/// The known-bad twin: a death loses rows that the disk acknowledged.
#[test]
fn a_death_that_loses_acknowledged_writes_is_found() {
    let folder = scratch();
    let history = History::new();
    lose_an_accepted_job(folder.path(), &history);
    let violations = aftermath(folder.path(), &history);
    assert!(checker::count(&violations, Law::Lost) > 0, "found: {}", checker::in_words(&violations));
}

#[test]
#[ignore = "kills a server at each durable operation"]
fn a_death_at_each_operation_loses_nothing() {
    let all = operations();
    let (mut at, mut deaths) = (1, 0);
    // The number of operations varies with timing. The loop ends at the first operation that no scenario
    // reaches.
    loop {
        let life = life(at, None, &[]);
        assert_sound(&life, &format!("died at operation {at} of {all}"));
        deaths += i32::from(life.died);
        if !life.died && at > all {
            break;
        }
        at += 1;
    }
    println!("figures: syscalls_deaths operations={all} deaths={deaths} bad=0");
}

#[test]
#[ignore = "kills servers two or three times in each of 60 lives"]
fn repeated_deaths_lose_nothing() {
    let all = operations() as usize;
    let mut random = Random::new(SEED);
    for number in 0..60 {
        let at = 1 + random.below(all) as i64;
        let again: Vec<i64> = (0..1 + random.below(2)).map(|_| 1 + random.below(60) as i64).collect();
        let words = format!("seed {SEED}, number {number}: died at operation {at}, then at {again:?}");
        assert_sound(&life(at, None, &again), &words);
    }
    println!("figures: syscalls_deaths_again lives=60 seed={SEED} bad=0");
}

#[test]
#[ignore = "refuses every fourth durable operation, with each error"]
fn a_refusal_of_each_operation_loses_nothing() {
    let all = operations();
    let (mut lives, mut refused) = (0, 0);
    for failure in single_shots() {
        for at in (1..=all).step_by(4) {
            let life = life(at, Some(failure), &[]);
            assert_sound(&life, &format!("{failure:?} from operation {at} of {all}"));
            (lives, refused) = (lives + 1, refused + life.refused);
        }
    }
    println!("figures: syscalls_refusals lives={lives} refused={refused} bad=0");
}

//! Servers are killed with `kill -9` at random moments while clients send every kind of request.

mod clients;
mod killing;

use std::collections::BTreeMap;

use self::killing::{Storm, Told};
use crate::checker::{Law, count, in_words};

/// Adds the counts of a round.
fn add(sum: &mut BTreeMap<&'static str, u64>, told: &Told) {
    for (name, value) in &told.tally {
        *sum.entry(name).or_default() += value;
    }
}

fn figures(name: &str, sum: &BTreeMap<&'static str, u64>) {
    let figures: String = sum.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    println!("figures: {name}{figures}");
}

/// Asserts that nothing was lost, duplicated, changed or unexplained.
fn assert_sound(seed: u64, told: &Told) {
    assert!(
        told.violations.is_empty() && told.strange.is_empty(),
        "seed {seed}, folder {}:{}\nstrange answers: {:#?}",
        told.kept.display(),
        in_words(&told.violations),
        told.strange,
    );
}

/// Runs `rounds` storms, each on a new folder.
fn rounds(name: &str, storm: &Storm, rounds: u64, first_seed: u64) {
    let mut sum = BTreeMap::new();
    for seed in first_seed..first_seed + rounds {
        let told = storm.run(seed);
        add(&mut sum, &told);
        figures(&format!("{name} (so far)"), &sum);
        assert_sound(seed, &told);
    }
    figures(name, &sum);
}

#[test]
fn nothing_is_lost_when_a_server_is_killed() {
    let storm = Storm { kills: 15, ..Storm::default() };
    rounds("storm", &storm, 1, 1);
}

#[test]
fn nothing_is_lost_when_one_of_two_servers_is_killed() {
    let storm = Storm { kills: 5, servers: 2, ..Storm::default() };
    rounds("storm_two_servers", &storm, 1, 2);
}

/// The known-bad client: it posts jobs twice with different keys. If this were not found, the storm would
/// prove nothing about keys.
#[test]
fn a_client_that_forgets_its_keys_is_found() {
    let told = Storm { kills: 5, forgets_keys: true, ..Storm::default() }.run(3);
    let doubled = count(&told.violations, Law::Doubled) + count(&told.violations, Law::Key);
    assert!(doubled > 0, "seed 3: no double among {:?}{}", told.tally, in_words(&told.violations));
}

/// The known-bad disk: the folder is replaced by an older copy. If this were not found, the storm would prove
/// nothing about loss.
#[test]
fn a_folder_replaced_by_an_older_copy_is_found() {
    let told = Storm { kills: 6, goes_back: true, ..Storm::default() }.run(4);
    let lost = count(&told.violations, Law::Lost);
    assert!(lost > 0, "seed 4: nothing lost among {:?}{}", told.tally, in_words(&told.violations));
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

#[test]
#[ignore = "kills a server 1,000 times, or STORM_KILLS"]
fn nothing_is_lost_in_a_thousand_kills() {
    let rounds_wanted = from_env("STORM_KILLS", 1_000).div_ceil(100);
    rounds(
        "storm_long",
        &Storm { kills: 100, ..Storm::default() },
        rounds_wanted,
        from_env("STORM_SEED", 1_000),
    );
}

#[test]
#[ignore = "kills two servers 200 times"]
fn nothing_is_lost_in_two_hundred_kills_of_two_servers() {
    let storm = Storm { kills: 50, servers: 2, ..Storm::default() };
    rounds("storm_two_servers_long", &storm, 4, from_env("STORM_SEED", 2_000));
}

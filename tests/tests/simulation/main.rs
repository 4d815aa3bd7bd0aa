//! Deterministic simulation of a fleet: simulated time, a simulated network, and injected faults drawn from a seed. The
//! invariants must hold after every step, and a seed must reproduce its history.
//!
//! `LONGHAND_SEEDS=2000` tries more; `LONGHAND_SEED=17` tries one and prints its history.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod clock;
mod event_counts;
mod fault_schedule;
mod history;
mod invariant_checker;
mod mutation;
mod network;
mod process;
mod sim;
mod step;
mod store_proxy;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};

use longhand_proto::DocumentId;

use event_counts::EventCounts;
use mutation::{MUTATIONS, Mutation};
use sim::{Outcome, Scenario, simulate};

/// Seeds that are tried unless LONGHAND_SEEDS says otherwise.
const SEEDS: u64 = 200;

/// Texts of the fault-free run.
static TEXTS: LazyLock<BTreeMap<DocumentId, String>> = LazyLock::new(|| {
    let outcome = simulate(Scenario { seed: 0, mutation: Mutation::None, fault_free: true }, None);
    assert_eq!(outcome.violation, None, "{}", outcome.history.tail(30));
    outcome.texts
});

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("invalid {variable} {text:?}: expected a number")))
}

fn scenario(seed: u64) -> Scenario {
    Scenario { seed, mutation: Mutation::None, fault_free: false }
}

/// Simulates a seed twice; returns what is wrong with it.
fn check_seed(seed: u64) -> Result<EventCounts, String> {
    let (first, second) = (simulate(scenario(seed), Some(&TEXTS)), simulate(scenario(seed), Some(&TEXTS)));
    if let Some(violation) = first.violation {
        return Err(format!("{violation}\n  {}", first.history.tail(12)));
    }
    if first.history.hash() != second.history.hash() {
        return Err(format!("two runs have different histories: {}", first.history.difference(&second.history)));
    }
    Ok(first.counts)
}

/// Calls `each` with all numbers below `end`, on all cores. Each simulation runs on one thread.
fn in_parallel(end: u64, each: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < end) {
                    each(number);
                }
            });
        }
    });
}

#[test]
fn invariants_hold_under_faults_and_a_seed_reproduces_its_history() {
    LazyLock::force(&TEXTS);
    if let Some(seed) = number("LONGHAND_SEED") {
        let Outcome { history, counts, violation, .. } = simulate(scenario(seed), Some(&TEXTS));
        println!("{}\n{counts:?}", history.lines().join("\n"));
        assert_eq!(violation, None);
        check_seed(seed).unwrap();
        return;
    }
    let seeds = number("LONGHAND_SEEDS").unwrap_or(SEEDS);
    let (sum, failed) = (Mutex::new(EventCounts::default()), Mutex::new(BTreeMap::new()));
    in_parallel(seeds, |seed| match check_seed(seed) {
        Ok(counts) => sum.lock().unwrap().add(&counts),
        Err(why) => drop(failed.lock().unwrap().insert(seed, why)),
    });
    let (sum, failed) = (sum.into_inner().unwrap(), failed.into_inner().unwrap());
    println!("{seeds} seeds, each run twice: {sum:?}");
    if let Some((seed, why)) = failed.first_key_value() {
        let all: Vec<_> = failed.keys().collect();
        panic!(
            "{} of {seeds} seeds failed: {all:?}\nseed {seed}: {why}\nrun it alone with\n  LONGHAND_SEED={seed} cargo test \
             -p longhand-tests --test simulation invariants_hold -- --nocapture",
            failed.len()
        );
    }
    // A simulation without faults proves nothing.
    let EventCounts {
        repeated,
        stale,
        stale_renewals,
        appended,
        swept,
        errors,
        released,
        resumed,
        swapped,
        cancelling,
        compared,
        ..
    } = sum;
    for (what, often) in [
        ("commits repeated", repeated),
        ("stale commits", stale),
        ("stale renewals", stale_renewals),
        ("tokens appended", appended),
        ("leases swept", swept),
        ("errors", errors),
        ("releases", released),
        ("sections resumed", resumed),
        ("operator changes", swapped),
        ("results of a cancelled run", cancelling),
        ("texts compared", compared),
    ] {
        assert!(often >= seeds / 40, "{what}: only {often} in {seeds} seeds; there are too few faults");
    }
}

/// A mutant survives if no seed detects it.
#[test]
fn a_store_that_breaks_one_rule_of_its_contract_is_detected() {
    in_parallel(MUTATIONS.len() as u64, |number| {
        let (mutation, message) = MUTATIONS[number as usize];
        let caught = (0..SEEDS).find_map(|seed| {
            let violation = simulate(Scenario { seed, mutation, fault_free: false }, None).violation?;
            Some((seed, violation))
        });
        let Some((seed, violation)) = caught else { panic!("{mutation:?} survived {SEEDS} seeds") };
        assert!(violation.contains(message), "{mutation:?} was detected for another reason: {violation}");
        println!("{mutation:?} was detected by seed {seed}: {violation}");
    });
}

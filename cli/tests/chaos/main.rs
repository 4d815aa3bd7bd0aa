//! Fault injection: real processes are killed and stopped at random while a fleet writes 64 documents of 10 sections: two
//! coordinators, four workers with the mock engine, one redis-server with an append-only file.
//!
//! Invariants, whichever process is killed: every document ends, none is in the corpus twice, and no acknowledged section
//! is generated again, unless Redis itself was rolled back on purpose. A short version runs with the tests; `make chaos`
//! runs for five minutes and rolls Redis back from time to time. A seed determines the faults, but not their exact times.
#![allow(clippy::print_stdout, reason = "the faults are part of the result")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod durability_checker;
mod fleet;
mod process;
#[allow(dead_code, reason = "the tests beside this one use the rest of it")]
#[path = "../e2e/program.rs"]
mod program;

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use fleet::{Fleet, Plan};

/// Duration of the short version, which takes about as long without faults.
const SHORT: u64 = 12;
const SEED: u64 = 7;

fn main() {
    if let Some(answer) = test_filter(std::env::args().skip(1)) {
        println!("{answer}");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let seconds = number("LONGHAND_CHAOS_SECONDS");
    let seed = number("LONGHAND_CHAOS_SEED").unwrap_or(SEED);
    let plan = Plan { duration: Duration::from_secs(seconds.unwrap_or(SHORT)), rollback: seconds.is_some() };
    println!("chaos for {} s with seed {seed}", plan.duration.as_secs());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut fleet = Fleet::start(&plan);
    runtime.block_on(fleet.run(&plan, StdRng::seed_from_u64(seed)));
    runtime.block_on(fleet.verify());
}

/// Handles the arguments of `cargo test`, which select tests by name. This program is a single test.
fn test_filter(arguments: impl Iterator<Item = String>) -> Option<&'static str> {
    let words: Vec<String> = arguments.collect();
    if words.iter().any(|word| word == "--list") {
        return Some("chaos: test");
    }
    let chosen = words.iter().filter(|word| !word.starts_with('-'));
    let passes = chosen.clone().count() == 0 || chosen.clone().any(|word| "chaos".contains(word.as_str()));
    (!passes).then_some("chaos: filtered out")
}

//! Real processes are killed and stopped at random while a fleet writes 64 documents of 10 sections: two coordinators,
//! four workers with the engine double, one redis-server with an append-only file.
//!
//! What must hold, whatever is killed: every document ends, none stands in the corpus twice, and no section that was
//! acknowledged is generated again, unless Redis itself was set back on purpose. A short version runs with the tests;
//! `make chaos` runs five minutes and sets Redis back now and then. The same seed chooses the same blows; the moments
//! at which they fall are the machine's.
#![allow(clippy::print_stdout, reason = "what the chaos did is its result")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod actor;
mod ledger;
#[allow(dead_code, reason = "the tests beside this one use the rest of it")]
#[path = "../e2e/program.rs"]
mod program;
mod stage;

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use stage::{Plan, Stage};

/// The version that runs with the tests: about as long without any blow.
const SHORT: u64 = 12;
const SEED: u64 = 7;

fn main() {
    if let Some(answer) = harness(std::env::args().skip(1)) {
        println!("{answer}");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let seconds = number("LONGHAND_CHAOS_SECONDS");
    let seed = number("LONGHAND_CHAOS_SEED").unwrap_or(SEED);
    let plan = Plan { lasts: Duration::from_secs(seconds.unwrap_or(SHORT)), set_back: seconds.is_some() };
    println!("chaos for {} s with seed {seed}", plan.lasts.as_secs());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut stage = Stage::set(&plan);
    runtime.block_on(stage.play(&plan, StdRng::seed_from_u64(seed)));
    runtime.block_on(stage.settle());
}

/// `cargo test` gives every test program the words that choose among tests. This one is a single test.
fn harness(arguments: impl Iterator<Item = String>) -> Option<&'static str> {
    let words: Vec<String> = arguments.collect();
    if words.iter().any(|word| word == "--list") {
        return Some("chaos: test");
    }
    let chosen = words.iter().filter(|word| !word.starts_with('-'));
    let passes = chosen.clone().count() == 0 || chosen.clone().any(|word| "chaos".contains(word.as_str()));
    (!passes).then_some("chaos was not asked for")
}

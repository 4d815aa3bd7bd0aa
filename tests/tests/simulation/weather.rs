//! What goes wrong in a simulation, and when: drawn from its seed before it begins.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::world::{COORDINATORS, HOSTS, WORKERS};

/// Faults begin within this time: longer than the documents take when nothing happens.
const SEASON: Duration = Duration::from_secs(45);
const STALL: Duration = Duration::from_secs(25);

/// A host, by its number.
pub(crate) type Host = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// As by kill -9; started again when it is over.
    Crash(Host),
    /// A worker gets SIGTERM. (A coordinator that drains asks tokio's own dice who ends first: no seed owns those.)
    Stop(Host),
    /// As by SIGSTOP, with SIGCONT when it is over.
    Freeze(Host),
    /// A worker's device is lost.
    EngineDies(Host),
    /// What is sent between the two is lost.
    Cut(Host, Host),
    /// What the first sends to the second is lost: requests arrive and replies do not, or the other way round.
    CutOneWay(Host, Host),
    /// What is sent between the two comes when it is over.
    Delay(Host, Host),
    /// A coordinator's calls to its store lose requests and replies.
    StoreShaky(Host),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Spell {
    pub(crate) at: Duration,
    pub(crate) until: Duration,
    pub(crate) fault: Fault,
}

pub(crate) fn forecast(seed: u64) -> Vec<Spell> {
    let mut random = StdRng::seed_from_u64(seed);
    let spells = random.random_range(4..=12);
    let mut spells: Vec<Spell> = (0..spells).map(|_| spell(&mut random)).collect();
    spells.sort_by_key(|spell| spell.at);
    spells
}

fn spell(random: &mut StdRng) -> Spell {
    let at = SEASON.mul_f64(random.random());
    let mut lasts = Duration::from_millis(random.random_range(100..15_000));
    let coordinator = random.random_range(0..COORDINATORS);
    let worker = COORDINATORS + random.random_range(0..WORKERS);
    let fault = match random.random_range(0..16) {
        0..3 => Fault::Crash(random.random_range(0..HOSTS)),
        3 => Fault::Stop(worker),
        4..7 => {
            lasts = STALL;
            Fault::Freeze(random.random_range(0..HOSTS))
        }
        7 => Fault::EngineDies(worker),
        8..10 => Fault::Cut(coordinator, worker),
        10 => Fault::CutOneWay(coordinator, worker),
        11 => Fault::CutOneWay(worker, coordinator),
        12 => {
            lasts = STALL;
            Fault::Delay(coordinator, worker)
        }
        13 => Fault::Delay(coordinator, worker),
        _ => Fault::StoreShaky(coordinator),
    };
    Spell { at, until: at + lasts, fault }
}

//! The faults of a simulation and their times, drawn from its seed before it starts.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::sim::{COORDINATORS, HOSTS, WORKERS};

/// Faults begin within this time: longer than a fault-free run takes.
const FAULTS_WITHIN: Duration = Duration::from_secs(45);
/// Duration of freezes and long delays: longer than a lease.
const LONG: Duration = Duration::from_secs(25);

/// Index of a host: coordinators first, then workers.
pub(crate) type Host = usize;

/// One kind of fault, with the hosts that it affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; restarted at the end of the fault.
    Crash(Host),
    /// SIGTERM to a worker. (Not to a coordinator: the order in which its tasks end depends on tokio, not on the seed.)
    Stop(Host),
    /// SIGSTOP, with SIGCONT at the end.
    Freeze(Host),
    /// The device of a worker is lost.
    EngineDies(Host),
    /// Messages between the two are lost.
    Cut(Host, Host),
    /// Messages from the first to the second are lost: either requests or replies.
    CutOneWay(Host, Host),
    /// Messages between the two arrive at the end of the fault.
    Delay(Host, Host),
    /// Requests and replies between a coordinator and its store are lost.
    StoreUnreliable(Host),
}

/// A fault with its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScheduledFault {
    pub(crate) at: Duration,
    pub(crate) until: Duration,
    pub(crate) fault: Fault,
}

/// The schedule of a seed, by time.
pub(crate) fn draw(seed: u64) -> Vec<ScheduledFault> {
    let mut random = StdRng::seed_from_u64(seed);
    let number = random.random_range(4..=12);
    let mut scheduled: Vec<ScheduledFault> = (0..number).map(|_| draw_fault(&mut random)).collect();
    scheduled.sort_by_key(|fault| fault.at);
    scheduled
}

fn draw_fault(random: &mut StdRng) -> ScheduledFault {
    let at = FAULTS_WITHIN.mul_f64(random.random());
    let mut duration = Duration::from_millis(random.random_range(100..15_000));
    let coordinator = random.random_range(0..COORDINATORS);
    let worker = COORDINATORS + random.random_range(0..WORKERS);
    let fault = match random.random_range(0..16) {
        0..3 => Fault::Crash(random.random_range(0..HOSTS)),
        3 => Fault::Stop(worker),
        4..7 => {
            duration = LONG;
            Fault::Freeze(random.random_range(0..HOSTS))
        }
        7 => Fault::EngineDies(worker),
        8..10 => Fault::Cut(coordinator, worker),
        10 => Fault::CutOneWay(coordinator, worker),
        11 => Fault::CutOneWay(worker, coordinator),
        12 => {
            duration = LONG;
            Fault::Delay(coordinator, worker)
        }
        13 => Fault::Delay(coordinator, worker),
        _ => Fault::StoreUnreliable(coordinator),
    };
    ScheduledFault { at, until: at + duration, fault }
}

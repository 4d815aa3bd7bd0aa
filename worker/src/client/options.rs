//! How a worker behaves towards its coordinator.

use std::time::Duration;

use longhand_proto::WorkerId;

use super::cost::Price;

/// How a worker behaves towards its coordinator.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// This incarnation: a restarted process has another id.
    pub worker: WorkerId,
    /// Documents written at the same time; none takes what the engine offers.
    pub slots: Option<u32>,
    /// Longest time between two checkpoints of a task: what a killed worker may lose. Leases are renewed this often
    /// too, or every third of the lease if that is sooner.
    pub checkpoint_every: Duration,
    /// Longest wait of one `Lease` call for work.
    pub wait: Duration,
    /// Time allowed for the reply to any other call. A call that times out is retried: its outcome is unknown.
    pub call_timeout: Duration,
    /// Time without any reply after which the worker stops retrying and ends.
    pub give_up: Duration,
    /// Time allowed for finishing calls and releasing leases when asked to stop.
    pub grace: Duration,
    /// What this worker costs; nothing by default.
    pub price: Price,
    /// Time without a document after which the worker ends by itself; none waits for ever.
    pub exit_idle: Option<Duration>,
}

impl WorkerOptions {
    /// The defaults, for this incarnation.
    pub fn new(worker: WorkerId) -> Self {
        Self {
            worker,
            slots: None,
            checkpoint_every: Duration::from_secs(5),
            wait: Duration::from_secs(20),
            call_timeout: Duration::from_secs(10),
            give_up: Duration::from_secs(600),
            grace: Duration::from_secs(20),
            price: Price::default(),
            exit_idle: None,
        }
    }
}

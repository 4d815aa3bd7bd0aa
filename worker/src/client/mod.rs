//! The pull loop: asks the coordinator for documents, has the engine write them, hands the texts in.
//!
//! One loop owns the state. `Desk::next` awaits, `Desk::apply` changes it;
//! calls to the coordinator are futures that the loop holds, so nothing is shared and nothing is locked.
//!
//! ```text
//!            Lease                    Done, Failed
//! (ready) ----------> writing --------------------------> completing
//!                       | ^                                   |
//!                       | +------- recorded, with next -------+---> slot free
//!                       +--- lost: the generation is dropped -----> slot free
//!                       +--- drain: Release with checkpoint ------> slot free
//! ```

mod desk;
pub mod link;
mod metrics;
mod pulse;
mod remote;

use std::sync::Arc;
use std::time::Duration;

use longhand_proto::WorkerId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use desk::{Desk, Flow};
pub use link::{Credentials, Link, endpoint};
pub use metrics::{Metrics, Status};
use remote::Remote;

/// How a worker behaves towards its coordinator.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    pub worker: WorkerId,
    /// Documents written at the same time; none takes what the engine offers.
    pub slots: Option<u32>,
    /// Longest time between two checkpoints of a task: what a killed worker may lose. Leases are renewed this often
    /// too, or every third of the lease if that is sooner.
    pub checkpoint_every: Duration,
    /// Longest wait of one request for work.
    pub wait: Duration,
    /// Time allowed for the answer to any other call. A call that runs out of it is repeated: its outcome is unknown.
    pub call_timeout: Duration,
    /// Time without any answer after which a call is given up, and with it the worker.
    pub give_up: Duration,
    /// Time allowed for handing work back when asked to stop.
    pub grace: Duration,
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
            exit_idle: None,
        }
    }
}

/// What a worker did in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerReport {
    /// Tasks whose text was recorded.
    pub completed: u64,
    /// Tasks whose failure was recorded.
    pub failed: u64,
    /// Leases given back unharmed.
    pub released: u64,
    /// Leases that the coordinator took away, or whose result it refused as stale: the text was thrown away.
    pub lost: u64,
    /// Tasks begun as the continuation of the one before on the same slot.
    pub continued: u64,
}

/// Why a worker ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the coordinator refused this worker: {0}")]
    Refused(String),
    #[error("no answer from the coordinator for {} s: {last}; check its address and that it runs", after.as_secs())]
    Unreachable { after: Duration, last: String },
    #[error("the engine ended: {0}")]
    EngineDead(String),
}

/// A worker that is ready to run.
#[derive(Debug)]
pub struct Worker {
    remote: Remote,
    engine: Arc<dyn Engine>,
    options: WorkerOptions,
    status: watch::Sender<Status>,
}

impl Worker {
    pub fn new(link: Link, engine: Arc<dyn Engine>, options: WorkerOptions) -> Self {
        let status = watch::Sender::new(Status::default());
        Self { remote: Remote::new(link, engine.model(), &options), engine, options, status }
    }

    /// Its numbers, for as long as it lives and after.
    pub fn metrics(&self) -> Metrics {
        Metrics::new(Arc::clone(&self.engine), self.status.subscribe())
    }

    /// Works until `shutdown` is cancelled, then hands its work back inside the grace time. Dropping the future ends
    /// it at once: the leases run out, and other workers go on from the last checkpoints.
    ///
    /// # Errors
    /// Ends early if the coordinator refuses the worker or is gone for long, or if the engine dies; leases are then
    /// given back if that can be done quickly.
    pub async fn run(self, shutdown: CancellationToken) -> Result<WorkerReport, WorkerError> {
        let Self { mut remote, engine, options, status } = self;
        let hello = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(WorkerReport::default()),
            hello = remote.hello(engine.model()) => hello?,
        };
        let lease = Duration::from_millis(hello.lease_ms);
        tracing::info!(worker = %options.worker, ?lease, "connected to coordinator {}", hello.version);
        remote.hurry(lease);
        let mut desk = Desk::new(remote, Arc::clone(&engine), options, lease);
        let mut dead = engine.dead();
        loop {
            let input = desk.next(&shutdown, &mut dead).await;
            let flow = desk.apply(input)?;
            status.send_replace(desk.status());
            match flow {
                Flow::Go => {}
                Flow::End(report) => return Ok(report),
                Flow::Dead(reason) => {
                    desk.abandon().await;
                    return Err(WorkerError::EngineDead(reason));
                }
            }
        }
    }
}

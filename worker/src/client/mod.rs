//! The pull loop: leases documents from the coordinator, has the engine write them, and sends the results back.
//!
//! One loop owns the state. `WorkerLoop::next` awaits, `WorkerLoop::apply` changes the state. Calls to the coordinator
//! are futures that the loop holds, so nothing is shared and nothing is locked.
//!
//! ```text
//!            Lease                    Done, Failed
//! (ready) ----------> writing --------------------------> completing
//!                       | ^                                   |
//!                       | +------- recorded, with next -------+---> slot free
//!                       +--- lost: the generation is dropped -----> slot free
//!                       +--- drain: Release with checkpoint ------> slot free
//! ```

mod active_lease;
mod coordinator_client;
mod cost;
mod error;
pub mod failover_channel;
mod heartbeat;
mod metrics;
mod options;
mod report;
mod worker;
mod worker_loop;

pub use cost::Price;
pub use error::WorkerError;
pub use failover_channel::{Credentials, FailoverChannel, endpoint};
pub use metrics::Metrics;
pub use options::WorkerOptions;
pub use report::{WorkerReport, WorkerSnapshot};
pub use worker::{Waits, Worker};

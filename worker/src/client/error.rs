//! Why a worker ended before it was asked to.

use std::time::Duration;

use super::failover_channel::CallError;

/// Why a worker ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The coordinator rejected a call; a retry cannot help.
    #[error("the coordinator rejected this worker: {0}")]
    Refused(String),
    /// No replica replied for longer than `WorkerOptions::give_up`.
    #[error("no reply from the coordinator for {} s: {last}; check its address and that it is running", after.as_secs())]
    Unreachable { after: Duration, last: String },
    /// The engine can decode no more.
    #[error("the engine stopped: {0}")]
    EngineDead(String),
}

impl WorkerError {
    /// The end of a worker whose call failed after retries for `after`.
    pub(super) fn from_call(error: CallError, after: Duration) -> Self {
        match error {
            CallError::Refused(status) => Self::Refused(status.message().to_owned()),
            CallError::Unanswered(status) => Self::Unreachable { after, last: status.message().to_owned() },
        }
    }
}

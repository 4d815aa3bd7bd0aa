//! A lease that this worker holds, and the generation that writes its task.

use futures::future::AbortHandle;
use longhand_proto::trace::TaskRef;
use tokio::time::Instant;

/// A log line about a held lease, with all its names.
macro_rules! log_lease {
    ($level:ident, $active:expr, $lease:expr, $text:literal $(, $field:ident = $value:expr)*) => {{
        let ::longhand_proto::trace::TaskRef { run, document, section, attempt } = &$active.place;
        tracing::event!(
            tracing::Level::$level, %run, %document, section, attempt,
            trace_id = ::longhand_proto::trace::id_of(&$active.traceparent), lease = %$lease, $($field = $value,)* $text
        );
    }};
}
pub(super) use log_lease;

/// A lease that this worker holds.
#[derive(Debug)]
pub(super) struct ActiveLease {
    /// All tokens of the unfinished task, those resumed from a checkpoint first.
    pub(super) tokens: Vec<u32>,
    /// How many of them the coordinator has.
    pub(super) acked: usize,
    /// When it got them, or when the document was leased.
    pub(super) saved: Instant,
    /// None once its result or its release has been sent.
    pub(super) generation: Option<AbortOnDrop>,
    /// Names the task in logs.
    pub(super) place: TaskRef,
    /// Trace context of the attempt; empty if its document is not traced.
    pub(super) traceparent: String,
}

impl ActiveLease {
    /// The whole checkpoint, if it holds more than the coordinator has.
    pub(super) fn unsaved(&self) -> Option<Vec<u32>> {
        (self.tokens.len() > self.acked).then(|| self.tokens.clone())
    }
}

/// Cancels a generation when it is dropped.
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

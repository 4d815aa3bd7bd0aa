//! A lease that this worker holds, and the generation that writes its task.

use futures::future::AbortHandle;
use longhand_proto::task::Checkpoint;
use longhand_proto::trace::TaskRef;
use tokio::time::Instant;

use crate::engine::Delta;

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
    /// The unfinished text, beginning with what was resumed from a checkpoint.
    pub(super) written: Checkpoint,
    /// Grows with each change of the text: tokens that were added, also those taken back since, and backtracks.
    pub(super) progress: u64,
    /// The progress that the coordinator has.
    pub(super) acked: u64,
    /// When it got them, or when the document was leased.
    pub(super) saved: Instant,
    /// None once its result or its release has been sent.
    pub(super) generation: Option<AbortOnDrop>,
    /// For [`CostMeter::end`](super::cost::CostMeter::end); none before its task begins and after it ended.
    pub(super) begun: Option<f64>,
    /// Names the task in logs.
    pub(super) place: TaskRef,
    /// Trace context of the attempt; empty if its document is not traced.
    pub(super) traceparent: String,
}

impl ActiveLease {
    /// The whole checkpoint, if it is not the one that the coordinator has.
    pub(super) fn unsaved(&self) -> Option<Checkpoint> {
        (self.progress > self.acked).then(|| self.written.clone())
    }

    /// Tokens of the unfinished text. An engine that gives text alone counts what it gave.
    pub(super) fn generated(&self) -> u32 {
        self.written.tokens.len().max(self.progress as usize) as u32
    }

    /// The engine has changed the text.
    pub(super) fn apply(&mut self, delta: Delta) {
        self.progress += (delta.tokens.len() + delta.backtracks.len()) as u64;
        delta.apply(&mut self.written);
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

#[cfg(test)]
mod tests {
    use longhand_proto::DocumentId;
    use longhand_proto::task::{Backtrack, BacktrackCause};

    use super::*;

    #[test]
    fn a_text_that_became_shorter_is_saved_again() {
        let place =
            TaskRef { run: "test".parse().unwrap(), document: DocumentId::from_bytes([1; 16]), section: 0, attempt: 1 };
        let mut active = ActiveLease {
            written: Checkpoint::default(),
            progress: 0,
            acked: 0,
            saved: Instant::now(),
            generation: None,
            begun: None,
            place,
            traceparent: String::new(),
        };
        assert_eq!(active.unsaved(), None, "nothing was written");
        active.apply(vec![1, 2, 3].into());
        active.acked = active.progress;
        assert_eq!(active.unsaved(), None, "the coordinator has it");
        let backtrack = Backtrack { position: 1, token: 2, discarded: 2, cause: BacktrackCause::Phrase };
        active.apply(Delta { backtracks: vec![backtrack], tokens: Vec::new() });
        let unsaved = active.unsaved().unwrap();
        assert_eq!((unsaved.tokens, unsaved.backtracks), (vec![1], vec![backtrack]));
        assert!(active.progress > active.acked, "progress only grows");
    }
}

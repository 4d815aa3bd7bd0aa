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
    /// How far the coordinator has the text.
    pub(super) acked: Position,
    /// When it got that, or when the document was leased.
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

/// A state of a text while it is written: between two backtracks a text only grows, so these numbers name what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub(super) progress: u64,
    pub(super) tokens: usize,
    pub(super) backtracks: usize,
}

/// What the coordinator has not of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsaved {
    /// It has the tokens before this index; 0 for the whole text.
    pub(super) from: u32,
    /// With the tokens from there on.
    pub(super) text: Checkpoint,
}

impl ActiveLease {
    /// What the coordinator has not. Tokens alone `append` to what it has, unless some of that was taken back.
    pub(super) fn unsaved(&self, append: bool) -> Option<Unsaved> {
        if self.progress <= self.acked.progress {
            return None;
        }
        let Checkpoint { tokens, tokenizer_hash, backtracks } = &self.written;
        let from = if append && self.acked.backtracks == backtracks.len() { self.acked.tokens } else { 0 };
        let tokens = tokens.get(from..)?.to_vec();
        let (tokenizer_hash, backtracks) = (tokenizer_hash.clone(), backtracks.clone());
        Some(Unsaved { from: from as u32, text: Checkpoint { tokens, tokenizer_hash, backtracks } })
    }

    /// The text as it is now.
    pub(super) fn position(&self) -> Position {
        let Checkpoint { tokens, backtracks, .. } = &self.written;
        Position { progress: self.progress, tokens: tokens.len(), backtracks: backtracks.len() }
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
    fn new_tokens_are_saved_alone_and_a_text_that_was_taken_back_is_saved_again() {
        let place =
            TaskRef { run: "test".parse().unwrap(), document: DocumentId::from_bytes([1; 16]), section: 0, attempt: 1 };
        let mut active = ActiveLease {
            written: Checkpoint::default(),
            progress: 0,
            acked: Position::default(),
            saved: Instant::now(),
            generation: None,
            begun: None,
            place,
            traceparent: String::new(),
        };
        assert_eq!(active.unsaved(true), None, "nothing was written");
        active.apply(vec![1, 2, 3].into());
        assert_eq!(active.unsaved(true).unwrap().from, 0, "the coordinator has nothing");
        active.acked = active.position();
        assert_eq!(active.unsaved(true), None, "the coordinator has it");
        active.apply(vec![4, 5].into());
        let Unsaved { from, text } = active.unsaved(true).unwrap();
        assert_eq!((from, text.tokens), (3, vec![4, 5]), "the new tokens alone");
        let Unsaved { from, text } = active.unsaved(false).unwrap();
        assert_eq!((from, text.tokens), (0, vec![1, 2, 3, 4, 5]), "of which an older coordinator could make nothing");
        active.acked = active.position();
        let backtrack = Backtrack { position: 1, token: 2, discarded: 4, cause: BacktrackCause::Phrase };
        active.apply(Delta { backtracks: vec![backtrack], tokens: vec![6, 7, 8, 9, 9] });
        let Unsaved { from, text } = active.unsaved(true).unwrap();
        assert_eq!((from, text.tokens, text.backtracks), (0, vec![1, 6, 7, 8, 9, 9], vec![backtrack]));
        assert!(active.progress > active.acked.progress, "progress only grows");
    }
}

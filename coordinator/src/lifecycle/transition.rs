//! What an attempt did, what the store is to do after it, and which moves of a document are legal.

use longhand_proto::WorkerId;
use longhand_proto::task::{Failure, ModelInfo, Output};

use crate::domain::document::{BAD_ROW, Progress, Rejection};
use crate::domain::state::State;

/// How an attempt ended, for one that its worker reported while it held the lease.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one is made for each result, and none is kept")]
pub enum Outcome {
    /// The engine wrote a text.
    Written { output: Output, worker: WorkerId, model: ModelInfo },
    /// The attempt ended without one.
    Error(Failure),
}

/// What the store is to do with the document after an [`Outcome`].
#[derive(Debug, Clone, PartialEq)]
#[must_use = "the store must be told"]
pub enum Transition {
    /// The document waits for its next task.
    NextTask,
    /// The same task again, after a back-off: see [`crate::domain::recipe::Retry::delay_ms`].
    Retry { errors: u32, failure: Failure },
    /// The same task again, at once: a rule rejected the text.
    SectionRejected(Rejection),
    /// At an end. The reason is the rule of a rejected document, the error class of a failed one, else empty.
    Ended { state: State, reason: String },
}

/// A requeue or cancel that the document's state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("document is {state}: {remedy}")]
pub struct NotAllowed {
    /// Name of the state, or `unfinished`.
    pub state: &'static str,
    /// Why not, and what to do instead.
    pub remedy: &'static str,
}

/// What of a document's progress decides where it may go next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Planning { repair: bool },
    Writing { sections: usize, tail_sections: usize },
    Summarising { sections: usize },
    Judging { sections: usize, votes: usize },
    Finished { sections: usize, votes: usize },
    Failed { bad_row: bool },
    Cancelled,
}

impl Position {
    pub(super) fn of(progress: &Progress) -> Self {
        match progress {
            Progress::Planning { repair } => Self::Planning { repair: repair.is_some() },
            Progress::Writing { sections, tail_sections, .. } => {
                Self::Writing { sections: sections.len(), tail_sections: tail_sections.len() }
            }
            Progress::Summarising { sections, .. } => Self::Summarising { sections: sections.len() },
            Progress::Judging { sections, votes, .. } => Self::Judging { sections: sections.len(), votes: votes.len() },
            Progress::Finished { sections, votes, .. } => {
                Self::Finished { sections: sections.len(), votes: votes.len() }
            }
            Progress::Failed { class, .. } => Self::Failed { bad_row: class == BAD_ROW },
            Progress::Cancelled { .. } => Self::Cancelled,
        }
    }
}

/// All legal moves, as drawn in the documentation of [`crate::lifecycle`].
pub(super) fn is_valid_transition(from: Position, to: Position) -> bool {
    use Position::{Cancelled, Failed, Finished, Judging, Planning, Summarising, Writing};
    match (from, to) {
        (Planning { repair: false }, Planning { repair: true }) => true,
        (Planning { .. }, Writing { sections, .. }) => sections == 0,
        (Writing { sections: old, .. }, Writing { sections: new, .. } | Summarising { sections: new }) => {
            new == old + 1
        }
        (Summarising { sections: old }, Summarising { sections: new } | Writing { sections: new, .. }) => new == old,
        (
            Writing { sections: old, tail_sections },
            Judging { sections: new, votes: 0 } | Finished { sections: new, votes: 0 },
        ) => new == old + 1 + tail_sections,
        (
            Judging { sections: old, votes },
            Judging { sections: new, votes: more } | Finished { sections: new, votes: more },
        ) => new == old && more > votes,
        (Planning { .. } | Writing { .. } | Summarising { .. } | Judging { .. }, Failed { .. } | Cancelled) => true,
        // Requeued. A row that could not be read has nothing to write from.
        (Failed { bad_row: true }, _) => false,
        (
            Finished { .. } | Failed { .. } | Cancelled,
            Planning { repair: false } | Writing { .. } | Summarising { .. } | Judging { .. },
        ) => true,
        _ => false,
    }
}

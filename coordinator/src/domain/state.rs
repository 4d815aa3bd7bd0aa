//! Where a document stands with the store: what lists and counts go by.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a document waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// May be leased.
    Ready,
    /// A worker holds it.
    Leased,
    /// Waits out a back-off, then becomes ready.
    Delayed,
    Accepted,
    Rejected,
    Failed,
    Cancelled,
}

impl State {
    /// All states.
    pub const ALL: [Self; 7] =
        [Self::Ready, Self::Leased, Self::Delayed, Self::Accepted, Self::Rejected, Self::Failed, Self::Cancelled];

    /// True for the four states in which nothing is left to do.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Accepted | Self::Rejected | Self::Failed | Self::Cancelled)
    }

    /// The name used in stores, messages and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Delayed => "delayed",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A name that is not one of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} {word:?}")]
pub struct UnknownWord {
    pub(crate) kind: &'static str,
    pub(crate) word: String,
}

impl FromStr for State {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == word);
        known.ok_or_else(|| UnknownWord { kind: "state", word: word.to_owned() })
    }
}

//! Attempts: one lease of one task, after it ended.

use std::str::FromStr;

use longhand_proto::{LeaseId, WorkerId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::state::UnknownWord;

/// How one lease of one task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// The task was done.
    Completed,
    /// The task failed.
    Error,
    /// The lease expired, or made no progress.
    Lost,
    /// Given back by a draining worker, or cancelled or revoked by an operator.
    Released,
}

impl AttemptEnd {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Completed, Self::Error, Self::Lost, Self::Released];

    /// The word that stores and JSON use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Lost => "lost",
            Self::Released => "released",
        }
    }
}

impl FromStr for AttemptEnd {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        let known = Self::ALL.into_iter().find(|end| end.as_str() == word);
        known.ok_or_else(|| UnknownWord { kind: "end of an attempt", word: word.to_owned() })
    }
}

/// One lease of one task, after it ended. Kept for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The lease.
    pub lease: LeaseId,
    /// The worker that held it.
    pub worker: WorkerId,
    /// When it was granted, Unix milliseconds.
    pub granted_ms: u64,
    /// When it ended, Unix milliseconds.
    pub ended_ms: u64,
    /// How it ended.
    pub end: AttemptEnd,
    /// JSON object of what the coordinator knows (task kind, section, usage, finish reason, error); `{}` for a lost one,
    /// `{"revoked": state}` for one that a [`CompareAndSwap`](super::CompareAndSwap) revoked; one whose document was cancelled
    /// meanwhile has `"revoked": "cancelled"` beside the rest.
    pub detail: serde_json::Value,
}

impl Attempt {
    /// Tokens that this attempt added. Those of a checkpoint that it resumed are included: the attempt that left them did
    /// not report them.
    pub(crate) fn generated(&self) -> u64 {
        self.detail.pointer("/usage/generated").and_then(Value::as_u64).unwrap_or(0)
    }

    /// Why its text was not kept: the rule that rejected it, or the class of its error. None if the text was kept, or if
    /// the attempt ended without one.
    pub(crate) fn discarded_by(&self) -> Option<&str> {
        let revoked = self.detail.get("revoked").and_then(Value::as_str).filter(|state| *state == "cancelled");
        if revoked.is_some() {
            return revoked.filter(|_| self.generated() > 0);
        }
        let rule = self.detail.pointer("/rejected/rule").and_then(Value::as_str);
        let class = || self.detail.pointer("/error/class").and_then(Value::as_str).unwrap_or("error");
        rule.or_else(|| (self.end == AttemptEnd::Error).then(class))
    }
}

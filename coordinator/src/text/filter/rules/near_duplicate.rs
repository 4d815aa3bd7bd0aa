//! The rule about documents that say nearly the same as another of the run.
//!
//! It is the one rule that a document alone cannot answer. Replicas judge documents in any order and share no memory, so it
//! is asked where all documents of a run pass in one order, that of their submission: when a corpus is exported.

use longhand_proto::DocumentId;

use crate::domain::rule::{Bound, Rule, Stage, Threshold};
use crate::text::filter::Measured;
use crate::text::similarity::{Index, Signature};

/// The rule; [`NearDuplicateIndex`] measures it.
pub const RULE: Rule = Rule {
    name: "near_duplicate",
    key: "max_similarity",
    measures: "similarity to the most similar earlier document of the run",
    stage: Stage::Document,
    bound: Bound::AtMost,
    default: Threshold::Number(0.8),
    off: Threshold::Number(1.0),
    range: 0.5..=1.0,
    first_version: false,
    measure: |_| None,
};

/// Lower similarities are not looked for, and counts as 0.
pub(super) const MIN_SIMILARITY: f64 = 0.5;

/// The documents so far.
#[derive(Debug)]
pub struct NearDuplicateIndex {
    index: Index,
    ids: Vec<DocumentId>,
}

impl NearDuplicateIndex {
    /// An index of no documents.
    pub fn new() -> Self {
        Self { index: Index::new(MIN_SIMILARITY), ids: Vec::new() }
    }

    /// How similar `text` is to the most similar one before it, of 0 to 1. A text that is dropped for it is not compared
    /// with those that follow.
    pub fn measure(&mut self, id: DocumentId, text: &str, threshold: f64) -> Measured {
        self.measure_signature(id, &Signature::of(text), threshold)
    }

    /// The same of a text whose signature is known.
    pub(crate) fn measure_signature(&mut self, id: DocumentId, signature: &Signature, threshold: f64) -> Measured {
        let found = self.index.nearest(signature);
        let value = found.map_or(0.0, |found| (found.similarity * 1000.0).round() / 1000.0);
        let fired = value > threshold;
        if !fired {
            self.index.insert(signature);
            self.ids.push(id);
        }
        let detail = found.map_or_else(String::new, |found| format!("like document {}", self.ids[found.text as usize]));
        Measured { rule: RULE.name, value, threshold, fired, detail }
    }
}

impl Default for NearDuplicateIndex {
    fn default() -> Self {
        Self::new()
    }
}

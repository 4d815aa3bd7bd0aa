//! Figures of one run: a summary of each document, and what was written over time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::document_summary::DocumentSummary;
use crate::store::{Attempt, Record};

/// Width of a bucket, the finest part of a plot.
pub(crate) const BUCKET_MS: u64 = 10_000;

/// What was written in one interval, counted when its attempt ended.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Bucket {
    pub(crate) words: u64,
    pub(crate) tokens: u64,
    pub(crate) sections: u64,
}

/// One run's documents and totals.
#[derive(Debug, Default)]
pub(crate) struct RunStats {
    /// By sequence number.
    pub(super) summaries: Vec<Option<DocumentSummary>>,
    /// By time in units of [`BUCKET_MS`].
    pub(crate) plot: BTreeMap<u64, Bucket>,
    /// Prompt tokens read from a prefix cache.
    pub(crate) cached: u64,
    /// Prompt tokens computed.
    pub(crate) computed: u64,
    /// Begin of the first attempt and end of the last one, Unix milliseconds.
    pub(crate) worked_ms: Option<(u64, u64)>,
    /// Names of the models that wrote.
    pub(crate) models: BTreeSet<String>,
    /// Number of the latest change that is included.
    pub(crate) change_seq: u64,
    /// Records read from the store so far.
    pub(crate) read: u64,
    /// True if everything that the store had at the last refresh is included.
    pub(crate) complete: bool,
}

impl RunStats {
    /// The documents read so far, in order of submission.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &DocumentSummary> {
        self.summaries.iter().flatten()
    }

    /// Adds or replaces a document. `summary` is made of the other two.
    pub(super) fn apply(&mut self, record: &Record, attempts: &[Attempt], mut summary: DocumentSummary) {
        self.change_seq = record.change_seq;
        self.read += 1;
        let index = record.seq as usize;
        if self.summaries.len() <= index {
            self.summaries.resize(index + 1, None);
        }
        let counted = self.summaries[index].as_ref().map_or(0, |summary| summary.attempts as usize);
        self.models.extend(summary.model.take());
        for attempt in attempts.iter().skip(counted) {
            let (first, last) = self.worked_ms.unwrap_or((attempt.granted_ms, attempt.ended_ms));
            self.worked_ms = Some((first.min(attempt.granted_ms), last.max(attempt.ended_ms)));
            let number = |pointer| attempt.detail.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
            let bucket = self.plot.entry(attempt.ended_ms / BUCKET_MS).or_default();
            bucket.tokens += attempt.generated().saturating_sub(number("/usage/resumed"));
            bucket.words += number("/words");
            bucket.sections += u64::from(number("/words") > 0);
            self.cached += number("/usage/cached");
            self.computed += number("/usage/prompt").saturating_sub(number("/usage/cached"));
        }
        self.summaries[index] = Some(summary);
    }
}

//! Figures of a run: `stats.json`, and the summary at its end. Field names are those of the file.

use std::collections::BTreeMap;

use longhand_proto::RunId;
use serde::{Deserialize, Serialize};

use super::record::count;
use super::rejections::UNREADABLE;
use super::{Cost, Packing};
use crate::domain::document::{Document, Progress};
use crate::domain::judge;
use crate::domain::language::Language;
use crate::domain::state::State;
use crate::run_stats::cost_of;
use crate::store::{Attempt, AttemptEnd, Counts, Run};
use crate::text::filter::score_length;

/// Upper bounds of the histogram's bins in words, those of LongBench-Write and above; the last bin is open.
const BINS: [u32; 7] = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000];

/// Contents of `stats.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub run: RunId,
    pub recipe_hash: String,
    pub seed: u64,
    pub documents: Counts,
    /// Rejected documents by rule.
    pub rejected: BTreeMap<String, u64>,
    /// Failed documents by error class.
    pub failed: BTreeMap<String, u64>,
    /// Accepted documents by language.
    pub languages: BTreeMap<String, u64>,
    /// Sections of all documents.
    pub sections: u64,
    /// Sections of accepted documents.
    pub sections_accepted: u64,
    /// Words of accepted documents.
    pub words: Histogram,
    /// Mean S_l of accepted documents that state a length.
    pub score_length: Option<f64>,
    /// Mean S_q of accepted documents that have one.
    #[serde(default)]
    pub score_quality: Option<f64>,
    /// Votes of the judge on all finished documents.
    #[serde(default)]
    pub votes: u64,
    /// Those of them that were invalid.
    #[serde(default)]
    pub votes_unread: u64,
    /// Over all documents and all attempts that reported their end.
    pub tokens: Tokens,
    /// Tokens wasted, by the rule that rejected the text or the class of the error.
    #[serde(default)]
    pub wasted: BTreeMap<String, u64>,
    /// Tokens generated in the whole run for each word of an accepted document.
    #[serde(default)]
    pub tokens_per_word: Option<f64>,
    /// Share of the reusable prompt tokens that came from the prefix cache.
    pub prefix_reuse: Option<f64>,
    pub attempts: Attempts,
    /// Rows of the data files: `train`, and `validation` if requested.
    #[serde(default)]
    pub splits: BTreeMap<String, u64>,
    /// Accepted documents by the data set of their instruction, with its licence.
    #[serde(default)]
    pub sources: BTreeMap<String, u64>,
    /// None unless the exporting program had a tokenizer.
    #[serde(default)]
    pub packing: Option<Packing>,
    /// None unless the workers had a price.
    #[serde(default)]
    pub cost: Option<Cost>,
    /// None unless the exporting program measured it.
    #[serde(rename = "wall")]
    pub timing: Option<RunTiming>,
    /// The costs so far.
    #[serde(skip)]
    costs: Cost,
    #[serde(skip)]
    length_scores: u64,
    #[serde(skip)]
    quality_scores: u64,
}

/// Words of documents.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Histogram {
    pub sum: u64,
    pub mean: f64,
    pub min: u32,
    pub max: u32,
    pub bins: Vec<Bin>,
}

/// Documents with `from` words or more and fewer than `to`; the last bin has no upper end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bin {
    pub from: u32,
    pub to: Option<u32>,
    pub count: u64,
}

/// Tokens of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tokens {
    pub prompt: u64,
    pub cached: u64,
    pub reusable: u64,
    pub generated: u64,
    /// Generated for texts that were not kept: of attempts that failed, and of sections that a rule rejected.
    pub wasted: u64,
    /// Generated for documents that were rejected or failed, wasted ones included.
    #[serde(default)]
    pub dropped: u64,
}

/// Attempts by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attempts {
    pub completed: u64,
    pub error: u64,
    pub lost: u64,
    pub released: u64,
}

/// Time of a run as the exporting program measured it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RunTiming {
    pub started_ms: u64,
    pub ended_ms: u64,
    pub tokens_per_second: Option<f64>,
}

impl Stats {
    pub(super) fn new(run: &Run, timing: Option<RunTiming>) -> Self {
        let starts = std::iter::once(0).chain(BINS);
        let ends = BINS.into_iter().map(Some).chain([None]);
        Self {
            run: run.id.clone(),
            recipe_hash: run.recipe_hash.clone(),
            seed: run.seed,
            documents: Counts::default(),
            rejected: BTreeMap::new(),
            failed: BTreeMap::new(),
            languages: BTreeMap::new(),
            sections: 0,
            sections_accepted: 0,
            words: Histogram {
                bins: starts.zip(ends).map(|(from, to)| Bin { from, to, count: 0 }).collect(),
                ..Histogram::default()
            },
            score_length: None,
            score_quality: None,
            votes: 0,
            votes_unread: 0,
            tokens: Tokens::default(),
            wasted: BTreeMap::new(),
            tokens_per_word: None,
            prefix_reuse: None,
            attempts: Attempts::default(),
            splits: BTreeMap::new(),
            sources: BTreeMap::new(),
            packing: None,
            cost: None,
            timing,
            costs: Cost::default(),
            length_scores: 0,
            quality_scores: 0,
        }
    }

    /// Counts one document.
    pub(super) fn add(&mut self, state: State, reason: &str, document: &Document, attempts: &[Attempt]) {
        *self.documents.of_mut(state) += 1;
        self.sections += document.sections().len() as u64;
        match state {
            State::Accepted => self.add_accepted(document),
            State::Rejected => *self.rejected.entry(reason.to_owned()).or_default() += 1,
            State::Failed => *self.failed.entry(reason.to_owned()).or_default() += 1,
            State::Ready | State::Leased | State::Delayed | State::Cancelled => {}
        }
        self.costs.add(state, cost_of(attempts));
        self.cost = self.costs.of(self.documents.accepted, self.words.sum);
        self.votes += document.votes().len() as u64;
        self.votes_unread += judge::unread(document.votes()) as u64;
        let usage = &document.usage;
        self.tokens.prompt += u64::from(usage.prompt);
        self.tokens.cached += u64::from(usage.cached);
        self.tokens.reusable += u64::from(usage.reusable);
        self.tokens.generated += u64::from(usage.generated);
        self.prefix_reuse = (self.tokens.reusable > 0).then(|| self.tokens.cached as f64 / self.tokens.reusable as f64);
        if matches!(state, State::Rejected | State::Failed) {
            self.tokens.dropped += u64::from(usage.generated);
        }
        self.tokens_per_word = (self.words.sum > 0).then(|| self.tokens.generated as f64 / self.words.sum as f64);
        for attempt in attempts {
            if let Some(cause) = attempt.discarded_by() {
                self.tokens.wasted += attempt.generated();
                *self.wasted.entry(cause.to_owned()).or_default() += attempt.generated();
            }
            match attempt.end {
                AttemptEnd::Completed => self.attempts.completed += 1,
                AttemptEnd::Error => self.attempts.error += 1,
                AttemptEnd::Lost => self.attempts.lost += 1,
                AttemptEnd::Released => self.attempts.released += 1,
            }
        }
    }

    /// Counts one document that cannot be read, among those that failed.
    pub(super) fn add_unreadable(&mut self) {
        self.documents.failed += 1;
        *self.failed.entry(UNREADABLE.into()).or_default() += 1;
    }

    /// Number of documents that could not be read.
    pub fn unreadable(&self) -> u64 {
        self.failed.get(UNREADABLE).copied().unwrap_or(0)
    }

    fn add_accepted(&mut self, document: &Document) {
        let Progress::Finished { text, sections, .. } = &document.progress else { return };
        self.sections_accepted += sections.len() as u64;
        let language = match document.instruction.language {
            Language::En => "en",
            Language::Zh => "zh",
        };
        *self.languages.entry(language.into()).or_default() += 1;
        if let Some(source) = source(document) {
            *self.sources.entry(source).or_default() += 1;
        }

        let words = count(text);
        self.words.min = if self.documents.accepted == 1 { words } else { self.words.min.min(words) };
        self.words.max = self.words.max.max(words);
        self.words.sum += u64::from(words);
        self.words.mean = self.words.sum as f64 / self.documents.accepted as f64;
        if let Some(bin) = self.words.bins.iter_mut().rfind(|bin| bin.from <= words) {
            bin.count += 1;
        }
        if let Some(score) = judge::score_quality(document.votes()) {
            let before = self.score_quality.unwrap_or(0.0);
            self.quality_scores += 1;
            self.score_quality = Some(before + (score - before) / self.quality_scores as f64);
        }
        if let Some(required) = document.instruction.required_words {
            let before = self.score_length.unwrap_or(0.0);
            self.length_scores += 1;
            self.score_length = Some(before + (score_length(required, words) - before) / self.length_scores as f64);
        }
    }
}

/// Data set and licence of an imported instruction.
fn source(document: &Document) -> Option<String> {
    let source = document.instruction.metadata.get("source")?;
    let text = |key: &str| source.get(key).and_then(serde_json::Value::as_str);
    Some(format!("{} (licence: {})", text("name")?, text("licence").unwrap_or("not stated")))
}

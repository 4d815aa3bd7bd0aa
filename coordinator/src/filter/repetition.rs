//! Rules about text that stands twice.

use std::collections::HashSet;

use super::{Measure, worst};
use crate::document::Assembled;
use crate::units;

/// Shares of fewer runs than this are noise: a section of one sentence repeats nothing and proves nothing.
const FEW: usize = 20;
/// Sentences with fewer units ("He nodded.") may recur in good prose.
const SHORT_SENTENCE: usize = 4;

/// The largest share of a section that repeats the same section, by n-grams or by whole sentences.
pub(super) fn within(document: &Assembled<'_>) -> Option<Measure> {
    let language = document.instruction.language;
    let shares = document.sections.iter().map(|section| {
        let ngrams = units::ngrams(&section.text, language);
        let of_ngrams = if ngrams.len() < FEW { 0.0 } else { units::share_seen(&ngrams, &mut HashSet::new()) };
        let sentences = sentence_prints(&section.text);
        let of_sentences = if sentences.len() < 4 { 0.0 } else { units::share_seen(&sentences, &mut HashSet::new()) };
        of_ngrams.max(of_sentences)
    });
    Some(worst(shares, |at, share| told(at, share, "repeats within itself")))
}

/// The largest share of a section's n-grams that an earlier section holds.
pub(super) fn between(document: &Assembled<'_>) -> Option<Measure> {
    let language = document.instruction.language;
    let mut earlier = HashSet::new();
    let shares = document.sections.iter().map(|section| {
        let ngrams = units::ngrams(&section.text, language);
        let known = ngrams.iter().filter(|ngram| earlier.contains(*ngram)).count();
        let share = if ngrams.len() < FEW { 0.0 } else { known as f64 / ngrams.len() as f64 };
        earlier.extend(ngrams);
        share
    });
    Some(worst(shares, |at, share| told(at, share, "repeats earlier sections")))
}

fn sentence_prints(text: &str) -> Vec<u64> {
    units::sentences(text).filter(|sentence| units::count(sentence) >= SHORT_SENTENCE).map(units::fingerprint).collect()
}

fn told(at: usize, share: f64, what: &str) -> String {
    format!("section {}: {:.0} % of it {what}", at + 1, share * 100.0)
}

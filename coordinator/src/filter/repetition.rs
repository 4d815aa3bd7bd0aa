//! Rules about text that stands twice.

use std::collections::HashSet;

use super::Measured;
use crate::document::Assembled;
use crate::recipe::Filters;
use crate::units;

/// Shares of fewer runs than this are noise: a section of one sentence repeats nothing and proves nothing.
const FEW: usize = 20;
/// Sentences with fewer units ("He nodded.") may recur in good prose.
const SHORT_SENTENCE: usize = 4;

/// The largest share of a section that repeats the same section, by n-grams or by whole sentences.
pub(super) fn within(filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
    let language = document.instruction.language;
    let shares = document.sections.iter().map(|section| {
        let ngrams = units::ngrams(&section.text, language);
        let of_ngrams = if ngrams.len() < FEW { 0.0 } else { units::share_seen(&ngrams, &mut HashSet::new()) };
        let sentences = sentence_prints(&section.text);
        let of_sentences = if sentences.len() < 4 { 0.0 } else { units::share_seen(&sentences, &mut HashSet::new()) };
        of_ngrams.max(of_sentences)
    });
    Some(worst("repetition_within", filters.max_repetition_within, shares, "repeats within itself"))
}

/// The largest share of a section's n-grams that an earlier section holds.
pub(super) fn between(filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
    let language = document.instruction.language;
    let mut earlier = HashSet::new();
    let shares = document.sections.iter().map(|section| {
        let ngrams = units::ngrams(&section.text, language);
        let known = ngrams.iter().filter(|ngram| earlier.contains(*ngram)).count();
        let share = if ngrams.len() < FEW { 0.0 } else { known as f64 / ngrams.len() as f64 };
        earlier.extend(ngrams);
        share
    });
    Some(worst("repetition_between", filters.max_repetition_between, shares, "repeats earlier sections"))
}

fn sentence_prints(text: &str) -> Vec<u64> {
    units::sentences(text).filter(|sentence| units::count(sentence) >= SHORT_SENTENCE).map(units::fingerprint).collect()
}

fn worst(rule: &'static str, threshold: f64, shares: impl Iterator<Item = f64>, what: &str) -> Measured {
    let (at, value) =
        shares.enumerate().fold((0, 0.0), |best, (k, share)| if share > best.1 { (k, share) } else { best });
    let detail =
        if value > 0.0 { format!("section {}: {:.0} % of it {what}", at + 1, value * 100.0) } else { String::new() };
    Measured { rule, value, threshold, fired: value > threshold, detail }
}

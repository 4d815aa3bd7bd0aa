//! Rules about text that stands twice.

use std::collections::HashSet;

use super::{Measure, worst};
use crate::domain::document::Assembled;
use crate::domain::language::Language;
use crate::text::shingles;

/// Shares of fewer runs than this are noise: a section of one sentence repeats nothing and proves nothing.
const FEW: usize = 20;
/// Sentences with fewer units ("He nodded.") may recur in good prose.
const SHORT_SENTENCE: usize = 4;
/// Sentences or clauses in a row that may begin alike: a figure of speech has three or four, a refrain some more.
const ALIKE: usize = 7;
/// Clauses with fewer units are items of a list.
const SHORT_CLAUSE: usize = 3;

/// The largest share of a section that repeats the same section: by n-grams, by whole sentences, or by sentences or clauses
/// that begin as those before them.
pub(super) fn within(document: &Assembled<'_>) -> Option<Measure> {
    let language = document.instruction.language;
    let shares = document.sections.iter().map(|section| {
        let ngrams = shingles::ngrams(&section.text, language);
        let of_ngrams = if ngrams.len() < FEW { 0.0 } else { shingles::share_seen(&ngrams, &mut HashSet::new()) };
        let sentences = sentence_prints(&section.text);
        let of_sentences =
            if sentences.len() < 4 { 0.0 } else { shingles::share_seen(&sentences, &mut HashSet::new()) };
        let sentences = || shingles::sentences(&section.text);
        let clauses = sentences().flat_map(|sentence| sentence.split([',', '，', ';', '；']));
        of_ngrams.max(of_sentences).max(alike(sentences(), language)).max(alike(clauses, language))
    });
    Some(worst(shares, |at, share| told(at, share, "repeats within itself")))
}

/// The largest share of a section's n-grams that an earlier section holds.
pub(super) fn between(document: &Assembled<'_>) -> Option<Measure> {
    let language = document.instruction.language;
    let mut earlier = HashSet::new();
    let shares = document.sections.iter().map(|section| {
        let ngrams = shingles::ngrams(&section.text, language);
        let known = ngrams.iter().filter(|ngram| earlier.contains(*ngram)).count();
        let share = if ngrams.len() < FEW { 0.0 } else { known as f64 / ngrams.len() as f64 };
        earlier.extend(ngrams);
        share
    });
    Some(worst(shares, |at, share| told(at, share, "repeats earlier sections")))
}

/// The share of `parts` that stands in a long row of parts that begin with the same word, articles apart; in Chinese with the
/// same two characters.
fn alike<'a>(parts: impl Iterator<Item = &'a str>, language: Language) -> f64 {
    let (begin, articles) = match language {
        Language::En => (1, shingles::units("the a an")),
        Language::Zh => (2, Vec::new()),
    };
    let beginning = |part: Vec<u64>| -> Vec<u64> {
        part.into_iter().skip_while(|unit| articles.contains(unit)).take(begin).collect()
    };
    let parts: Vec<Vec<u64>> =
        parts.map(shingles::units).filter(|units| units.len() >= SHORT_CLAUSE).map(beginning).collect();
    let rows = parts.chunk_by(|one, next| one == next).map(<[_]>::len).filter(|row| *row > ALIKE);
    if parts.is_empty() { 0.0 } else { rows.sum::<usize>() as f64 / parts.len() as f64 }
}

fn sentence_prints(text: &str) -> Vec<u64> {
    shingles::sentences(text)
        .filter(|sentence| shingles::count(sentence) >= SHORT_SENTENCE)
        .map(shingles::fingerprint)
        .collect()
}

fn told(at: usize, share: f64, what: &str) -> String {
    format!("section {}: {:.0} % of it {what}", at + 1, share * 100.0)
}

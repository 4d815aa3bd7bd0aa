//! The draw: which form, subject, reader, tone and length each row gets, and in which sentence. A function of seeds, count,
//! lengths and seed alone.

use std::collections::HashSet;

use longhand_proto::rng::Sequence;

use super::lengths::{self, Lengths};
use super::options::ComposeError;
use super::pattern::{Slot, Values};
use super::seeds::{ForKind, Form, Seeds, Subject};
use crate::domain::language;
use crate::text::similarity::{Index, Signature};

/// Least similarity of two instructions that count as near duplicates. Instructions as similar as this share a cluster when a
/// corpus is split into training and validation.
pub(super) const SIMILARITY: f64 = 0.6;
/// Sentences that are tried for a row whose sentence is a near duplicate.
const MAX_SENTENCES: usize = 20;

/// One row as it was drawn.
#[derive(Debug, Clone)]
pub(super) struct Drawn<'a> {
    pub(super) seeds: &'a Seeds,
    pub(super) form: &'a Form,
    pub(super) subject: &'a Subject,
    pub(super) words: u32,
    /// None where the sentence does not name one.
    pub(super) reader: Option<&'a str>,
    /// None where the sentence does not name one.
    pub(super) tone: Option<&'a str>,
    /// The sentence.
    pub(super) prompt: String,
}

/// Draws `count` rows.
///
/// Lengths are stratified: the n-th part of the distribution has one of n rows. Of everything else the least used comes next,
/// equals in random order; so subjects, forms, readers, tones and patterns are spread evenly, as far as they suit each other. A
/// pair of form and subject comes once.
pub(super) fn draw<'a>(
    seeds: &'a Seeds,
    count: usize,
    lengths: &Lengths,
    seed: u64,
) -> Result<Vec<Drawn<'a>>, ComposeError> {
    let mut random = Sequence::new(seed);
    let mut table = Table::new(seeds);
    let mut strata: Vec<usize> = (0..count).collect();
    random.shuffle(&mut strata);
    let mut rows = Vec::with_capacity(count);
    for stratum in strata {
        let words = lengths.at((stratum as f64 + random.unit()) / count as f64);
        rows.push(table.row(words, &mut random)?);
    }
    Ok(rows)
}

/// The seeds, and how often each was used.
struct Table<'a> {
    seeds: &'a Seeds,
    forms: Uses,
    subjects: Uses,
    readers: Uses,
    tones: Uses,
    patterns: Uses,
    pairs: HashSet<(usize, usize)>,
    sentences: Index,
}

impl<'a> Table<'a> {
    fn new(seeds: &'a Seeds) -> Self {
        Self {
            seeds,
            forms: Uses::of(&seeds.forms),
            subjects: Uses::of(&seeds.subjects),
            readers: Uses::of(&seeds.readers),
            tones: Uses::of(&seeds.tones),
            patterns: Uses::of(&seeds.patterns),
            pairs: HashSet::new(),
            sentences: Index::new(SIMILARITY),
        }
    }

    fn row(&mut self, words: u32, random: &mut Sequence) -> Result<Drawn<'a>, ComposeError> {
        let Seeds { language, forms, subjects, readers, tones, patterns, .. } = self.seeds;
        let language = *language;
        let suits = |form: usize, subject: usize| {
            forms[form].suits(words, &subjects[subject]) && !self.pairs.contains(&(form, subject))
        };
        let open = |subject| (0..forms.len()).any(|form| suits(form, subject));
        let none = || ComposeError::NoForm { words, language: language::name(language), rows: self.sentences.len() };
        let subject = self.subjects.next(random, open).ok_or_else(none)?;
        let form = self.forms.next(random, |form| suits(form, subject)).ok_or_else(none)?;
        self.pairs.insert((form, subject));
        let (form, subject) = (&forms[form], &subjects[subject]);
        let (text, number) = (form.of(subject), lengths::written(words, language));
        for _ in 0..MAX_SENTENCES {
            let Some(pattern) = next_for(patterns, &form.kind, &mut self.patterns, random) else { break };
            let sentence = pattern.choose(random);
            let mut named = |slot, entries: &'a [ForKind<String>], uses: &mut Uses| {
                let entry = if sentence.has(slot) { next_for(entries, &form.kind, uses, random) } else { None };
                entry.map(String::as_str)
            };
            let reader = named(Slot::Reader, readers, &mut self.readers);
            let tone = named(Slot::Tone, tones, &mut self.tones);
            let values = Values {
                text: &text,
                words: &number,
                reader: reader.unwrap_or_default(),
                tone: tone.unwrap_or_default(),
            };
            let prompt = sentence.fill(&values);
            if self.sentences.insert_new(&Signature::of(&prompt)).is_ok() {
                return Ok(Drawn { seeds: self.seeds, form, subject, words, reader, tone, prompt });
            }
        }
        Err(ComposeError::TooAlike { language: language::name(language), rows: self.sentences.len() })
    }
}

/// The next entry of a list that suits a kind.
fn next_for<'a, T>(entries: &'a [ForKind<T>], kind: &str, uses: &mut Uses, random: &mut Sequence) -> Option<&'a T> {
    uses.next(random, |entry| entries[entry].suits(kind)).map(|entry| &entries[entry].value)
}

/// How often each entry of a list was drawn.
struct Uses(Vec<u32>);

impl Uses {
    fn of<T>(list: &[T]) -> Self {
        Self(vec![0; list.len()])
    }

    /// The least used of the entries that fit, equals in random order.
    fn next(&mut self, random: &mut Sequence, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let (mut least, mut candidates) = (u32::MAX, Vec::new());
        for (entry, uses) in self.0.iter().enumerate() {
            if *uses > least || !fits(entry) {
                continue;
            }
            if *uses < least {
                least = *uses;
                candidates.clear();
            }
            candidates.push(entry);
        }
        let drawn = *candidates.get(random.below(candidates.len()))?;
        self.0[drawn] += 1;
        Some(drawn)
    }
}

//! The effect of each filter on the documents of a run, to choose thresholds by: how many documents each rule rejects alone and
//! in order, the distribution of its values, and what other thresholds would keep.
//!
//! Values do not depend on thresholds, so they are measured once; all counts are computed from them.

mod page;
mod plot;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use longhand_proto::DocumentId;
use longhand_proto::words;
use serde::Serialize;

use crate::domain::document::Assembled;
use crate::domain::language::{self, Language};
use crate::domain::recipe::Recipe;
use crate::domain::rule::{Bound, Measure, Rule};
use crate::text::filter::{self, NearDuplicateIndex, RULES, score_length};
use crate::text::similarity::Signature;

pub use page::html;
pub(crate) use page::{CSS, JS, dashboard_html};
pub use read::read;

/// Most other thresholds of each rule.
const MAX_THRESHOLDS: usize = 9;
/// Bars of a distribution.
const BARS: usize = 40;

/// The measured documents of a run.
#[derive(Debug)]
pub struct Report {
    /// Name of the run.
    pub run: String,
    /// Recipe whose filters are applied.
    pub recipe: Recipe,
    rows: Vec<Row>,
    others: NearDuplicateIndex,
}

/// What the rules measured of one document, all but its similarity to others.
#[derive(Debug)]
pub(crate) struct MeasuredDocument {
    id: DocumentId,
    language: Language,
    requested: Option<u32>,
    written: u32,
    measures: Vec<Option<Measure>>,
    signature: Signature,
}

/// One document.
#[derive(Debug)]
struct Row {
    id: DocumentId,
    language: Language,
    requested: Option<u32>,
    written: u32,
    /// By rule, in order; none where there is nothing to measure.
    values: Vec<Option<f64>>,
    /// Detail of the first rule that rejects it.
    detail: String,
}

/// The rules in the order in which they are applied.
fn rules() -> impl Iterator<Item = &'static Rule> {
    filter::all()
}

impl Report {
    /// A report without documents.
    pub fn new(run: String, recipe: Recipe) -> Self {
        Self { run, recipe, rows: Vec::new(), others: NearDuplicateIndex::new() }
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without documents.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Measures a document and adds it.
    pub fn add(&mut self, id: DocumentId, document: &Assembled<'_>) {
        self.push(Self::measure(id, document));
    }

    /// What the rules say of a document alone: nearly all of the work, and needed once, whatever the thresholds are.
    pub(crate) fn measure(id: DocumentId, document: &Assembled<'_>) -> MeasuredDocument {
        MeasuredDocument {
            id,
            language: document.instruction.language,
            requested: document.instruction.required_words,
            written: u32::try_from(words::count(document.text)).unwrap_or(u32::MAX),
            measures: RULES.iter().map(|rule| rule.measure(document)).collect(),
            signature: Signature::of(document.text),
        }
    }

    /// Adds a measured document. Near duplicates are compared with the documents added before.
    pub(crate) fn push(&mut self, document: MeasuredDocument) {
        let MeasuredDocument { id, language, requested, written, mut measures, signature } = document;
        // With the greatest similarity as threshold no document is left out of later comparisons.
        let near = self.others.measure_signature(id, &signature, 1.0);
        measures.push(Some(Measure { value: near.value, detail: near.detail }));
        let values: Vec<Option<f64>> = measures.iter().map(|measure| measure.as_ref().map(|it| it.value)).collect();
        let detail =
            self.first_rejecting(&values).and_then(|at| measures[at].clone()).map_or_else(String::new, |it| it.detail);
        self.rows.push(Row { id, language, requested, written, values, detail });
    }

    /// The first rule that rejects a document with these values.
    fn first_rejecting(&self, values: &[Option<f64>]) -> Option<usize> {
        rules().zip(values).position(|(rule, value)| !self.passes(rule, *value))
    }

    fn passes(&self, rule: &Rule, value: Option<f64>) -> bool {
        match (value, rule.threshold(&self.recipe.filters)) {
            (Some(value), Some(threshold)) => rule.bound.holds(value, threshold),
            (None, _) | (_, None) => true,
        }
    }

    /// All figures.
    pub fn summary(&self) -> Summary {
        let firsts: Vec<Option<usize>> = self.rows.iter().map(|row| self.first_rejecting(&row.values)).collect();
        Summary {
            run: self.run.clone(),
            recipe: self.recipe.name.clone(),
            recipe_hash: self.recipe.hash(),
            documents: self.rows.len(),
            kept: firsts.iter().filter(|first| first.is_none()).count(),
            rules: rules().enumerate().map(|(at, rule)| self.rule(at, rule, &firsts)).collect(),
            languages: self.languages(&firsts),
            score_length: Distribution::of(self.rows.iter().filter_map(Row::score).collect()),
        }
    }

    fn rule(&self, at: usize, rule: &'static Rule, firsts: &[Option<usize>]) -> RuleSummary {
        let threshold = rule.threshold(&self.recipe.filters);
        let values: Vec<f64> = self.rows.iter().filter_map(|row| row.values[at]).collect();
        let alone = self.rows.iter().filter(|row| !self.passes(rule, row.values[at])).count();
        let keeps = |threshold: f64| {
            let holds = |row: &&Row| row.values[at].is_none_or(|value| rule.bound.holds(value, threshold));
            let others_pass =
                |row: &&Row| rules().zip(&row.values).enumerate().all(|(k, (it, v))| k == at || self.passes(it, *v));
            let passing: Vec<&Row> = self.rows.iter().filter(holds).collect();
            ThresholdEffect {
                threshold,
                alone: passing.len(),
                together: passing.iter().copied().filter(|row| others_pass(row)).count(),
            }
        };
        let distribution = Distribution::of(values);
        let thresholds = distribution.as_ref().map_or_else(Vec::new, |it| it.thresholds(threshold));
        RuleSummary {
            rule: rule.name,
            key: rule.key,
            bound: match rule.bound {
                Bound::AtLeast => "at least",
                Bound::AtMost => "at most",
            },
            measures: rule.measures,
            threshold,
            alone,
            in_order: firsts.iter().filter(|first| **first == Some(at)).count(),
            others: thresholds.into_iter().map(keeps).collect(),
            distribution,
        }
    }

    fn languages(&self, firsts: &[Option<usize>]) -> BTreeMap<&'static str, LanguageSummary> {
        let mut languages: BTreeMap<&'static str, LanguageSummary> = BTreeMap::new();
        let mut scores: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        for (row, first) in self.rows.iter().zip(firsts) {
            let name = language::name(row.language);
            let summary = languages.entry(name).or_default();
            summary.documents += 1;
            summary.kept += usize::from(first.is_none());
            summary.words += f64::from(row.written);
            scores.entry(name).or_default().extend(row.score());
        }
        for (name, summary) in &mut languages {
            summary.words /= summary.documents as f64;
            let scores = &scores[name];
            summary.score_length = (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64);
        }
        languages
    }
}

impl Row {
    fn score(&self) -> Option<f64> {
        self.requested.map(|requested| score_length(requested, self.written))
    }
}

/// The figures of a report. Field names are those of `longhand report --json`.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub run: String,
    pub recipe: String,
    pub recipe_hash: String,
    pub documents: usize,
    /// Documents that no rule rejects.
    pub kept: usize,
    pub rules: Vec<RuleSummary>,
    pub languages: BTreeMap<&'static str, LanguageSummary>,
    /// S_l of the documents that state a length.
    pub score_length: Option<Distribution>,
}

/// The figures of a rule.
#[derive(Debug, Serialize)]
pub struct RuleSummary {
    pub rule: &'static str,
    pub key: &'static str,
    pub bound: &'static str,
    pub measures: &'static str,
    /// None if the rule is off.
    pub threshold: Option<f64>,
    /// Documents that it would reject as the only rule.
    pub alone: usize,
    /// Documents that it is the first rule to reject.
    pub in_order: usize,
    pub distribution: Option<Distribution>,
    pub others: Vec<ThresholdEffect>,
}

/// The effect of another threshold.
#[derive(Debug, Serialize)]
pub struct ThresholdEffect {
    pub threshold: f64,
    /// Documents kept by this rule alone.
    pub alone: usize,
    /// Documents kept with all other rules unchanged.
    pub together: usize,
}

/// The figures of a language.
#[derive(Debug, Default, Serialize)]
pub struct LanguageSummary {
    pub documents: usize,
    pub kept: usize,
    /// Mean words of a document.
    pub words: f64,
    /// Mean S_l.
    pub score_length: Option<f64>,
}

/// The distribution of values.
#[derive(Debug, Serialize)]
pub struct Distribution {
    pub count: usize,
    pub min: f64,
    pub p5: f64,
    pub p25: f64,
    pub median: f64,
    pub p75: f64,
    pub p95: f64,
    pub max: f64,
    /// Number of values in each of equal intervals from min to max.
    pub bars: Vec<usize>,
    #[serde(skip)]
    sorted: Vec<f64>,
}

impl Distribution {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        let mut bars = vec![0; BARS];
        for value in &values {
            let part = if max > min { (value - min) / (max - min) * BARS as f64 } else { 0.0 };
            bars[(part as usize).min(BARS - 1)] += 1;
        }
        Some(Self {
            count: values.len(),
            min,
            p5: at(0.05),
            p25: at(0.25),
            median: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
            max,
            bars,
            sorted: values,
        })
    }

    /// The current threshold, and others at even steps through the values.
    fn thresholds(&self, current: Option<f64>) -> Vec<f64> {
        let mut distinct = self.sorted.clone();
        distinct.dedup();
        let steps = MAX_THRESHOLDS.min(distinct.len());
        let step = |k: usize| distinct[k * (distinct.len() - 1) / (steps - 1).max(1)];
        let mut thresholds: Vec<f64> = (0..steps).map(step).chain(current).collect();
        thresholds.sort_by(f64::total_cmp);
        thresholds.dedup();
        thresholds
    }
}

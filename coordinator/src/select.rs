//! Chooses the instructions worth writing: language, length and intent, rule lists, duplicates, quotas.
//!
//! Two passes over the input. The first judges every row in the order of [`STAGES`] and remembers a few bytes of each that
//! passes; then the quotas choose among those; the second writes the chosen ones in the order of the input. What is left
//! out is listed with rule and value. Memory grows by about 400 bytes for each row that passes, for the search for near
//! duplicates; texts are never held.

mod quota;
pub mod rules;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::corpus::CorpusError;
use crate::document::{Instruction, Language};
use crate::duplicates::{Index, Signature};
use crate::instruction::{InputError, Output, Row, Rows, row};

pub use rules::{RuleError, Rules};

use stage::{Dropped, Intent, Judged, Passed};

/// Rows that are judged at a time: enough to keep all cores busy, few enough to hold.
const BATCH: usize = 2048;

/// The rules that drop a row, in the order in which they are asked.
pub const STAGES: [&str; 10] = [
    "bad_row",
    "language",
    "toxic",
    "scraping",
    "length",
    "no_length",
    "short",
    "exact_duplicate",
    "contaminated",
    "near_duplicate",
];
/// The rule that leaves out what no quota has room for.
pub const QUOTA: &str = "quota";

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    pub languages: Vec<Language>,
    /// Words that a stated length may ask for.
    pub length: RangeInclusive<u32>,
    /// Leave out rows that state no length.
    pub require_length: bool,
    /// Keep rows that ask for a short answer too.
    pub any_intent: bool,
    pub rules: Rules,
    /// Least similarity of near duplicates.
    pub similarity: f64,
    /// Files whose instructions must not be among the chosen: an evaluation's.
    pub against: Vec<PathBuf>,
    /// Most rows of each language; one that is not named has no bound.
    pub quotas: HashMap<Language, u64>,
    /// Decides which rows fill a quota.
    pub seed: u64,
    /// Threads that judge rows.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            languages: vec![Language::En, Language::Zh],
            length: 1..=1_000_000,
            require_length: false,
            any_intent: false,
            rules: Rules::built_in(),
            similarity: 0.8,
            against: Vec::new(),
            quotas: HashMap::new(),
            seed: 0,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// Counts of rows, stage by stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub read: u64,
    /// Rows left out by each rule of [`STAGES`] and by the quota, in that order.
    pub dropped: Vec<(&'static str, u64)>,
    pub kept: u64,
    pub english: u64,
    pub chinese: u64,
    /// Kept rows that state a length, ask for a long text in other words, and of which the rules cannot tell.
    pub stated: u64,
    pub long: u64,
    pub unknown: u64,
}

/// Why nothing was selected.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Output(#[from] CorpusError),
    #[error("{}: the file changed while it was read; run the same command again", path.display())]
    Changed { path: PathBuf },
}

/// A row that passed every rule, until the quotas choose.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    line: u64,
    language: Language,
    intent: Intent,
    /// Random, and the same for the same content and seed.
    key: u64,
}

/// A row of `dropped.jsonl`.
#[derive(Debug, Serialize)]
struct DroppedRow<'a> {
    file: &'a Path,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    rule: &'static str,
    value: &'a Value,
    detail: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    instruction: String,
}

/// Reads `input`, writes the chosen rows to `out` and the others to `dropped`.
pub fn select(input: &Path, out: &Path, dropped: &Path, options: &Options) -> Result<Report, SelectError> {
    let (mut kept, dropped) = (Output::create(out)?, Output::create(dropped)?);
    let mut sieve = Sieve::new(input, dropped, options)?;
    sieve.first_pass()?;
    let Sieve { candidates, mut dropped, mut counts, read, .. } = sieve;
    let chosen = quota::choose(&candidates, &options.quotas);

    let mut report = Report { read, ..Report::default() };
    let mut rows = Rows::open(input)?;
    let mut next = candidates.iter().zip(&chosen).peekable();
    while let Some(read) = rows.next() {
        let Some((candidate, chosen)) = next.next_if(|(candidate, _)| candidate.line == rows.line()) else { continue };
        let changed = || SelectError::Changed { path: input.to_owned() };
        let bytes = read.map_err(|_| changed())?;
        let mut instruction = row::parse(&bytes, rows.line()).map_err(|_| changed())?;
        instruction.language = candidate.language;
        if !chosen {
            let limit = options.quotas.get(&candidate.language).copied().unwrap_or(u64::MAX);
            let drop = Dropped::new(QUOTA, limit, format!("{} rows are enough", limit));
            write_dropped(&mut dropped, input, &instruction, rows.line(), &drop)?;
            *counts.entry(QUOTA).or_default() += 1;
            continue;
        }
        report.kept += 1;
        match candidate.language {
            Language::En => report.english += 1,
            Language::Zh => report.chinese += 1,
        }
        match candidate.intent {
            Intent::Stated(_) => report.stated += 1,
            Intent::Long => report.long += 1,
            Intent::Short | Intent::Unknown => report.unknown += 1,
        }
        kept.add(&Row::of(&instruction))?;
    }
    if next.next().is_some() {
        return Err(SelectError::Changed { path: input.to_owned() });
    }
    report.dropped =
        STAGES.into_iter().chain([QUOTA]).map(|rule| (rule, counts.get(rule).copied().unwrap_or(0))).collect();
    dropped.finish()?;
    kept.finish()?;
    Ok(report)
}

/// The first pass.
struct Sieve<'a> {
    options: &'a Options,
    input: &'a Path,
    rows: Rows,
    /// Hash of each text so far, and its line.
    exact: HashMap<u128, u64>,
    near: Index,
    /// Line of each text in `near`.
    lines: Vec<u64>,
    /// Texts that must not be chosen, with their places.
    against: Index,
    places: Vec<(usize, u64)>,
    candidates: Vec<Candidate>,
    dropped: Output,
    counts: HashMap<&'static str, u64>,
    read: u64,
}

impl<'a> Sieve<'a> {
    fn new(input: &'a Path, dropped: Output, options: &'a Options) -> Result<Self, SelectError> {
        let mut sieve = Self {
            options,
            input,
            rows: Rows::open(input)?,
            exact: HashMap::new(),
            near: Index::new(options.similarity),
            lines: Vec::new(),
            against: Index::new(options.similarity),
            places: Vec::new(),
            candidates: Vec::new(),
            dropped,
            counts: HashMap::new(),
            read: 0,
        };
        for (file, path) in options.against.iter().enumerate() {
            // A row of theirs that cannot be read would let through what must not pass.
            for instruction in crate::instruction::read(path)? {
                let instruction = instruction.map_err(|bad| InputError::Format {
                    path: path.clone(),
                    problem: format!("line {}: {}", bad.line, bad.problem),
                    remedy: "mend the row: what it asks could not be kept out",
                })?;
                sieve.against.insert(&Signature::of(&instruction.text()));
                sieve.places.push((file, instruction.line));
            }
        }
        Ok(sieve)
    }

    fn first_pass(&mut self) -> Result<(), SelectError> {
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            while batch.len() < BATCH {
                let Some(read) = self.rows.next() else { break };
                self.read += 1;
                batch.push((self.rows.line(), read));
            }
            if batch.is_empty() {
                break;
            }
            for (line, judged) in judge_all(batch, self.options) {
                match judged {
                    Judged::Bad(drop) => self.drop_bad(line, &drop)?,
                    Judged::Dropped(instruction, drop) => self.drop(&instruction, line, &drop)?,
                    Judged::Passed(passed) => self.compare(line, *passed)?,
                }
            }
        }
        if self.read == 0 {
            return Err(InputError::Empty { path: self.input.to_owned() }.into());
        }
        Ok(())
    }

    /// Against all rows before it, and against the texts that must not be chosen.
    fn compare(&mut self, line: u64, passed: Passed) -> Result<(), SelectError> {
        let Passed { instruction, intent, exact, signature } = passed;
        if let Some(first) = self.exact.get(&exact) {
            let drop = Dropped::new("exact_duplicate", *first, format!("line {first} says the same"));
            return self.drop(&instruction, line, &drop);
        }
        self.exact.insert(exact, line);
        if let Some(found) = self.against.nearest(&signature) {
            let (file, at) = self.places[found.text as usize];
            let detail = format!("{}:{at}", self.options.against[file].display());
            return self.drop(&instruction, line, &Dropped::new("contaminated", rounded(found.similarity), detail));
        }
        match self.near.insert_new(&signature) {
            Err(found) => {
                let detail = format!("line {}", self.lines[found.text as usize]);
                self.drop(&instruction, line, &Dropped::new("near_duplicate", rounded(found.similarity), detail))
            }
            Ok(_) => {
                self.lines.push(line);
                let key = quota::key(self.options.seed, exact);
                self.candidates.push(Candidate { line, language: instruction.language, intent, key });
                Ok(())
            }
        }
    }

    fn drop(&mut self, instruction: &Instruction, line: u64, drop: &Dropped) -> Result<(), SelectError> {
        *self.counts.entry(drop.rule).or_default() += 1;
        write_dropped(&mut self.dropped, self.input, instruction, line, drop)
    }

    fn drop_bad(&mut self, line: u64, drop: &Dropped) -> Result<(), SelectError> {
        *self.counts.entry(drop.rule).or_default() += 1;
        let Dropped { rule, value, detail } = drop;
        let row = DroppedRow { file: self.input, line, id: None, rule, value, detail, instruction: String::new() };
        Ok(self.dropped.add(&row)?)
    }
}

fn write_dropped(
    out: &mut Output,
    file: &Path,
    instruction: &Instruction,
    line: u64,
    drop: &Dropped,
) -> Result<(), SelectError> {
    let Dropped { rule, value, detail } = drop;
    let text = instruction.text();
    Ok(out.add(&DroppedRow { file, line, id: instruction.id.as_deref(), rule, value, detail, instruction: text })?)
}

fn rounded(similarity: f64) -> f64 {
    (similarity * 1000.0).round() / 1000.0
}

type Read = (u64, Result<Vec<u8>, crate::instruction::BadRow>);

/// Judges rows side by side, and gives them back in order.
fn judge_all(batch: Vec<Read>, options: &Options) -> Vec<(u64, Judged)> {
    let share = batch.len().div_ceil(options.threads.max(1));
    let mut batch = batch.into_iter();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        loop {
            let part: Vec<Read> = batch.by_ref().take(share).collect();
            if part.is_empty() {
                break;
            }
            threads.push(scope.spawn(move || part.into_iter().map(|row| judge(row, options)).collect::<Vec<_>>()));
        }
        let joined =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    })
}

fn judge((line, read): Read, options: &Options) -> (u64, Judged) {
    let bad = |problem: String, key: &str| Judged::Bad(Dropped::new("bad_row", key, problem));
    let judged = match read {
        Err(row) => bad(row.problem, &row.key),
        Ok(bytes) => match row::parse(&bytes, line) {
            Err(fault) => bad(format!("{}; {}", fault.problem, fault.remedy), &fault.key),
            Ok(instruction) => stage::judge(instruction, options),
        },
    };
    (line, judged)
}

//! Chooses the instructions worth writing: language, length and intent, rule lists, duplicates, quotas.
//!
//! Two passes over the input. The first evaluates every row in the order of [`ROW_RULES`] and remembers a few bytes of each that
//! passes; then the quotas choose among those; the second writes the chosen ones in the order of the input. What is left
//! out is listed with rule and value. Memory grows by about 400 bytes for each row that passes, for the search for near
//! duplicates, and by its words where topics are asked for; texts are never held.

mod intent;
mod options;
mod quota;
mod row_rules;
pub mod rules;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::dataset::input::{InputError, Output, Row, Rows, row};
use crate::domain::instruction::Instruction;
use crate::domain::language::Language;
use crate::text::similarity::{Index, Signature};

pub use intent::{AnswerCounts, IntentModel};
pub use options::{Options, SelectError};
pub use rules::{RuleError, Rules};

use intent::IntentAnswers;
use quota::Candidate;
use row_rules::{Dropped, Intent, Passed, RowResult};

/// Rows that are evaluated at a time: enough to keep all cores busy, few enough to hold.
const BATCH: usize = 2048;

/// The rules that drop a row, in the order in which they are asked.
pub const ROW_RULES: [&str; 11] = [
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
    INTENT,
];
/// The rule that leaves out what a model calls a wish for a short answer.
const INTENT: &str = "intent";
/// The rule that leaves out what no quota has room for.
pub const QUOTA: &str = "quota";

/// Counts of rows, stage by stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows that were read.
    pub read: u64,
    /// Rows left out by each rule of [`ROW_RULES`] and by the quota, in that order.
    pub dropped: Vec<(&'static str, u64)>,
    /// Rows that were chosen.
    pub kept: u64,
    /// Chosen rows in English.
    pub english: u64,
    /// Chosen rows in Chinese.
    pub chinese: u64,
    /// Kept rows that state a length, ask for a long text in other words (or do by a model's word), and of which neither
    /// the rules nor a model can tell.
    pub stated: u64,
    /// Kept rows that ask for a long text in other words, or do by what a model says.
    pub long: u64,
    /// Kept rows of which neither the rules nor a model can tell.
    pub unknown: u64,
    /// What a model said of the rows of which the rules cannot tell; none if none was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<AnswerCounts>,
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

/// Reads `input`, writes the chosen rows to `out` and the others to `dropped`. Where a model is given, it is asked about the
/// rows of which the rules cannot tell whether they want a long text.
pub fn select<'a>(
    input: &'a Path,
    out: &Path,
    dropped: &Path,
    options: &'a Options,
    intent_model: Option<IntentModel<'a>>,
) -> Result<Report, SelectError> {
    let (mut kept, dropped) = (Output::create(out)?, Output::create(dropped)?);
    let mut selection = Selection::new(input, dropped, options, intent_model)?;
    selection.first_pass()?;
    let Selection { candidates, mut dropped, mut counts, read, questions, .. } = selection;
    let decisions = quota::draw(&candidates, &options.quotas, options.topics);

    let mut report = Report { read, asked: questions.map(|questions| questions.asked), ..Report::default() };
    let mut rows = Rows::of_instructions(input)?;
    let mut next = candidates.iter().zip(&decisions).peekable();
    while let Some(read) = rows.next() {
        let Some((candidate, decision)) = next.next_if(|(candidate, _)| candidate.line == rows.line()) else {
            continue;
        };
        let changed = || SelectError::Changed { path: input.to_owned() };
        let bytes = read.map_err(|_| changed())?;
        let mut instruction = row::parse(&bytes, rows.line()).map_err(|_| changed())?;
        instruction.language = candidate.language;
        if decision.left_out {
            let limit = options.quotas.get(&candidate.language).copied().unwrap_or(u64::MAX);
            let topic = decision.topic.map_or_else(String::new, |topic| format!("; this one is of topic {topic}"));
            let drop = Dropped::new(QUOTA, limit, format!("{limit} rows are enough{topic}"));
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
        ROW_RULES.into_iter().chain([QUOTA]).map(|rule| (rule, counts.get(rule).copied().unwrap_or(0))).collect();
    dropped.finish()?;
    kept.finish()?;
    Ok(report)
}

/// The first pass.
struct Selection<'a> {
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
    against_rows: Vec<(usize, u64)>,
    candidates: Vec<Candidate>,
    /// Those of this batch, with their instructions, until their intent is settled.
    batch: Vec<(Candidate, Instruction)>,
    questions: Option<IntentAnswers<'a>>,
    dropped: Output,
    counts: HashMap<&'static str, u64>,
    read: u64,
}

impl<'a> Selection<'a> {
    fn new(
        input: &'a Path,
        dropped: Output,
        options: &'a Options,
        intent_model: Option<IntentModel<'a>>,
    ) -> Result<Self, SelectError> {
        let mut selection = Self {
            options,
            input,
            rows: Rows::of_instructions(input)?,
            exact: HashMap::new(),
            near: Index::new(options.similarity),
            lines: Vec::new(),
            against: Index::new(options.similarity),
            against_rows: Vec::new(),
            candidates: Vec::new(),
            batch: Vec::new(),
            questions: intent_model.map(IntentAnswers::new).transpose()?,
            dropped,
            counts: HashMap::new(),
            read: 0,
        };
        for (file, path) in options.against.iter().enumerate() {
            // A row of theirs that cannot be read would let through what must not pass.
            for instruction in crate::dataset::input::read(path)? {
                let instruction = instruction.map_err(|bad| InputError::Format {
                    path: path.clone(),
                    problem: format!("line {}: {}", bad.line, bad.problem),
                    remedy: "fix the row, then rerun: it cannot be excluded while it cannot be read",
                })?;
                selection.against.insert(&Signature::of(&instruction.text()));
                selection.against_rows.push((file, instruction.line));
            }
        }
        Ok(selection)
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
            for (line, result) in evaluate_rows(batch, self.options) {
                match result {
                    RowResult::Bad(drop) => self.drop_bad(line, &drop)?,
                    RowResult::Dropped(instruction, drop) => self.drop(&instruction, line, &drop)?,
                    RowResult::Passed(passed) => self.compare(line, *passed)?,
                }
            }
            self.resolve_intent()?;
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
            let (file, at) = self.against_rows[found.text as usize];
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
                let language = instruction.language;
                let topics = self.options.topics > 0;
                let words = if topics { topic::words(&instruction.text(), language) } else { Box::default() };
                self.batch.push((Candidate { line, language, intent, key, words }, instruction));
                Ok(())
            }
        }
    }

    /// Makes candidates of the batch; of those of which the rules cannot tell, of what a model calls long.
    fn resolve_intent(&mut self) -> Result<(), SelectError> {
        let batch = std::mem::take(&mut self.batch);
        let mut answers = Vec::new().into_iter();
        if let Some(questions) = &mut self.questions {
            let open =
                batch.iter().filter(|(row, _)| row.intent == Intent::Unknown).map(|(_, instruction)| instruction);
            answers = questions.ask(&self.options.rules, &open.collect::<Vec<_>>())?.into_iter();
        }
        for (mut row, instruction) in batch {
            if row.intent == Intent::Unknown {
                match answers.next().flatten() {
                    Some(true) => row.intent = Intent::Long,
                    Some(false) => {
                        let model = self.questions.as_ref().map_or("", IntentAnswers::model);
                        let drop = Dropped::new(INTENT, "no", format!("{model}: asks for a short answer"));
                        self.drop(&instruction, row.line, &drop)?;
                        continue;
                    }
                    None => {}
                }
            }
            self.candidates.push(row);
        }
        Ok(())
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

type Read = (u64, Result<Vec<u8>, crate::domain::instruction::BadRow>);

/// Judges rows side by side, and gives them back in order.
fn evaluate_rows(batch: Vec<Read>, options: &Options) -> Vec<(u64, RowResult)> {
    let share = batch.len().div_ceil(options.threads.max(1));
    let mut batch = batch.into_iter();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        loop {
            let part: Vec<Read> = batch.by_ref().take(share).collect();
            if part.is_empty() {
                break;
            }
            threads.push(scope.spawn(move || part.into_iter().map(|row| evaluate(row, options)).collect::<Vec<_>>()));
        }
        let joined =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    })
}

fn evaluate((line, read): Read, options: &Options) -> (u64, RowResult) {
    let bad = |problem: String, key: &str| RowResult::Bad(Dropped::new("bad_row", key, problem));
    let result = match read {
        Err(row) => bad(row.problem, &row.key),
        Ok(bytes) => match row::parse_stated(&bytes, line) {
            Err(fault) => bad(format!("{}; {}", fault.problem, fault.remedy), &fault.key),
            Ok((instruction, states_language)) => row_rules::evaluate(instruction, states_language, options),
        },
    };
    (line, result)
}

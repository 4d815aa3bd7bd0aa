//! Rows of `rejected.jsonl` and `failed.jsonl`: every document that is not in the corpus, and why.

use longhand_proto::{DocumentId, WorkerId};
use serde::{Deserialize, Serialize};

use super::{Record, SectionRecord, plural};
use crate::domain::document::{Document, Progress, Verdict};
use crate::domain::instruction::Instruction;
use crate::domain::language::Language;
use crate::domain::plan::{Plan, Step};
use crate::domain::recipe::Recipe;
use crate::store::{self, Attempt, AttemptEnd, Run};

/// Class of a document that is stored and cannot be read, or contradicts its state.
pub(super) const UNREADABLE: &str = "unreadable";

/// A document that a rule rejected: its record, as if it had been accepted, and the verdict.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rejected {
    #[serde(flatten)]
    pub(super) record: Record,
    /// Line of the input file, from 1.
    pub(super) line: u64,
    /// The instruction as one text.
    instruction: String,
    pub(super) rule: String,
    pub(super) value: f64,
    pub(super) threshold: f64,
    pub(super) detail: String,
}

/// A document that could not be finished.
#[derive(Debug, Serialize)]
pub(super) struct Failed<'a> {
    id: DocumentId,
    #[serde(flatten)]
    instruction: InstructionRow<'a>,
    candidate: Option<u32>,
    class: &'a str,
    message: String,
    attempts: Vec<AttemptRow<'a>>,
    plan: &'a [Step],
    /// What was written before the failure.
    sections: Vec<SectionRecord>,
}

/// The instruction and its place in the input.
#[derive(Debug, Serialize)]
struct InstructionRow<'a> {
    instruction_id: Option<&'a str>,
    /// Line of the input file, from 1; 0 if it is not known.
    line: u64,
    language: Option<Language>,
    instruction: String,
}

#[derive(Debug, Serialize)]
struct AttemptRow<'a> {
    worker: &'a WorkerId,
    granted_ms: u64,
    ended_ms: u64,
    end: AttemptEnd,
    detail: &'a serde_json::Value,
}

impl<'a> InstructionRow<'a> {
    fn of(instruction: &'a Instruction) -> Self {
        Self {
            instruction_id: instruction.id.as_deref(),
            line: instruction.line,
            language: Some(instruction.language),
            instruction: instruction.text(),
        }
    }
}

impl Rejected {
    /// None unless the document is finished and rejected.
    pub(super) fn of(document: &Document, run: &Run, recipe: &Recipe) -> Option<Self> {
        let Progress::Finished { verdict: Verdict::Rejected { rule, value, threshold, detail }, .. } =
            &document.progress
        else {
            return None;
        };
        Some(Self {
            record: Record::of(document, run, recipe)?,
            line: document.instruction.line,
            instruction: document.instruction.text(),
            rule: rule.clone(),
            value: *value,
            threshold: *threshold,
            detail: detail.clone(),
        })
    }
}

impl<'a> Failed<'a> {
    /// Of a document that cannot be read, nothing but its id is known.
    pub(super) fn unreadable(id: DocumentId, problem: &str) -> Self {
        let instruction = InstructionRow { instruction_id: None, line: 0, language: None, instruction: String::new() };
        let message = problem.to_owned();
        let (attempts, plan, sections) = (Vec::new(), &[], Vec::new());
        Self { id, instruction, candidate: None, class: UNREADABLE, message, attempts, plan, sections }
    }

    /// A document that failed by lost leases has no message of its own: only the store knows of it.
    pub(super) fn of(stored: &'a store::Record, document: &'a Document, attempts: &'a [Attempt]) -> Self {
        let message = match &document.progress {
            Progress::Failed { message, .. } => message.clone(),
            Progress::Planning { .. }
            | Progress::Writing { .. }
            | Progress::Summarising { .. }
            | Progress::Judging { .. }
            | Progress::Finished { .. }
            | Progress::Cancelled { .. } => {
                let losses = attempts.iter().filter(|attempt| attempt.end == AttemptEnd::Lost).count();
                format!(
                    "lease expired {}: the worker crashed, hung or lost its connection",
                    plural(losses as u64, "time")
                )
            }
        };
        Self {
            id: document.id,
            instruction: InstructionRow::of(&document.instruction),
            candidate: Some(document.candidate),
            class: &stored.reason,
            message,
            attempts: attempts
                .iter()
                .map(|Attempt { lease: _, worker, granted_ms, ended_ms, end, detail }| AttemptRow {
                    worker,
                    granted_ms: *granted_ms,
                    ended_ms: *ended_ms,
                    end: *end,
                    detail,
                })
                .collect(),
            plan: document.plan().map_or(&[], |Plan { steps }| steps),
            sections: document.sections().iter().map(SectionRecord::of).collect(),
        }
    }
}

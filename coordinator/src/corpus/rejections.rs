//! Rows of `rejected.jsonl` and `failed.jsonl`: every document that is not in the corpus, and why.

use longhand_proto::{DocumentId, WorkerId};
use serde::Serialize;

use super::record::count;
use super::{JudgeRecord, SectionRecord, plural};
use crate::domain::document::{Document, Progress, Verdict};
use crate::domain::instruction::Instruction;
use crate::domain::judge;
use crate::domain::language::Language;
use crate::domain::plan::{Plan, Step};
use crate::store::{Attempt, AttemptEnd, Record};
use crate::text::filter::score_length;

/// Class of a document that is stored and cannot be read, or contradicts its state.
pub(super) const UNREADABLE: &str = "unreadable";

/// A document that a rule rejected.
#[derive(Debug, Serialize)]
pub(super) struct Rejected<'a> {
    id: DocumentId,
    #[serde(flatten)]
    instruction: InstructionRow<'a>,
    candidate: u32,
    rule: &'a str,
    value: f64,
    threshold: f64,
    detail: &'a str,
    length: Option<u32>,
    response_length: u32,
    score_length: Option<f64>,
    score_quality: Option<f64>,
    judge: Option<JudgeRecord>,
    plan: &'a [Step],
    sections: Vec<SectionRecord>,
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

impl<'a> Rejected<'a> {
    /// None unless the document is finished and rejected.
    pub(super) fn of(document: &'a Document) -> Option<Self> {
        let Progress::Finished {
            plan,
            sections,
            text,
            verdict: Verdict::Rejected { rule, value, threshold, detail },
            votes,
        } = &document.progress
        else {
            return None;
        };
        let length = document.instruction.required_words;
        let response_length = count(text);
        Some(Self {
            id: document.id,
            instruction: InstructionRow::of(&document.instruction),
            candidate: document.candidate,
            rule,
            value: *value,
            threshold: *threshold,
            detail,
            length,
            response_length,
            score_length: length.map(|required| score_length(required, response_length)),
            score_quality: judge::score_quality(votes),
            judge: JudgeRecord::of(votes),
            plan: &plan.steps,
            sections: sections.iter().map(SectionRecord::of).collect(),
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
    pub(super) fn of(stored: &'a Record, document: &'a Document, attempts: &'a [Attempt]) -> Self {
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

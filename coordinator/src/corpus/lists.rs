//! `rejected.jsonl` and `failed.jsonl`: every document that is not in the corpus, and why.

use longhand_proto::{DocumentId, WorkerId};
use serde::Serialize;

use super::record::count;
use super::{Judged, SectionRecord};
use crate::domain::document::{Document, Progress, Verdict};
use crate::domain::instruction::Instruction;
use crate::domain::judge;
use crate::domain::language::Language;
use crate::domain::plan::{Plan, Step};
use crate::store::{Attempt, AttemptEnd, Record};
use crate::text::filter::score_length;

#[derive(Debug, Serialize)]
pub(super) struct Rejected<'a> {
    id: DocumentId,
    #[serde(flatten)]
    instruction: Asked<'a>,
    candidate: u32,
    rule: &'a str,
    value: f64,
    threshold: f64,
    detail: &'a str,
    length: Option<u32>,
    response_length: u32,
    score_length: Option<f64>,
    score_quality: Option<f64>,
    judge: Option<Judged>,
    plan: &'a [Step],
    sections: Vec<SectionRecord>,
}

#[derive(Debug, Serialize)]
pub(super) struct Failed<'a> {
    id: DocumentId,
    #[serde(flatten)]
    instruction: Asked<'a>,
    candidate: u32,
    class: &'a str,
    message: String,
    attempts: Vec<AttemptRow<'a>>,
    plan: &'a [Step],
    /// What was written before the failure.
    sections: Vec<SectionRecord>,
}

/// What was asked, and where it stands in the input.
#[derive(Debug, Serialize)]
struct Asked<'a> {
    instruction_id: Option<&'a str>,
    /// Line of the input file, from 1.
    line: u64,
    language: Language,
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

impl<'a> Asked<'a> {
    fn of(instruction: &'a Instruction) -> Self {
        Self {
            instruction_id: instruction.id.as_deref(),
            line: instruction.line,
            language: instruction.language,
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
            instruction: Asked::of(&document.instruction),
            candidate: document.candidate,
            rule,
            value: *value,
            threshold: *threshold,
            detail,
            length,
            response_length,
            score_length: length.map(|required| score_length(required, response_length)),
            score_quality: judge::score_quality(votes),
            judge: Judged::of(votes),
            plan: &plan.steps,
            sections: sections.iter().map(SectionRecord::of).collect(),
        })
    }
}

impl<'a> Failed<'a> {
    /// The store alone knows of a document that failed by its lost leases.
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
                format!("{losses} leases of it ran out: each time the worker died, hung or lost its connection")
            }
        };
        Self {
            id: document.id,
            instruction: Asked::of(&document.instruction),
            candidate: document.candidate,
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

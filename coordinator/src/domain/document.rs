//! The document: an instruction, how far the work on it is, and what was written. What a finished task makes of it stands
//! in [`crate::lifecycle`].

use longhand_proto::task::{ModelInfo, TaskKind, Usage};
use longhand_proto::{DocumentId, RunId};
use serde::{Deserialize, Serialize};

use super::instruction::{BadRow, Instruction, is_default};
use super::judge::Vote;
use super::language::Language;
use super::plan::Plan;
use super::recipe::Method;
use super::seed;

pub use super::section::{Assembled, Rejection, Section, Summary, assemble};

/// What the filters say of an assembled document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Accepted,
    Rejected {
        /// Name of the first rule that fired.
        rule: String,
        /// What it measured, and the recipe's threshold.
        value: f64,
        threshold: f64,
        /// A short excerpt or explanation, for people.
        detail: String,
    },
}

/// Where a document stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Progress {
    /// Waits for its plan. `repair` is the error of a plan that could not be read, for the one repair attempt.
    Planning {
        #[serde(default, skip_serializing_if = "is_default")]
        repair: Option<String>,
    },
    /// Writes step `sections.len()` of the plan.
    Writing {
        plan: Plan,
        sections: Vec<Section>,
        /// The sections after that step, where only that one is written anew; else empty.
        #[serde(rename = "kept", default, skip_serializing_if = "Vec::is_empty")]
        tail_sections: Vec<Section>,
    },
    /// Steps are left, and more is written than a prompt is to show: waits for a summary of the oldest part.
    Summarising {
        plan: Plan,
        sections: Vec<Section>,
    },
    /// All steps are written and no rule rejects the text: waits for vote `votes.len()` of the judge.
    Judging {
        plan: Plan,
        sections: Vec<Section>,
        votes: Vec<Vote>,
    },
    /// All steps are written and judged.
    Finished {
        plan: Plan,
        sections: Vec<Section>,
        text: String,
        verdict: Verdict,
        /// The judge's votes, those that could not be read included; empty where none was asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        votes: Vec<Vote>,
    },
    /// Ended by an error; what was written stays.
    Failed {
        class: String,
        message: String,
        plan: Option<Plan>,
        sections: Vec<Section>,
    },
    Cancelled {
        plan: Option<Plan>,
        sections: Vec<Section>,
    },
}

impl Progress {
    /// The plan and the sections written so far, for a move to another state.
    pub(crate) fn into_text(self) -> (Option<Plan>, Vec<Section>) {
        match self {
            Self::Planning { .. } => (None, Vec::new()),
            Self::Writing { plan, sections, .. }
            | Self::Summarising { plan, sections }
            | Self::Judging { plan, sections, .. }
            | Self::Finished { plan, sections, .. } => (Some(plan), sections),
            Self::Failed { plan, sections, .. } | Self::Cancelled { plan, sections } => (plan, sections),
        }
    }
}

/// The work on one instruction, or on one of the candidates of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Derived from run, instruction and candidate.
    pub id: DocumentId,
    /// The run that it belongs to.
    pub run: RunId,
    /// Number of the candidate, from 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub candidate: u32,
    /// Seed that its tasks' seeds are made of.
    pub seed: u64,
    /// What is asked for.
    pub instruction: Instruction,
    /// Where it stands.
    pub progress: Progress,
    /// Summaries of what is written, each covering more than the one before.
    #[serde(default, skip_serializing_if = "is_default")]
    pub summaries: Vec<Summary>,
    /// Attempts of the current task that ended in an error, as the store counts them too. The sampler's seed depends on
    /// it; lost and released leases leave it alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub errors: u32,
    /// Texts of the current task that a rule rejected. Like errors, each changes the sampler's seed; errors are counted
    /// from the last of them on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rejections: Vec<Rejection>,
    /// How often the document was requeued: another round writes other texts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub round: u32,
    /// W3C trace context minted at submission; empty if not traced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub traceparent: String,
    /// Model that wrote the latest task.
    #[serde(default, skip_serializing_if = "is_default")]
    pub model: Option<ModelInfo>,
    /// Token use of all attempts, plans and discarded ones included.
    #[serde(default, skip_serializing_if = "is_default")]
    pub usage: Usage,
}

/// Error class of a row that could not be read.
pub const BAD_ROW: &str = "bad_row";

impl Document {
    /// A document that waits for its plan. `seed` is the run's.
    pub fn new(run: &RunId, instruction: Instruction, candidate: u32, seed: u64, traceparent: String) -> Self {
        let id = DocumentId::derive(run, &instruction.identity(), candidate);
        let progress = Progress::Planning { repair: None };
        Self::at(run, id, instruction, candidate, seed::of_document(seed, id), traceparent, progress)
    }

    /// A document as the method begins it: one in one piece needs no plan of the model's.
    pub fn begin(
        run: &RunId,
        method: Method,
        instruction: Instruction,
        candidate: u32,
        seed: u64,
        traceparent: String,
    ) -> Self {
        let mut document = Self::new(run, instruction, candidate, seed, traceparent);
        if method == Method::Direct {
            let plan = Plan::single_piece(document.instruction.required_words.unwrap_or(0));
            document.progress = Progress::Writing { plan, sections: Vec::new(), tail_sections: Vec::new() };
        }
        document
    }

    /// A row that could not be read, as a document that failed at birth: so that it is listed and counted like all
    /// others. Its id comes from the row's place and content, so the same file gives the same document.
    pub fn bad_row(run: &RunId, row: &BadRow) -> Self {
        let id = DocumentId::derive(run, &format!("bad row {} {}", row.line, row.content_hash), 0);
        let instruction = Instruction {
            id: None,
            messages: Vec::new(),
            language: Language::En,
            required_words: None,
            context: Vec::new(),
            metadata: serde_json::Map::new(),
            line: row.line,
        };
        let progress =
            Progress::Failed { class: BAD_ROW.into(), message: row.to_string(), plan: None, sections: Vec::new() };
        Self::at(run, id, instruction, 0, 0, String::new(), progress)
    }

    fn at(
        run: &RunId,
        id: DocumentId,
        instruction: Instruction,
        candidate: u32,
        seed: u64,
        traceparent: String,
        progress: Progress,
    ) -> Self {
        Self {
            id,
            run: run.clone(),
            candidate,
            seed,
            instruction,
            progress,
            summaries: Vec::new(),
            errors: 0,
            rejections: Vec::new(),
            round: 0,
            traceparent,
            model: None,
            usage: Usage::default(),
        }
    }

    /// True if the document is finished and no rule rejects it.
    pub fn is_accepted(&self) -> bool {
        matches!(self.progress, Progress::Finished { verdict: Verdict::Accepted, .. })
    }

    /// The whole text, if the document has come to a verdict.
    pub fn assembled(&self) -> Option<Assembled<'_>> {
        let Progress::Finished { plan, sections, text, .. } = &self.progress else { return None };
        Some(Assembled { instruction: &self.instruction, plan, sections, text })
    }

    /// The plan, if there is one yet.
    pub fn plan(&self) -> Option<&Plan> {
        match &self.progress {
            Progress::Planning { .. } => None,
            Progress::Writing { plan, .. }
            | Progress::Summarising { plan, .. }
            | Progress::Judging { plan, .. }
            | Progress::Finished { plan, .. } => Some(plan),
            Progress::Failed { plan, .. } | Progress::Cancelled { plan, .. } => plan.as_ref(),
        }
    }

    /// The sections written so far, in order.
    pub fn sections(&self) -> &[Section] {
        match &self.progress {
            Progress::Planning { .. } => &[],
            Progress::Writing { sections, .. }
            | Progress::Summarising { sections, .. }
            | Progress::Judging { sections, .. }
            | Progress::Finished { sections, .. }
            | Progress::Failed { sections, .. }
            | Progress::Cancelled { sections, .. } => sections,
        }
    }

    /// The judge's votes so far.
    pub fn votes(&self) -> &[Vote] {
        match &self.progress {
            Progress::Judging { votes, .. } | Progress::Finished { votes, .. } => votes,
            Progress::Planning { .. }
            | Progress::Writing { .. }
            | Progress::Summarising { .. }
            | Progress::Failed { .. }
            | Progress::Cancelled { .. } => &[],
        }
    }

    /// What is being written: the task's kind and its index, without rendering its prompt.
    pub fn current(&self) -> (TaskKind, u32) {
        match &self.progress {
            Progress::Writing { sections, .. } => (TaskKind::Section, sections.len() as u32),
            Progress::Summarising { .. } => (TaskKind::Summary, self.summaries.len() as u32),
            Progress::Judging { votes, .. } => (TaskKind::Judge, votes.len() as u32),
            Progress::Planning { .. }
            | Progress::Finished { .. }
            | Progress::Failed { .. }
            | Progress::Cancelled { .. } => (TaskKind::Plan, 0),
        }
    }

    /// Tries of the current task that ended without a text that was taken: errors and rejections.
    pub fn failed_tries(&self) -> u32 {
        self.rejections.last().map_or(0, |rejection| rejection.attempt) + self.errors
    }

    /// Trace id of the document, 32 hex digits, or empty if it is not traced.
    pub fn trace_id(&self) -> String {
        longhand_proto::trace::id_of(&self.traceparent)
    }
}

/// Adds the tokens of one attempt to a sum.
pub(crate) fn add_usage(sum: &mut Usage, usage: Usage) {
    sum.prompt = sum.prompt.saturating_add(usage.prompt);
    sum.cached = sum.cached.saturating_add(usage.cached);
    sum.reusable = sum.reusable.saturating_add(usage.reusable);
    sum.generated = sum.generated.saturating_add(usage.generated);
    sum.resumed = sum.resumed.saturating_add(usage.resumed);
}

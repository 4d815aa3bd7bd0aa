//! The document: an instruction, how far the work on it is, and what was written. What a finished task makes of it stands
//! in [`crate::lifecycle`].

use longhand_proto::task::{FinishReason, ModelInfo, TaskKind, Timings, Usage};
use longhand_proto::{DocumentId, RunId, WorkerId};
use serde::{Deserialize, Serialize};

use super::instruction::{BadRow, Instruction, is_default};
use super::judge::Vote;
use super::language::Language;
use super::plan::Plan;
use super::recipe::Method;
use super::seed;

/// The text written for one step, with where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// As written, cleaned of identifiers and artefacts.
    pub text: String,
    pub target_words: u32,
    pub words: u32,
    pub finish_reason: FinishReason,
    /// Number of the try that wrote it: 1 plus the errors of the task before it.
    pub attempt: u32,
    pub worker: WorkerId,
    pub usage: Usage,
    pub timings: Timings,
    pub seed: u64,
    /// Trace id of the document, 32 hex digits, or empty.
    pub trace_id: String,
    /// Ids of the context texts that its prompt held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<String>,
}

/// What the first sections say, in short: stands in prompts in their place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub text: String,
    /// Number of the sections that it covers.
    pub sections: u32,
    pub worker: WorkerId,
    pub usage: Usage,
    pub seed: u64,
}

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

/// The parts of an assembled document that filters and exports look at.
#[derive(Debug, Clone, Copy)]
pub struct Assembled<'a> {
    pub instruction: &'a Instruction,
    pub plan: &'a Plan,
    pub sections: &'a [Section],
    /// Sections joined by blank lines.
    pub text: &'a str,
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
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kept: Vec<Section>,
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

/// The work on one instruction, or on one of the candidates of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub id: DocumentId,
    pub run: RunId,
    #[serde(default, skip_serializing_if = "is_default")]
    pub candidate: u32,
    pub seed: u64,
    pub instruction: Instruction,
    pub progress: Progress,
    /// Summaries of what is written, each covering more than the one before.
    #[serde(default, skip_serializing_if = "is_default")]
    pub summaries: Vec<Summary>,
    /// Attempts of the current task that ended in an error, as the store counts them too. The sampler's seed depends on
    /// it; lost and released leases leave it alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub errors: u32,
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
            let plan = Plan::whole(document.instruction.required_words.unwrap_or(0));
            document.progress = Progress::Writing { plan, sections: Vec::new(), kept: Vec::new() };
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
            round: 0,
            traceparent,
            model: None,
            usage: Usage::default(),
        }
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

    /// Trace id of the document, 32 hex digits, or empty if it is not traced.
    pub fn trace_id(&self) -> String {
        longhand_proto::trace::id_of(&self.traceparent)
    }
}

/// The text of a document: its sections, a blank line between them.
pub fn assemble(sections: &[Section]) -> String {
    sections.iter().map(|section| section.text.as_str()).collect::<Vec<_>>().join("\n\n")
}

/// Adds the tokens of one attempt to a sum.
pub(crate) fn add_usage(sum: &mut Usage, usage: Usage) {
    sum.prompt = sum.prompt.saturating_add(usage.prompt);
    sum.cached = sum.cached.saturating_add(usage.cached);
    sum.reusable = sum.reusable.saturating_add(usage.reusable);
    sum.generated = sum.generated.saturating_add(usage.generated);
    sum.resumed = sum.resumed.saturating_add(usage.resumed);
}

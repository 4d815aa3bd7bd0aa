//! The document: what is written next, and what a finished task makes of it. Pure: no async, no clock, no I/O.
//!
//! ```text
//!             bad plan, once              a section, steps left               a vote, votes left
//!                ┌───┐                           ┌───┐                              ┌───┐
//!                ▼   │       a good plan         ▼   │   last step, kept by rules   ▼   │     last vote
//!   new row ──▶ Planning ─────────────────────▶ Writing ────────────────────────▶ Judging ──────────┐
//!                │  ▲ │                          │ ▲ ▲ │                             │ ▲          ▼
//!                │  │ │   more than a prompt     ▼ │ │ └─────── last step, ──────────┼─┼──▶ Finished (accepted
//!                │  │ │   shows: a summary      Summarising     or many truncated    │ │              or rejected)
//!   bad row ─┐   │  │ │                          │   │                               │ │              │
//!            ▼   ▼  │ │  errors used up          ▼   │        no vote can be read,   ▼ │              │
//!          Failed ◀─┼─┼──or permanent────────────────┼────────where one must──────────  │              │
//!            │      │ └──────▶ Cancelled ◀───────────┼─────────────────────────────────┤              │
//!            └──────┴───── requeue, from any end but a bad row ────────────────────────┴──────────────┘
//! ```
//!
//! The moves stand in one place, `may_move` in `document/apply.rs`. A lost or released lease is no move at all: the
//! store gives the same task, with its checkpoint, to the next worker.
//!
//! # What an error does
//! Each of these adds one to [`Document::errors`] and is tried again until the recipe's `retry.max_errors` is reached:
//! a worker's failure, a section that is empty after cleaning (`empty_section`), one that the loop stop ended
//! (`repetition`), one that was cut (`truncated_section`). Then the document fails with the last error's class, except:
//! - a plan that cannot be used is repaired once, with the error named in the prompt; the second time is the end
//!   (`bad_plan`), unless it fell into a loop, which is chance; a length that no plan can reach is the end at once
//!   (`length_unreachable`);
//! - a section that is still cut on the last try is kept, marked by its finish reason, as long as the recipe's
//!   `filters.max_truncated` allows it. One more, and the document is finished on the spot, rejected by the rule
//!   `truncated`: to write on would cost tokens for a text that is already lost. It is never taken as whole.
//!
//! An answer of the judge that cannot be read (`bad_verdict`) is asked for again like all else; on the last try the vote is
//! kept as one that could not be read. With a threshold for S_q a document without one readable vote fails (`unjudged`),
//! and a requeue judges it again; without a threshold it is accepted, its score left open and its votes in its record.
//!
//! # Seeds
//! A task's seed is a hash of the document's seed, the round, the task and the number of errors so far. So a retry
//! writes another text, while a task resumed from a checkpoint after a lost lease goes on with the same random numbers.

mod apply;
mod rolling;
mod seed;
mod task;
#[cfg(test)]
mod tests;

use longhand_proto::task::{FinishReason, Message, ModelInfo, TaskKind, Timings, Usage};
use longhand_proto::{DocumentId, RunId, WorkerId};
use serde::{Deserialize, Serialize};

use crate::instruction::BadRow;
use crate::judge::Vote;
use crate::recipe::Method;

pub(crate) use apply::SCORE_QUALITY;
pub(crate) use apply::add_usage;
pub use apply::{Applied, Outcome, Refused, assemble};

/// Language of templates, filters and word counts' meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    En,
    Zh,
}

/// One input row that passed the border.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instruction {
    /// The row's own id, or none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub id: Option<String>,
    /// The conversation as it goes into the corpus; the last turn is the user's.
    pub messages: Vec<Message>,
    pub language: Language,
    /// Words asked for: the row's `length` or what the text states.
    #[serde(default, skip_serializing_if = "is_default")]
    pub required_words: Option<u32>,
    /// Texts to draw on, with ids.
    #[serde(default, skip_serializing_if = "is_default")]
    pub context: Vec<Context>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Line in the input file from 1.
    pub line: u64,
}

impl Instruction {
    /// What the document id is derived from: the row's own id, or its text where it has none.
    pub fn identity(&self) -> String {
        self.id.clone().unwrap_or_else(|| self.text())
    }

    /// What is asked for, as one text. Earlier turns of a conversation stand before the last one, each under the name
    /// of who said it.
    pub fn text(&self) -> String {
        let Some((last, earlier)) = self.messages.split_last() else { return String::new() };
        if earlier.is_empty() {
            return last.content.trim().to_owned();
        }
        let zh = self.language == Language::Zh;
        let mut text = String::from(if zh { "此前的对话：\n" } else { "The conversation so far:\n" });
        for turn in earlier {
            let who = match (turn.role.as_str(), zh) {
                ("system", false) => "Rules",
                ("system", true) => "规则",
                ("assistant", false) => "Assistant",
                ("assistant", true) => "助手",
                (_, false) => "User",
                (_, true) => "用户",
            };
            let colon = if zh { "：" } else { ": " };
            text.push_str(&format!("\n{who}{colon}{}\n", turn.content.trim()));
        }
        text.push_str(if zh { "\n现在的要求：\n\n" } else { "\nThe request now:\n\n" });
        text.push_str(last.content.trim());
        text
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub id: String,
    pub text: String,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub main_point: String,
    /// Words to write.
    pub words: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    pub steps: Vec<Step>,
}

impl Plan {
    /// The plan of a text that is written in one piece: one step without a main point of its own.
    fn whole(words: u32) -> Self {
        Self { steps: vec![Step { main_point: String::new(), words }] }
    }

    /// True for a text that is written in one piece.
    pub fn is_whole(&self) -> bool {
        matches!(self.steps.as_slice(), [step] if step.main_point.is_empty())
    }
}

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

/// A field that says nothing is left out: of documents that wait there may be a million.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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

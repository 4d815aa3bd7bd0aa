//! The document: what is written next, and what a finished task makes of it. Pure: no async, no clock, no I/O.

use longhand_proto::task::{FinishReason, Message, ModelInfo, Timings, Usage};
use longhand_proto::{DocumentId, RunId, WorkerId};
use serde::{Deserialize, Serialize};

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
    pub id: Option<String>,
    /// The conversation as it goes into the corpus; the last turn is the user's.
    pub messages: Vec<Message>,
    pub language: Language,
    /// Words asked for: the row's `length` or what the text states.
    pub required_words: Option<u32>,
    /// Texts to draw on, with ids.
    pub context: Vec<Context>,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Line in the input file from 1.
    pub line: u64,
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

/// The text written for one step, with where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// As written, cleaned of identifiers and artefacts.
    pub text: String,
    pub target_words: u32,
    pub words: u32,
    pub finish_reason: FinishReason,
    /// Number of the attempt that wrote it, from 1.
    pub attempt: u32,
    pub worker: WorkerId,
    pub usage: Usage,
    pub timings: Timings,
    pub seed: u64,
    /// Trace id of the document, 32 hex digits, or empty.
    pub trace_id: String,
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
        repair: Option<String>,
    },
    /// Writes step `sections.len()` of the plan.
    Writing {
        plan: Plan,
        sections: Vec<Section>,
    },
    /// All steps are written and judged.
    Finished {
        plan: Plan,
        sections: Vec<Section>,
        text: String,
        verdict: Verdict,
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
    pub candidate: u32,
    pub seed: u64,
    pub instruction: Instruction,
    pub progress: Progress,
    /// Attempts of the current task so far, whatever their end; the next one is this plus 1.
    pub attempts: u32,
    /// W3C trace context minted at submission; empty if not traced.
    pub traceparent: String,
    /// Model that wrote the latest task.
    pub model: Option<ModelInfo>,
    /// Token use of all attempts, plans and discarded ones included.
    pub usage: Usage,
}

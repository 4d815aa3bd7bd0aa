//! What is written of a document: sections, summaries of them, and the parts of the whole.

use longhand_proto::WorkerId;
use longhand_proto::task::{FinishReason, Timings, Usage};
use serde::{Deserialize, Serialize};

use super::instruction::Instruction;
use super::plan::Plan;

/// The text written for one step, with where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// As written, cleaned of identifiers and artefacts.
    pub text: String,
    /// Words that its step asked for; 0 where no length was asked for.
    pub target_words: u32,
    /// Words of the text.
    pub words: u32,
    /// Why decoding ended.
    pub finish_reason: FinishReason,
    /// Number of the try that wrote it: 1 plus the errors of the task before it.
    pub attempt: u32,
    /// The worker that wrote it.
    pub worker: WorkerId,
    /// Tokens of the attempt that wrote it.
    pub usage: Usage,
    /// Times of that attempt inside the engine.
    pub timings: Timings,
    /// Seed of that attempt.
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
    /// The summary itself.
    pub text: String,
    /// Number of the sections that it covers.
    pub sections: u32,
    /// The worker that wrote it.
    pub worker: WorkerId,
    /// Tokens of the attempt that wrote it.
    pub usage: Usage,
    /// Seed of that attempt.
    pub seed: u64,
}

/// The parts of an assembled document that filters and exports look at.
#[derive(Debug, Clone, Copy)]
pub struct Assembled<'a> {
    /// What was asked for.
    pub instruction: &'a Instruction,
    /// The plan that it follows.
    pub plan: &'a Plan,
    /// All sections that were written, in order.
    pub sections: &'a [Section],
    /// Sections joined by blank lines.
    pub text: &'a str,
}

/// The text of a document: its sections, a blank line between them.
pub fn assemble(sections: &[Section]) -> String {
    sections.iter().map(|section| section.text.as_str()).collect::<Vec<_>>().join("\n\n")
}

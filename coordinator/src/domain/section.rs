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
    /// Words that it was to have: its step's, with what the sections before it left over; 0 where no length was asked for.
    pub target_words: u32,
    /// Words that its prompt asked for, where these are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_words: Option<u32>,
    /// Words of the text.
    pub words: u32,
    /// Why decoding ended.
    pub finish_reason: FinishReason,
    /// Number of the try that wrote it: 1 plus the errors and rejections of the task before it.
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
    /// The texts of this step that were rejected before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejections: Vec<Rejection>,
}

impl Section {
    /// Words that its prompt asked for.
    pub fn asked(&self) -> u32 {
        self.asked_words.unwrap_or(self.target_words)
    }
}

/// A text that was written for a step and not taken, because the document would fail a rule with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    /// Name of the rule.
    pub rule: String,
    /// What it measured of the document up to this text.
    pub value: f64,
    /// The recipe's threshold.
    pub threshold: f64,
    /// A short excerpt or explanation, for people.
    pub detail: String,
    /// Number of the try that wrote it.
    pub attempt: u32,
    /// Tokens generated for the text.
    pub generated: u32,
    /// Words that its prompt asked for; 0 if it was rejected by an earlier version.
    #[serde(default)]
    pub asked_words: u32,
    /// Words of the text.
    #[serde(default)]
    pub words: u32,
    /// The text, where the recipe keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The text as a section, as long as it may still be taken for want of a better one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<Box<Section>>,
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A draft of so many words, of which so many were asked for.
    pub(crate) fn rejection(rule: &str, words: u32, asked: u32) -> Rejection {
        Rejection {
            rule: rule.into(),
            value: 0.0,
            threshold: 0.0,
            detail: String::new(),
            attempt: 1,
            generated: 0,
            asked_words: asked,
            words,
            text: None,
            draft: None,
        }
    }

    /// A section of so many words, of which so many were asked for.
    pub(crate) fn section(words: u32, asked: u32) -> Section {
        Section {
            text: "A section.".into(),
            target_words: asked,
            asked_words: None,
            words,
            finish_reason: FinishReason::Stop,
            attempt: 1,
            worker: "w".to_owned().try_into().expect("a name"),
            usage: Usage::default(),
            timings: Timings::default(),
            seed: 0,
            trace_id: String::new(),
            context: Vec::new(),
            rejections: Vec::new(),
        }
    }
}

//! A conversation as pairs of question and answer, for formats that know only pairs.

use crate::corpus::record::Record;

/// The parts of a conversation.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The system message, or empty.
    pub(super) system: String,
    /// Earlier questions with their answers.
    pub(super) history: Vec<[String; 2]>,
    /// The last question.
    pub(super) instruction: String,
    /// Its answer.
    pub(super) answer: String,
}

impl Turns {
    /// Splits the conversation; consecutive messages of the same role are joined.
    pub(super) fn of(record: &Record) -> Self {
        let mut turns = Self::default();
        for message in &record.messages {
            let part = match message.role.as_str() {
                "system" => &mut turns.system,
                "assistant" => &mut turns.answer,
                _ => {
                    if !turns.answer.is_empty() {
                        turns.history.push([std::mem::take(&mut turns.instruction), std::mem::take(&mut turns.answer)]);
                    }
                    &mut turns.instruction
                }
            };
            if !part.is_empty() {
                part.push_str("\n\n");
            }
            part.push_str(&message.content);
        }
        turns
    }
}

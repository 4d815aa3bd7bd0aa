//! What a document may repeat without a fault: the words of its instruction and of the texts that came with it.

use std::collections::HashSet;

use super::script::{Script, runs};
use crate::domain::instruction::Instruction;

/// The words of an instruction, its earlier turns and its context texts.
#[derive(Debug)]
pub(super) struct Source {
    text: String,
    /// Words of Latin letters, in lower case.
    words: HashSet<String>,
}

impl Source {
    pub(super) fn of(instruction: &Instruction) -> Self {
        let messages = instruction.messages.iter().map(|message| message.content.as_str());
        let texts = messages.chain(instruction.context.iter().map(|context| context.text.as_str()));
        let text = texts.collect::<Vec<_>>().join("\n");
        let word = |c: char| c == '_' || c.is_ascii_digit() || Script::of(c) == Some(Script::Latin);
        let words = text.split(|c| !word(c)).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
        Self { text, words }
    }

    /// True if it holds `word`: as a whole word, or anywhere if it is written without spaces or mixes scripts.
    pub(super) fn holds(&self, word: &str) -> bool {
        let latin = runs(word).iter().all(|run| run.script == Script::Latin);
        if latin { self.words.contains(&word.to_lowercase()) } else { self.text.contains(word) }
    }
}

//! A plan and its steps.

use serde::{Deserialize, Serialize};

/// One line of a plan: one section to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What the section is about; empty for a text that is written in one piece.
    pub main_point: String,
    /// Words to write.
    pub words: u32,
}

/// The steps of a text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which they are written.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The plan of a text that is written in one piece: one step without a main point of its own.
    pub(crate) fn single_piece(words: u32) -> Self {
        Self { steps: vec![Step { main_point: String::new(), words }] }
    }

    /// True for a text that is written in one piece.
    pub fn is_single_piece(&self) -> bool {
        matches!(self.steps.as_slice(), [step] if step.main_point.is_empty())
    }
}

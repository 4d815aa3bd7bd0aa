//! A plan and its steps.

use serde::{Deserialize, Serialize};

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
    pub(crate) fn whole(words: u32) -> Self {
        Self { steps: vec![Step { main_point: String::new(), words }] }
    }

    /// True for a text that is written in one piece.
    pub fn is_whole(&self) -> bool {
        matches!(self.steps.as_slice(), [step] if step.main_point.is_empty())
    }
}

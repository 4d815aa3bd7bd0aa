//! Real instructions to measure with: those of the demo.

use serde::Deserialize;

const JSONL: &str = include_str!("../../examples/instructions.jsonl");

/// The texts of the instructions.
pub(crate) fn prompts() -> Vec<String> {
    #[derive(Deserialize)]
    struct Row {
        prompt: String,
    }
    JSONL.lines().filter_map(|line| serde_json::from_str::<Row>(line).ok()).map(|row| row.prompt).collect()
}

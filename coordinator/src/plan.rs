//! The plan: a grammar that an engine can enforce while decoding, a parser that does not trust it, and word budgets
//! scaled to the length that was asked for.
//!
//! A plan is lines and nothing else, numbered from 1:
//! ```text
//! Paragraph 1 - Main Point: how the harbour came to be built - Word Count: 300 words
//! 段落1 - 主要内容：港口的由来 - 字数：300字
//! ```

mod budget;
mod grammar;
mod parse;
#[cfg(test)]
mod tests;

use crate::document::{Language, Plan};

pub use budget::suitable_steps;
pub use grammar::grammar;
pub use parse::parse;

/// Why a text is no plan. The message is shown to the model that is asked to repair it, so it says what was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("the plan has no lines; write {want} lines")]
    Empty { want: String },
    #[error("line {line} is {text:?}; write each line as `{form}`")]
    Stray { line: usize, text: String, form: &'static str },
    #[error("line {line} has number {number}; number the lines in order, here {want}")]
    Order { line: usize, number: String, want: usize },
    #[error("line {line} asks for {words} words; each line takes {min} to {max}")]
    Words { line: usize, words: String, min: u32, max: u32 },
    #[error("line {line} makes the same point as line {first}; each line needs a point of its own")]
    Duplicate { line: usize, first: usize },
    #[error("the plan has {steps} lines; write {min} to {max}")]
    Steps { steps: usize, min: u32, max: u32 },
    #[error(
        "{steps} lines of {min} to {max} words each make {least} to {most} words, but the text needs {want}; \
         write {few} to {many} lines"
    )]
    Sum { steps: usize, min: u32, max: u32, least: u64, most: u64, want: u32, few: u32, many: u32 },
    /// No plan can have this sum.
    #[error(
        "{want} words cannot be reached with {max_steps} steps of at most {max_words} words each; ask for a shorter \
         text, or raise plan.max_steps or plan.max_words in the recipe"
    )]
    Unreachable { want: u32, max_steps: u32, max_words: u32 },
    #[error("the plan did not end within its token limit; write fewer and shorter lines")]
    Cut,
    #[error("the plan fell into a loop; write different lines")]
    Loop,
}

impl PlanError {
    /// The error class, as it stands in `failed.jsonl`.
    pub fn class(&self) -> &'static str {
        if self.is_final() { "length_unreachable" } else { "bad_plan" }
    }

    /// True if the same prompt may as well give a good plan.
    pub fn is_chance(&self) -> bool {
        matches!(self, Self::Loop)
    }

    /// True if another plan cannot mend it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// The form of a line, as prompts and messages show it.
pub fn form(language: Language) -> &'static str {
    match language {
        Language::En => "Paragraph N - Main Point: ... - Word Count: NNN words",
        Language::Zh => "段落N - 主要内容：…… - 字数：NNN字",
    }
}

/// A plan as prompts show it, in the form that was asked for.
pub fn render(plan: &Plan, language: Language) -> String {
    let lines = plan.steps.iter().enumerate().map(|(index, step)| render_step(index, step, language));
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines around one step: its group of so many and the next, and dots for those left out. The lines change with the
/// group and not with the step, so that prompts share them. 0 gives all lines.
pub fn render_around(plan: &Plan, step: usize, group: usize, language: Language) -> String {
    let steps = plan.steps.len();
    if group == 0 || steps <= 2 * group {
        return render(plan, language);
    }
    let first = step / group * group;
    let last = (first + 2 * group).min(steps);
    let mut lines: Vec<String> = (first..last).map(|index| render_step(index, &plan.steps[index], language)).collect();
    if first > 0 {
        lines.insert(0, "…".into());
    }
    if last < steps {
        lines.push("…".into());
    }
    lines.join("\n")
}

fn render_step(index: usize, step: &crate::document::Step, language: Language) -> String {
    let (number, point, words) = (index + 1, &step.main_point, step.words);
    match language {
        Language::En => format!("Paragraph {number} - Main Point: {point} - Word Count: {words} words"),
        Language::Zh => format!("段落{number} - 主要内容：{point} - 字数：{words}字"),
    }
}

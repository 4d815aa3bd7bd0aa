//! Why a text is no plan.

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
    #[error("line {line} is {text:?}, which makes no point; say in a sentence what the paragraph is about")]
    Placeholder { line: usize, text: String },
    #[error("line {line} has {words} words, and a line has {mean} on average; give the lines similar lengths")]
    Proportion { line: usize, words: u32, mean: u32 },
    #[error(
        "{on_subject} of {lines} lines name anything of what the request is about; plan the text that is asked for"
    )]
    Subject { lines: usize, on_subject: usize },
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

    /// True if another plan cannot mend it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

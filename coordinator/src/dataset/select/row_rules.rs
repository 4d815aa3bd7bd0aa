//! What is decided of one instruction alone: pure, so that rows are evaluated side by side.

use serde_json::Value;

use super::options::Options;
use crate::domain::instruction::Instruction;
use crate::domain::language;
use crate::text::length;
use crate::text::similarity::Signature;

/// A row that is left out, and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dropped {
    pub(super) rule: &'static str,
    pub(super) value: Value,
    /// What the rule saw, for people.
    pub(super) detail: String,
}

impl Dropped {
    pub(super) fn new(rule: &'static str, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { rule, value: value.into(), detail: detail.into() }
    }
}

/// How much of a text an instruction asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    Stated(u32),
    Long,
    Short,
    Unknown,
}

/// A row that passed all rules that look at it alone.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) instruction: Instruction,
    pub(super) intent: Intent,
    /// Of the text as it stands, spaces apart.
    pub(super) exact: u128,
    pub(super) signature: Signature,
}

/// What became of one row.
pub(super) enum RowResult {
    Bad(Dropped),
    Dropped(Instruction, Dropped),
    Passed(Box<Passed>),
}

/// Judges one row. A language that the row states decides where its text is too short to tell.
pub(super) fn evaluate(mut instruction: Instruction, states_language: bool, options: &Options) -> RowResult {
    let text = instruction.messages.last().map_or_else(String::new, |message| message.content.clone());
    let intent = match check_row(&mut instruction, &text, states_language, options) {
        Ok(intent) => intent,
        Err(dropped) => return RowResult::Dropped(instruction, dropped),
    };
    let whole = instruction.text();
    let mut hash = blake3::Hasher::new();
    for word in whole.split_whitespace() {
        hash.update(word.as_bytes()).update(b" ");
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    let signature = Signature::of(&whole);
    RowResult::Passed(Box::new(Passed { instruction, intent, exact: u128::from_le_bytes(short), signature }))
}

fn check_row(
    instruction: &mut Instruction,
    text: &str,
    states_language: bool,
    options: &Options,
) -> Result<Intent, Dropped> {
    let stated = (states_language && language::says_too_little(text)).then_some(instruction.language);
    match language::identify(text).or(stated) {
        Some(found) if options.languages.contains(&found) => instruction.language = found,
        Some(found) => return Err(Dropped::new("language", language::name(found), "")),
        None => return Err(Dropped::new("language", language::code(text), "")),
    }
    let moderation = instruction.metadata.get("moderation");
    if moderation.and_then(|moderation| moderation.get("toxic")) == Some(&Value::Bool(true)) {
        return Err(Dropped::new("toxic", "moderation", "the source calls it toxic"));
    }
    if let Some(hit) = options.rules.toxic.find(text) {
        return Err(Dropped::new("toxic", format!("toxic.txt:{}", hit.line), hit.text));
    }
    if let Some(hit) = options.rules.scraping.find(text) {
        return Err(Dropped::new("scraping", format!("scraping.txt:{}", hit.line), hit.text));
    }
    if instruction.required_words.is_none() {
        instruction.required_words = length::required(text);
    }
    let intent = intent(instruction.required_words, text, options);
    match intent {
        Intent::Stated(words) if !options.length.contains(&words) => {
            let (from, to) = (options.length.start(), options.length.end());
            Err(Dropped::new("length", words, format!("states {words} words; expected {from} to {to}")))
        }
        Intent::Long | Intent::Unknown if options.require_length => {
            Err(Dropped::new("no_length", Value::Null, "states no length"))
        }
        Intent::Short if !options.any_intent => Err(Dropped::new("short", Value::Null, "asks for a short answer")),
        Intent::Stated(_) | Intent::Long | Intent::Short | Intent::Unknown => Ok(intent),
    }
}

/// A stated length says it; else what is asked for; else nobody knows.
fn intent(stated: Option<u32>, text: &str, options: &Options) -> Intent {
    match stated {
        Some(words) => Intent::Stated(words),
        None if options.rules.long.find(text).is_some() => Intent::Long,
        None if options.rules.short.find(text).is_some() => Intent::Short,
        None => Intent::Unknown,
    }
}

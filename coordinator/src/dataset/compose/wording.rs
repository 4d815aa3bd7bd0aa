//! Rows in a model's words, under gates.
//!
//! A model that words a request tends to answer it, to offer several, or to lose the number of words. So nothing that it writes is
//! taken unless it passes every gate; after some tries the pattern's sentence stays, and the row says which gate refused last.

use std::collections::BTreeMap;

use longhand_proto::DocumentId;
use longhand_proto::task::{Failure, FinishReason, Letters, Message, ModelInfo, Output, Sampling, Task, TaskKind};

use super::draw::{Drawn, SIMILARITY};
use super::hash::number;
use super::lengths;
use super::options::ComposeError;
use crate::domain::language::{self, Language};
use crate::text::length;
use crate::text::shingles;
use crate::text::similarity::{Index, Signature};

/// Stands in the question for the row.
const ROW: &str = "{row}";
/// What a model is asked.
const QUESTION_EN: &str = include_str!("../../../templates/wording_en.txt");
const QUESTION_ZH: &str = include_str!("../../../templates/wording_zh.txt");

/// Tries for each row.
const MAX_TRIES: u32 = 3;
/// Room for the longest request that passes.
const MAX_TOKENS: u32 = 320;
/// Words of a request: fewer cannot name all, more are no request.
const WORDS: std::ops::RangeInclusive<usize> = 8..=150;
/// Enough to differ from the last try, little enough to keep to the row.
const SAMPLING: (f32, f32) = (0.8, 0.95);
/// Share of the words of a subject that stand in a request which names it.
const SUBJECT_SHARE: f64 = 0.75;
/// The same of a form: "a set of lecture notes" may be called lecture notes.
const FORM_SHARE: f64 = 0.5;

/// The model that words the rows.
pub struct WordingModel<'a> {
    /// What the model is: rows of another one have other ids.
    pub model: ModelInfo,
    /// Does the tasks, and gives what became of each, in their order; an error if no more can be done at all.
    pub write: &'a mut dyn FnMut(Vec<Task>) -> Result<Vec<Result<Output, Failure>>, String>,
}

impl std::fmt::Debug for WordingModel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WordingModel").field("model", &self.model.name).finish_non_exhaustive()
    }
}

/// What turned a wording away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// The engine gave no text, or one that was cut off.
    Unfinished,
    /// It is not one paragraph of a request's length.
    Format,
    /// It is in another language.
    Language,
    /// It speaks of itself, of the request or of other versions.
    Meta,
    /// It does not name the form.
    Form,
    /// It does not name the subject.
    Subject,
    /// It asks for another length, or for none.
    Length,
    /// Another row says nearly the same.
    NearDuplicate,
}

impl Gate {
    /// Its name in reports and rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unfinished => "unfinished",
            Self::Format => "format",
            Self::Language => "language",
            Self::Meta => "meta",
            Self::Form => "form",
            Self::Subject => "subject",
            Self::Length => "length",
            Self::NearDuplicate => "near_duplicate",
        }
    }
}

/// Whose words a row is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wording {
    /// The model's.
    Model(String),
    /// A pattern's: no model was asked.
    Pattern,
    /// A pattern's: the gate refused the model's last try.
    Refused(Gate),
}

/// The wording of each row, and how many tries each gate turned away.
pub(super) type Worded = (Vec<Wording>, Vec<(&'static str, usize)>);

/// Has the rows worded.
pub(super) fn word(rows: &[Drawn<'_>], seed: u64, model: WordingModel<'_>) -> Result<Worded, ComposeError> {
    let mut taken = Taken::of(rows);
    let mut worded = vec![Wording::Pattern; rows.len()];
    let mut refused: BTreeMap<Gate, usize> = BTreeMap::new();
    let mut open: Vec<usize> = (0..rows.len()).collect();
    for attempt in 1..=MAX_TRIES {
        if open.is_empty() {
            break;
        }
        let tasks = open.iter().map(|row| task(&rows[*row], seed, attempt)).collect();
        let written = (model.write)(tasks).map_err(ComposeError::Model)?;
        let tried = std::mem::take(&mut open);
        for (row, output) in tried.into_iter().zip(written) {
            let text = output.map_err(|_| Gate::Unfinished).and_then(|output| {
                let text = pass(&rows[row], &output)?;
                taken.take(row, &text)?;
                Ok(text)
            });
            match text {
                Ok(text) => worded[row] = Wording::Model(text),
                Err(gate) => {
                    worded[row] = Wording::Refused(gate);
                    *refused.entry(gate).or_default() += 1;
                    open.push(row);
                }
            }
        }
    }
    Ok((worded, refused.into_iter().map(|(gate, count)| (gate.name(), count)).collect()))
}

/// The requests that others must differ from: those of the patterns, any of which may stay, and those of the model.
struct Taken {
    patterns: Index,
    model: Index,
}

impl Taken {
    fn of(rows: &[Drawn<'_>]) -> Self {
        let mut patterns = Index::new(SIMILARITY);
        for row in rows {
            patterns.insert(&Signature::of(&row.prompt));
        }
        Self { patterns, model: Index::new(SIMILARITY) }
    }

    fn take(&mut self, row: usize, text: &str) -> Result<(), Gate> {
        let signature = Signature::of(text);
        let others = self.patterns.all(&signature).into_iter().any(|found| found.text as usize != row);
        if others || self.model.insert_new(&signature).is_err() {
            return Err(Gate::NearDuplicate);
        }
        Ok(())
    }
}

/// The question about one row.
fn task(row: &Drawn<'_>, seed: u64, attempt: u32) -> Task {
    let language = row.seeds.language;
    let (question, letters) = match language {
        Language::En => (QUESTION_EN, Letters::Latin),
        Language::Zh => (QUESTION_ZH, Letters::Chinese),
    };
    let content = question.trim().replace(ROW, &facts(row));
    let mut document = [0; 16];
    document.copy_from_slice(&blake3::hash(row.prompt.as_bytes()).as_bytes()[..16]);
    let (temperature, top_p) = SAMPLING;
    Task {
        run: "compose".parse().unwrap_or_else(|_| unreachable!("a plain word is a run's name")),
        document: DocumentId::from_bytes(document),
        kind: TaskKind::Summary,
        section: 0,
        attempt: 1,
        messages: vec![Message { role: "user".into(), content }],
        sampling: Sampling { temperature, top_p, ..Sampling::default() },
        length: None,
        constraint: None,
        ban: Vec::new(),
        max_tokens: MAX_TOKENS,
        seed: number(&[&seed.to_le_bytes(), row.prompt.as_bytes(), &attempt.to_le_bytes()]),
        letters,
        words_left: 0,
        names: Vec::new(),
        traceparent: String::new(),
    }
}

/// What the request must say, line by line.
fn facts(row: &Drawn<'_>) -> String {
    let language = row.seeds.language;
    let words = lengths::written(row.words, language);
    let subject = &row.subject.name;
    let form = &row.form.name;
    let (mut lines, reader, tone) = match language {
        Language::En => (
            vec![format!("Form: {form}"), format!("Subject: {subject}"), format!("Length: about {words} words")],
            "Readers: ",
            "Tone: ",
        ),
        Language::Zh => (
            vec![format!("体裁：{form}"), format!("题材：{subject}"), format!("字数：约{words}字")],
            "读者：",
            "语气：",
        ),
    };
    lines.extend(row.reader.map(|text| format!("{reader}{text}")));
    lines.extend(row.tone.map(|text| format!("{tone}{text}")));
    lines.join("\n")
}

/// The request, if it passes the gates that look at nothing else.
fn pass(row: &Drawn<'_>, output: &Output) -> Result<String, Gate> {
    match output.finish_reason {
        FinishReason::Stop | FinishReason::Ceiling => {}
        FinishReason::Length | FinishReason::Repetition => return Err(Gate::Unfinished),
    }
    let text = unquoted(output.text.trim());
    let language = row.seeds.language;
    let gates = [
        (Gate::Format, is_request(text)),
        (Gate::Language, is_in(language, text)),
        (Gate::Meta, !is_meta(text, &row.prompt)),
        (Gate::Form, named(&row.form.name, text) >= FORM_SHARE),
        (Gate::Subject, named(&row.subject.name, text) >= SUBJECT_SHARE),
        (Gate::Length, length::required(text) == Some(row.words)),
    ];
    match gates.into_iter().find(|(_, passes)| !passes) {
        Some((gate, _)) => Err(gate),
        None => Ok(text.to_owned()),
    }
}

/// The text without quotation marks around the whole of it.
fn unquoted(text: &str) -> &str {
    for (open, close) in [('"', '"'), ('“', '”'), ('「', '」')] {
        let inner = text.strip_prefix(open).and_then(|text| text.strip_suffix(close));
        if let Some(inner) = inner.filter(|inner| !inner.contains([open, close])) {
            return inner.trim();
        }
    }
    text
}

/// One paragraph of plain sentences.
fn is_request(text: &str) -> bool {
    let words = shingles::word_count(text);
    let ends = text.ends_with(['.', '?', '!', '。', '？', '！']);
    WORDS.contains(&words) && ends && !text.contains(['\n', '*', '#', '`', '{', '}', '[', ']', '<', '>', '|'])
}

fn is_in(language: Language, text: &str) -> bool {
    match language {
        Language::En => !text.chars().any(shingles::is_ideograph) && language::identify(text) == Some(Language::En),
        Language::Zh => language::identify(text) == Some(Language::Zh),
    }
}

/// Talk about the request instead of the request, or several to choose from. What the row itself says is none.
fn is_meta(text: &str, row: &str) -> bool {
    const BEGINNINGS: [&str; 12] = [
        "sure",
        "certainly",
        "of course",
        "here is",
        "here's",
        "here are",
        "subject:",
        "message",
        "好的",
        "当然",
        "以下",
        "消息",
    ];
    const ANYWHERE: [&str; 16] = [
        "as an ai",
        "language model",
        "this prompt",
        "this request",
        "this message",
        "the message",
        "alternatively",
        "option 1",
        "version 1",
        "语言模型",
        "提示词",
        "这条消息",
        "这个要求",
        "版本一",
        "另一种写法",
        "人工智能助手",
    ];
    let (text, row) = (text.to_lowercase(), row.to_lowercase());
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning) && !row.starts_with(beginning))
        || ANYWHERE.iter().any(|phrase| text.contains(phrase) && !row.contains(phrase))
}

/// Share of what `name` is made of that stands in `text`: words but for the smallest, by their beginnings, since a request may
/// have another number of them; pairs of characters in Chinese.
fn named(name: &str, text: &str) -> f64 {
    /// Letters of a word that says something by itself.
    const LONG: usize = 4;
    /// Letters that the forms of a word have in common.
    const STEM: usize = 5;
    let (name, text) = (name.to_lowercase(), text.to_lowercase());
    let characters: Vec<char> = name.chars().filter(|c| shingles::is_ideograph(*c)).collect();
    let parts: Vec<String> = if characters.len() > 1 {
        characters.windows(2).map(|pair| pair.iter().collect()).collect()
    } else {
        let words = || name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let long: Vec<&str> = words().filter(|word| word.chars().count() >= LONG).collect();
        let words = if long.is_empty() { words().collect() } else { long };
        words.into_iter().map(|word| word.chars().take(STEM).collect()).collect()
    };
    let found = parts.iter().filter(|part| text.contains(part.as_str())).count();
    found as f64 / parts.len().max(1) as f64
}

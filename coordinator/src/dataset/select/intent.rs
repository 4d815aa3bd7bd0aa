//! The intent that no rule can tell: a model is asked whether an instruction wants a long text, and may say yes or no.
//!
//! What it answered is kept in a file as it comes, so that a selection that was stopped does not ask again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use longhand_proto::DocumentId;
use longhand_proto::task::{Constraint, Failure, Letters, Message, ModelInfo, Output, Sampling, Task, TaskKind};
use serde::{Deserialize, Serialize};

use super::options::SelectError;
use super::rules::{PLACEHOLDER, Rules};
use crate::dataset::input::InputError;
use crate::domain::instruction::Instruction;
use crate::domain::language::Language;
use crate::files::FileError;

/// The two answers that a model may give.
const YES: &str = "yes";
const NO: &str = "no";
/// Room for either, whatever the tokenizer; a model without a grammar may put a word before it.
const MAX_TOKENS: u32 = 8;
/// Characters of an instruction that are shown from its beginning and from its end; what is asked stands at either.
const HEAD_CHARS: usize = 2_000;
const TAIL_CHARS: usize = 1_000;
/// The model that is asked.
pub struct IntentModel<'a> {
    /// What the model is: answers of another model do not count.
    pub model: ModelInfo,
    /// Answers so far; made if it is missing, gone on with if it is there.
    pub answers: PathBuf,
    /// Does the tasks, and gives what became of each, in their order; an error if no more can be done at all.
    pub write: &'a mut dyn FnMut(Vec<Task>) -> Result<Vec<Result<Output, Failure>>, String>,
}

impl std::fmt::Debug for IntentModel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntentModel")
            .field("model", &self.model.name)
            .field("answers", &self.answers)
            .finish_non_exhaustive()
    }
}

/// What was answered, row by row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AnswerCounts {
    /// Rows that want a long text.
    pub yes: u64,
    /// Rows that want a short one; they are dropped.
    pub no: u64,
    /// Rows that the model gave no answer to that can be read; they are kept.
    pub unread: u64,
}

/// A line of the file of answers.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Hash of question and model.
    question: String,
    answer: String,
    instruction: String,
}

/// The model, with what it has answered so far.
pub(super) struct IntentAnswers<'a> {
    intent_model: IntentModel<'a>,
    known: HashMap<String, bool>,
    file: File,
    pub(super) asked: AnswerCounts,
}

impl<'a> IntentAnswers<'a> {
    pub(super) fn new(intent_model: IntentModel<'a>) -> Result<Self, SelectError> {
        let (known, file) = open(&intent_model.answers)?;
        Ok(Self { intent_model, known, file, asked: AnswerCounts::default() })
    }

    /// Whether each of the instructions asks for a long text; none where no answer could be read.
    pub(super) fn ask(&mut self, rules: &Rules, rows: &[&Instruction]) -> Result<Vec<Option<bool>>, SelectError> {
        let tasks: Vec<Task> = rows.iter().map(|row| task(rules, row)).collect();
        let names: Vec<String> = tasks.iter().map(|task| self.name(task)).collect();
        let open = names.iter().zip(tasks).filter(|(name, _)| !self.known.contains_key(*name)).map(|(_, task)| task);
        let open: Vec<Task> = open.collect();
        let written =
            if open.is_empty() { Vec::new() } else { (self.intent_model.write)(open).map_err(SelectError::Model)? };
        let mut written = written.into_iter();
        let mut answers = Vec::with_capacity(rows.len());
        for (row, name) in rows.iter().zip(names) {
            let answer = match self.known.get(&name) {
                Some(answer) => Some(*answer),
                None => {
                    let answer = written.next().and_then(Result::ok).and_then(|output| parse(&output.text));
                    if let Some(answer) = answer {
                        self.keep(name, answer, row)?;
                    }
                    answer
                }
            };
            let count = match answer {
                Some(true) => &mut self.asked.yes,
                Some(false) => &mut self.asked.no,
                None => &mut self.asked.unread,
            };
            *count += 1;
            answers.push(answer);
        }
        Ok(answers)
    }

    pub(super) fn model(&self) -> &str {
        &self.intent_model.model.name
    }

    /// Names a question to this model.
    fn name(&self, task: &Task) -> String {
        let mut hash = blake3::Hasher::new_derive_key("longhand question of intent v1");
        let ModelInfo { name, weights_hash, .. } = &self.intent_model.model;
        for part in [name, weights_hash, &task.messages[0].content] {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hash.finalize().to_hex()[..32].to_owned()
    }

    fn keep(&mut self, question: String, answer: bool, row: &Instruction) -> Result<(), SelectError> {
        let line = Line {
            question: question.clone(),
            answer: if answer { YES } else { NO }.to_owned(),
            instruction: row.text(),
        };
        let mut text =
            serde_json::to_vec(&line).map_err(|error| FileError::io(&self.intent_model.answers, error.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(|error| FileError::io(&self.intent_model.answers, error))?;
        self.known.insert(question, answer);
        Ok(())
    }
}

/// Reads what is there, up to the last whole line; a crash may have cut one.
fn open(path: &Path) -> Result<(HashMap<String, bool>, File), SelectError> {
    const BEGIN: &[u8] = b"{\"question\":";
    let io = |error| FileError::io(path, error);
    let foreign = |line: u64| InputError::Format {
        path: path.to_owned(),
        problem: format!("line {line}: not an answer of an earlier selection"),
        remedy: "move the file, or write the output to another folder",
    };
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    let mut known = HashMap::new();
    let (mut reader, mut line, mut whole, mut number) = (BufReader::new(&file), Vec::new(), 0, 1);
    while reader.read_until(b'\n', &mut line).map_err(io)? > 0 && line.ends_with(b"\n") {
        let Line { question, answer, .. } = serde_json::from_slice(&line).map_err(|_| foreign(number))?;
        known.insert(question, answer == YES);
        whole += line.len() as u64;
        number += 1;
        line.clear();
    }
    if !line.starts_with(BEGIN) && !BEGIN.starts_with(&line) {
        return Err(foreign(number).into());
    }
    file.set_len(whole).map_err(io)?;
    file.seek(SeekFrom::End(0)).map_err(io)?;
    Ok((known, file))
}

/// The question about one instruction.
fn task(rules: &Rules, row: &Instruction) -> Task {
    let question = match row.language {
        Language::En => &rules.question_en,
        Language::Zh => &rules.question_zh,
    };
    let content = question.trim().replace(PLACEHOLDER, &short(&row.text()));
    let mut document = [0; 16];
    document.copy_from_slice(&blake3::hash(content.as_bytes()).as_bytes()[..16]);
    Task {
        run: "select".parse().unwrap_or_else(|_| unreachable!("a plain word is a run's name")),
        document: DocumentId::from_bytes(document),
        kind: TaskKind::Judge,
        section: 0,
        attempt: 1,
        messages: vec![Message { role: "user".into(), content }],
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        length: None,
        constraint: Some(Constraint::Lark(format!("start: \"{YES}\" | \"{NO}\"\n"))),
        ban: Vec::new(),
        max_tokens: MAX_TOKENS,
        seed: 0,
        letters: Letters::Any,
        words_left: 0,
        names: Vec::new(),
        traceparent: String::new(),
    }
}

/// The beginning and the end of a long text.
fn short(text: &str) -> String {
    let count = text.chars().count();
    if count <= HEAD_CHARS + TAIL_CHARS {
        return text.to_owned();
    }
    let (head, tail): (String, String) =
        (text.chars().take(HEAD_CHARS).collect(), text.chars().skip(count - TAIL_CHARS).collect());
    format!("{head} […] {tail}")
}

/// The first word, if it is one of the two; servers without grammars add full stops and more.
fn parse(answer: &str) -> Option<bool> {
    let word = answer.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty())?;
    if word.eq_ignore_ascii_case(YES) {
        Some(true)
    } else if word.eq_ignore_ascii_case(NO) {
        Some(false)
    } else {
        None
    }
}

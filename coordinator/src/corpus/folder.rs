//! Reads the documents of a finished corpus from the files of its folder. Needs no store.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use longhand_proto::task::Message;
use longhand_proto::{DocumentId, RunId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::rejections::Rejected;
use super::{Record, SectionRecord, Stats, restore};
use crate::domain::document::{Document, Progress, Verdict};
use crate::domain::instruction::Instruction;
use crate::domain::language::Language;
use crate::domain::plan::{Plan, Step};
use crate::domain::recipe::{Recipe, RecipeError};
use crate::domain::state::State;
use crate::store::{EndedDocument, Run, RunPolicy, RunStore, StoreError};

/// Bytes of documents that are written to a store in one step.
const BATCH_BYTES: usize = 8 << 20;

/// Why the documents of a folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read.
    #[error("{}: {source}; expected a complete output folder of `longhand run` or `longhand export`", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A line is invalid.
    #[error("{}:{line}: {problem}; export the folder again with `longhand run` or `longhand export`", path.display())]
    Row { path: PathBuf, line: usize, problem: String },
    /// The export is of another format.
    #[error("{}: no whole records; expected an export with --format records", path.display())]
    NoRecords { path: PathBuf },
    /// The recipe cannot be read.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The store cannot take the documents.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The folder of a corpus in the format `records`.
#[derive(Debug)]
pub struct CorpusFolder {
    dir: PathBuf,
    /// The run that the corpus was exported from.
    pub run: Run,
    /// Its recipe.
    pub recipe: Recipe,
    /// Data files, in order.
    data: Vec<PathBuf>,
}

/// A line of `failed.jsonl`.
#[derive(Debug, Deserialize)]
struct Failed {
    id: DocumentId,
    instruction_id: Option<String>,
    line: u64,
    language: Language,
    instruction: String,
    candidate: u32,
    class: String,
    message: String,
    plan: Vec<Step>,
    sections: Vec<SectionRecord>,
}

impl CorpusFolder {
    /// Opens the folder and reads what it says of its run.
    ///
    /// # Errors
    /// The folder holds no complete corpus, or one in another format than `records`.
    pub fn open(dir: &Path) -> Result<Self, FolderError> {
        let stats = dir.join("stats.json");
        let text = std::fs::read(&stats).map_err(|source| FolderError::Read { path: stats.clone(), source })?;
        let Stats { run: id, splits, recipe_hash, seed, timing, .. } =
            serde_json::from_slice(&text).map_err(|error| row(&stats, error.line(), &error))?;
        let path = dir.join("recipe.toml");
        let text = std::fs::read_to_string(&path).map_err(|source| FolderError::Read { path, source })?;
        let recipe = Recipe::from_toml(&text)?;
        let data = dir.join("data");
        let entries = std::fs::read_dir(&data).map_err(|source| FolderError::Read { path: data.clone(), source })?;
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| FolderError::Read { path: data.clone(), source })?.path();
            files.extend(path.extension().is_some_and(|ending| ending == "jsonl").then_some(path));
        }
        files.sort();
        // Without an accepted document there is no file.
        if files.is_empty() && !splits.is_empty() {
            return Err(FolderError::NoRecords { path: data });
        }
        let created_ms = timing.map_or(0, |timing| timing.started_ms);
        let (policy, paused, cancelling) = (RunPolicy::default(), false, false);
        let run = Run { id, recipe: text, recipe_hash, seed, created_ms, policy, paused, cancelling };
        Ok(Self { dir: dir.to_owned(), run, recipe, data: files })
    }

    /// Hands over every document that ended: the accepted ones, the rejected ones, then the failed ones.
    ///
    /// # Errors
    /// A file cannot be read, or `take` failed.
    pub fn documents(&self, mut take: impl FnMut(Document) -> Result<(), FolderError>) -> Result<(), FolderError> {
        for path in &self.data {
            lines(path, |line, at| {
                let record: Record = match serde_json::from_slice(line) {
                    Ok(record) => record,
                    Err(_) if at == 1 => return Err(FolderError::NoRecords { path: path.clone() }),
                    Err(error) => return Err(row(path, at, &error)),
                };
                take(finished(&self.run.id, &record, 0, Verdict::Accepted).map_err(|error| row(path, at, &error))?)
            })?;
        }
        let path = self.dir.join("rejected.jsonl");
        lines(&path, |line, at| {
            let Rejected { record, line, rule, value, threshold, detail, .. } = parse(line, &path, at)?;
            let verdict = Verdict::Rejected { rule, value, threshold, detail };
            take(finished(&self.run.id, &record, line, verdict).map_err(|error| row(&path, at, &error))?)
        })?;
        let path = self.dir.join("failed.jsonl");
        lines(&path, |line, at| take(failed(&self.run.id, parse(line, &path, at)?)))
    }

    /// Writes the run and its documents into an empty store, as they ended.
    ///
    /// # Errors
    /// A file cannot be read, or the store failed.
    pub async fn load(self, store: &impl RunStore) -> Result<(), FolderError> {
        store.create_run(&self.run).await?;
        let run = self.run.id.clone();
        let (send, mut batches) = mpsc::channel(1);
        // The receiver is gone only where the store failed, and then that is the error.
        let stopped = || StoreError::Other("the store takes no more documents".into());
        let read = tokio::task::spawn_blocking(move || {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            self.documents(|document| {
                let ended = ended(&document)?;
                bytes += ended.body.len();
                batch.push(ended);
                if bytes < BATCH_BYTES {
                    return Ok(());
                }
                bytes = 0;
                send.blocking_send(std::mem::take(&mut batch)).map_err(|_| FolderError::Store(stopped()))
            })?;
            send.blocking_send(batch).map_err(|_| FolderError::Store(stopped()))
        });
        while let Some(batch) = batches.recv().await {
            store.load(&run, &batch).await?;
        }
        read.await.map_err(|error| StoreError::Other(error.to_string()))?
    }
}

/// The document of a record, in its first round.
fn finished(run: &RunId, record: &Record, line: u64, verdict: Verdict) -> Result<Document, StoreError> {
    let mut messages = record.messages.clone();
    messages.pop();
    let instruction = Instruction {
        id: record.instruction_id.clone(),
        messages,
        language: record.language,
        required_words: record.length,
        context: Vec::new(),
        metadata: record.metadata.clone(),
        line,
    };
    let seed = record.provenance.seed.parse().unwrap_or(0);
    let traceparent = String::new();
    let mut document = Document::new(run, instruction, record.candidate, seed, traceparent);
    (document.id, document.seed) = (record.id, seed);
    restore::finish(&mut document, record, verdict)?;
    Ok(document)
}

fn failed(run: &RunId, row: Failed) -> Document {
    let Failed { id, instruction_id, line, language, instruction, candidate, class, message, plan, sections } = row;
    let instruction = Instruction {
        id: instruction_id,
        messages: vec![Message { role: "user".into(), content: instruction }],
        language,
        required_words: None,
        context: Vec::new(),
        metadata: serde_json::Map::new(),
        line,
    };
    let mut document = Document::new(run, instruction, candidate, 0, String::new());
    document.id = id;
    let sections = sections.iter().map(|section| section.section(section.seed.parse().unwrap_or(0))).collect();
    let plan = (!plan.is_empty()).then_some(Plan { steps: plan });
    document.progress = Progress::Failed { class, message, plan, sections };
    document
}

/// The document as a store keeps it. It has no attempts: the files do not list those of accepted documents.
fn ended(document: &Document) -> Result<EndedDocument, FolderError> {
    let (state, reason) = match &document.progress {
        Progress::Finished { verdict: Verdict::Rejected { rule, .. }, .. } => (State::Rejected, rule.clone()),
        Progress::Failed { class, .. } => (State::Failed, class.clone()),
        Progress::Finished { verdict: Verdict::Accepted, .. }
        | Progress::Planning { .. }
        | Progress::Writing { .. }
        | Progress::Summarising { .. }
        | Progress::Judging { .. }
        | Progress::Cancelled { .. } => (State::Accepted, String::new()),
    };
    let body = serde_json::to_string(document).map_err(|error| StoreError::Other(error.to_string()))?;
    let (attempts, history) = (Vec::new(), Vec::new());
    Ok(EndedDocument {
        id: document.id,
        state,
        reason,
        version: 1,
        open: true,
        flushed: false,
        body,
        attempts,
        history,
    })
}

fn parse<T: DeserializeOwned>(line: &[u8], path: &Path, at: usize) -> Result<T, FolderError> {
    serde_json::from_slice(line).map_err(|error| row(path, at, &error))
}

fn row(path: &Path, line: usize, problem: &dyn std::fmt::Display) -> FolderError {
    FolderError::Row { path: path.to_owned(), line, problem: problem.to_string() }
}

fn lines(path: &Path, mut take: impl FnMut(&[u8], usize) -> Result<(), FolderError>) -> Result<(), FolderError> {
    let read = |source| FolderError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(read)?);
    let mut line = Vec::new();
    for at in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(read)? == 0 {
            break;
        }
        take(&line, at)?;
    }
    Ok(())
}

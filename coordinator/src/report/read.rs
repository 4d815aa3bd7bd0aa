//! Reads the documents of a run from the files of an export. Needs no store.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use longhand_proto::DocumentId;
use longhand_proto::task::Message;
use serde::Deserialize;

use super::Report;
use crate::corpus::{Record, SectionRecord, Stats};
use crate::domain::document::{Assembled, Section, assemble};
use crate::domain::instruction::Instruction;
use crate::domain::language::Language;
use crate::domain::plan::{Plan, Step};
use crate::domain::recipe::{Recipe, RecipeError};

/// Why no report can be made of a folder.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read.
    #[error("{}: {source}; expected a complete output folder of `longhand run` or `longhand export`", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A line is invalid.
    #[error("{}:{line}: {problem}; export the folder again with `longhand run` or `longhand export`", path.display())]
    Row { path: PathBuf, line: usize, problem: String },
    /// The export is of another format.
    #[error("{}: no whole records; a report needs an export with --format records", path.display())]
    NoRecords { path: PathBuf },
    /// The recipe cannot be read.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// The fields of a line of `rejected.jsonl` that the rules need.
#[derive(Debug, Deserialize)]
struct Rejected {
    id: DocumentId,
    language: Language,
    instruction: String,
    length: Option<u32>,
    plan: Vec<Step>,
    sections: Vec<SectionRecord>,
}

/// Measures the documents of the corpus in `dir`: the accepted ones, then the rejected ones. `recipe` replaces the recipe of
/// the corpus, if given.
///
/// # Errors
/// A file or the recipe cannot be read, or the export has another format than `records`.
pub fn read(dir: &Path, recipe: Option<Recipe>) -> Result<Report, ReportError> {
    let stats = dir.join("stats.json");
    let text = std::fs::read(&stats).map_err(|source| ReportError::Read { path: stats.clone(), source })?;
    let Stats { run, splits, .. } = serde_json::from_slice(&text).map_err(|error| row(&stats, error.line(), &error))?;
    let recipe = match recipe {
        Some(recipe) => recipe,
        None => Recipe::load(dir.join("recipe.toml"))?,
    };
    let mut report = Report::new(run.to_string(), recipe);
    let data = dir.join("data");
    let entries = std::fs::read_dir(&data).map_err(|source| ReportError::Read { path: data.clone(), source })?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| ReportError::Read { path: data.clone(), source })?.path();
        files.extend(path.extension().is_some_and(|ending| ending == "jsonl").then_some(path));
    }
    files.sort();
    // Without an accepted document there is no file.
    if files.is_empty() && !splits.is_empty() {
        return Err(ReportError::NoRecords { path: data });
    }
    for path in files {
        lines(&path, |line, at| {
            let record: Record = match serde_json::from_slice(line) {
                Ok(record) => record,
                Err(_) if at == 1 => return Err(ReportError::NoRecords { path: path.clone() }),
                Err(error) => return Err(row(&path, at, &error)),
            };
            let (mut messages, sections) = (record.messages, sections(&record.sections));
            let text = messages.pop().map_or_else(String::new, |answer| answer.content);
            let instruction = instruction(messages, record.language, record.length);
            let plan = Plan { steps: record.plan };
            let assembled = Assembled { instruction: &instruction, plan: &plan, sections: &sections, text: &text };
            report.add(record.id, &assembled);
            Ok(())
        })?;
    }
    let path = dir.join("rejected.jsonl");
    lines(&path, |line, at| {
        let rejected: Rejected = serde_json::from_slice(line).map_err(|error| row(&path, at, &error))?;
        let messages = vec![Message { role: "user".into(), content: rejected.instruction }];
        let (instruction, sections) =
            (instruction(messages, rejected.language, rejected.length), sections(&rejected.sections));
        let (plan, text) = (Plan { steps: rejected.plan }, assemble(&sections));
        let assembled = Assembled { instruction: &instruction, plan: &plan, sections: &sections, text: &text };
        report.add(rejected.id, &assembled);
        Ok(())
    })?;
    Ok(report)
}

fn row(path: &Path, line: usize, problem: &dyn std::fmt::Display) -> ReportError {
    ReportError::Row { path: path.to_owned(), line, problem: problem.to_string() }
}

fn lines(path: &Path, mut take: impl FnMut(&[u8], usize) -> Result<(), ReportError>) -> Result<(), ReportError> {
    let read = |source| ReportError::Read { path: path.to_owned(), source };
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

fn instruction(messages: Vec<Message>, language: Language, required_words: Option<u32>) -> Instruction {
    let (context, metadata) = (Vec::new(), serde_json::Map::new());
    Instruction { id: None, messages, language, required_words, context, metadata, line: 0 }
}

fn sections(records: &[SectionRecord]) -> Vec<Section> {
    // No rule reads a seed.
    records.iter().map(|record| record.section(record.seed.parse().unwrap_or(0))).collect()
}

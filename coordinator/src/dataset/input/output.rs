//! A file of rows being written: whole or not there, and compressed if its name says so.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use longhand_proto::task::Message;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::instruction::{Context, Instruction};
use crate::domain::language::Language;
use crate::files::FileError;
use crate::files::atomic::Pending;

/// A row as [`super::read`] reads it.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(flatten)]
    pub(crate) text: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) language: Option<Language>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) length: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) context: Vec<Context>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
}

/// A lone turn of the user's is a prompt.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Text {
    Prompt(String),
    Messages(Vec<Message>),
}

impl Text {
    /// A prompt where there is only one turn, the user's.
    pub(crate) fn of(messages: &[Message]) -> Self {
        match messages {
            [only] if only.role == "user" => Self::Prompt(only.content.clone()),
            _ => Self::Messages(messages.to_vec()),
        }
    }
}

impl Row {
    /// All that an instruction says: reading the row gives it again.
    pub(crate) fn of(instruction: &Instruction) -> Self {
        let Instruction { id, messages, language, required_words, context, metadata, line: _ } = instruction;
        Self {
            id: id.clone(),
            text: Text::of(messages),
            language: Some(*language),
            length: *required_words,
            context: context.clone(),
            metadata: metadata.clone(),
        }
    }
}

/// Good for text at a speed that no reader waits for.
const ZSTD_LEVEL: i32 = 6;

/// JSON Lines; `.gz` and `.zst` at the end of the name compress. Dropped before [`Output::finish`], nothing is left.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    sink: Sink,
}

enum Sink {
    Plain(Pending),
    Gzip(flate2::write::GzEncoder<Pending>),
    Zstd(zstd::Encoder<'static, Pending>),
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "plain",
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
        })
    }
}

impl Output {
    /// Begins the file; it gets its name in [`Output::finish`].
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let pending = Pending::create(path)?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        let sink = match ending {
            Some("gz") => Sink::Gzip(flate2::write::GzEncoder::new(pending, flate2::Compression::default())),
            Some("zst") => {
                Sink::Zstd(zstd::Encoder::new(pending, ZSTD_LEVEL).map_err(|error| FileError::io(path, error))?)
            }
            Some(_) | None => Sink::Plain(pending),
        };
        Ok(Self { path: path.to_owned(), sink })
    }

    /// Adds a row.
    pub fn add(&mut self, row: &impl Serialize) -> Result<(), FileError> {
        let out: &mut dyn Write = match &mut self.sink {
            Sink::Plain(out) => out,
            Sink::Gzip(out) => out,
            Sink::Zstd(out) => out,
        };
        let written = serde_json::to_writer(&mut *out, row).map_err(io::Error::from);
        written.and_then(|()| out.write_all(b"\n")).map_err(|error| FileError::io(&self.path, error))
    }

    /// Makes the file durable and gives it its name.
    pub fn finish(self) -> Result<(), FileError> {
        let pending = match self.sink {
            Sink::Plain(pending) => Ok(pending),
            Sink::Gzip(encoder) => encoder.finish(),
            Sink::Zstd(encoder) => encoder.finish(),
        };
        pending.map_err(|error| FileError::io(&self.path, error))?.commit()
    }
}

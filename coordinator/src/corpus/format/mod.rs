//! Export formats: the shapes in which trainers read a corpus. One file for each; a new one is that file and its line in
//! [`ALL`].

mod alpaca;
mod dpo;
mod messages;
mod openai;
mod records;
mod sharegpt;
mod spec;
#[cfg(test)]
mod tests;
mod turns;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use serde_json::{Value, json};

use crate::corpus::record::Record;
use spec::{Rows, Spec};

/// All formats, in the order of the help text.
const ALL: [&Spec; 10] = [
    &records::RECORDS,
    &records::PARQUET,
    &messages::MESSAGES,
    &openai::OPENAI,
    &sharegpt::SHAREGPT,
    &alpaca::ALPACA,
    &dpo::DPO,
    &dpo::DPO_LENGTH,
    &dpo::DPO_QUALITY,
    &dpo::DPO_SECTION,
];

/// An export format.
#[derive(Debug, Clone, Copy)]
pub struct Format(&'static Spec);

impl Format {
    /// What the data files hold, for the dataset card.
    pub(super) fn contents(self) -> &'static str {
        self.0.contents
    }

    /// Extensions of the data files.
    pub(super) fn extensions(self) -> &'static [&'static str] {
        self.0.extensions
    }

    /// Columns of the rows, the same in every file.
    pub(super) fn columns(self) -> SchemaRef {
        Arc::new(Schema::new((self.0.columns)()))
    }

    /// True if rows are records as they are.
    pub(super) fn has_whole_records(self) -> bool {
        matches!(self.0.rows, Rows::Whole)
    }

    /// True if a row is a pair, so that a corpus may give no row.
    pub fn has_pairs(self) -> bool {
        matches!(self.0.rows, Rows::Pairs(_))
    }

    /// The rows of the accepted candidates of one instruction.
    pub(super) fn rows(self, candidates: &[Record]) -> Vec<Value> {
        match self.0.rows {
            Rows::Whole => candidates.iter().map(|record| json!(record)).collect(),
            Rows::Each(row) => candidates.iter().map(row).collect(),
            Rows::Pairs(pairs) => pairs(candidates),
        }
    }

    /// How LLaMA-Factory reads a file, for `dataset_info.json`; none if it cannot.
    pub(super) fn llama_factory(self) -> Option<Value> {
        self.0.llama_factory.map(|value| value())
    }
}

impl Default for Format {
    fn default() -> Self {
        Self(&records::RECORDS)
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Format {}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || ALL.map(|spec| spec.name).join(", ");
        let spec = ALL.into_iter().find(|spec| spec.name == text);
        spec.map(Self).ok_or_else(|| format!("invalid format {text:?}: expected one of {}", names()))
    }
}

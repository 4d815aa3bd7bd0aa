//! What a composition is asked for, and why there may be none.

use std::path::PathBuf;

use super::lengths::Lengths;
use super::seeds::Seeds;
use crate::files::FileError;

/// What is drawn.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows, over all languages.
    pub count: usize,
    /// Decides the draw.
    pub seed: u64,
    /// Lengths to ask for.
    pub lengths: Lengths,
    /// The seeds of each language, one or more; they share the rows evenly, and take turns.
    pub seeds: Vec<Seeds>,
}

/// Why nothing was composed.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    #[error(
        "no form of the {language} seeds is left for a text of {words} words after {rows} rows; \
         ask for fewer rows or other lengths, or add forms and subjects with --seeds"
    )]
    NoForm { words: u32, language: &'static str, rows: usize },
    #[error(
        "after {rows} rows all {language} patterns give near duplicates; ask for fewer rows, or add patterns and subjects with --seeds"
    )]
    TooAlike { language: &'static str, rows: usize },
    #[error("{} already exists and holds other rows than this draw; choose another file, or remove this one", path.display())]
    Exists { path: PathBuf },
    #[error("{}: {source}; check the path and its permissions", path.display())]
    Look { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Output(#[from] FileError),
    #[error("the model stopped answering: {0}; fix this, then rerun the same command: it begins again")]
    Model(String),
}

//! What a selection is asked for, and why there may be none.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::rules::Rules;
use crate::dataset::input::InputError;
use crate::domain::language::Language;
use crate::files::FileError;

/// Which rows are chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// Languages of the rows that are kept.
    pub languages: Vec<Language>,
    /// Words that a stated length may ask for.
    pub length: RangeInclusive<u32>,
    /// Leave out rows that state no length.
    pub require_length: bool,
    /// Keep rows that ask for a short answer too.
    pub any_intent: bool,
    /// The rule lists and the questions to a model.
    pub rules: Rules,
    /// Least similarity of near duplicates.
    pub similarity: f64,
    /// Files whose instructions must not be among the chosen: an evaluation's.
    pub against: Vec<PathBuf>,
    /// Most rows of each language; one that is not named has no bound.
    pub quotas: HashMap<Language, u64>,
    /// Topics among which each quota is shared evenly; 0 draws from all rows alike.
    pub topics: usize,
    /// Decides which rows fill a quota.
    pub seed: u64,
    /// Threads that judge rows.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            languages: vec![Language::En, Language::Zh],
            length: 1..=1_000_000,
            require_length: false,
            any_intent: false,
            rules: Rules::built_in(),
            similarity: 0.8,
            against: Vec::new(),
            quotas: HashMap::new(),
            topics: 0,
            seed: 0,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// Why nothing was selected.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Output(#[from] FileError),
    #[error("{}: the file changed while it was being read; rerun the same command", path.display())]
    Changed { path: PathBuf },
    #[error(
        "the model stopped answering: {0}; fix this, then rerun the same command to resume with the answers so far"
    )]
    Model(String),
}

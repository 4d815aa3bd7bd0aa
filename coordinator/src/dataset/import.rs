//! Rows of other people's data sets become rows of instructions: one user turn each, with where it came from.
//!
//! A data set is recognised by the column that holds the instruction (see [`Format`]); whether it is JSON Lines, a JSON list
//! or Parquet, plain or compressed, is the reader's business. A row is read, turned and written before the next one, so
//! memory does not grow with the file.

mod format;
mod options;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::dataset::input::{InputError, Output, Rows, quoted};
use crate::domain::instruction::BadRow;
use crate::files::FileError;

pub use format::Format;
pub use options::{Options, Turn};

use format::Shape;

/// Rows without any known column, at the beginning of a file, after which it is taken for something else.
const MAX_UNRECOGNISED_ROWS: u64 = 100;
/// Most bad rows that are kept with their messages; all are counted.
const MAX_REPORTED_BAD_ROWS: usize = 1000;

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Rows that were read.
    pub read: u64,
    /// Rows that were written as instructions.
    pub written: u64,
    /// Rows that could not be read.
    pub bad: u64,
    /// Rows that were written without what one of their columns says, by column.
    pub dropped: BTreeMap<&'static str, u64>,
    /// The first bad rows.
    #[serde(serialize_with = "crate::dataset::input::as_texts")]
    pub bad_rows: Vec<BadRow>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(
        "{}: {problem}; the columns are {columns}; name the one that holds the instruction with --field, or see --format in `longhand import --help`",
        path.display()
    )]
    Unknown { path: PathBuf, problem: String, columns: String },
    #[error(transparent)]
    Output(#[from] FileError),
}

/// Reads `sources` in order and writes their instructions to `out`.
pub fn import(sources: &[PathBuf], out: &Path, options: &Options) -> Result<Report, ImportError> {
    let mut output = Output::create(out)?;
    let mut report = Report::default();
    for source in sources {
        import_file(source, &mut output, options, &mut report)?;
    }
    output.finish()?;
    Ok(report)
}

fn import_file(path: &Path, output: &mut Output, options: &Options, report: &mut Report) -> Result<(), ImportError> {
    let mut rows = Rows::open(path, |column| options.reads(column))?;
    let mut shape: Option<Shape> = None;
    let mut unknown = None;
    let before = report.read;
    while let Some(row) = rows.next() {
        report.read += 1;
        let mut dropped = source::Dropped::new();
        let result = match row {
            Err(bad) => Err(bad),
            Ok(bytes) => source::object(&bytes, |key| options.reads(key))
                .and_then(|object| {
                    if shape.is_none() {
                        shape = Shape::detect(options.format.as_ref(), &object);
                    }
                    match &shape {
                        Some(shape) => source::row(&object, shape, options, path, rows.line(), &mut dropped),
                        None => {
                            unknown.get_or_insert_with(|| rows.columns().map_or_else(|| quoted(object.keys()), quoted));
                            Err(Shape::missing(options.format.as_ref()))
                        }
                    }
                })
                .map_err(|fault| rows.bad(fault, &bytes)),
        };
        match result {
            Ok(row) => {
                output.add(&row)?;
                report.written += 1;
                for column in dropped {
                    *report.dropped.entry(column).or_default() += 1;
                }
            }
            Err(bad) => {
                report.bad += 1;
                if report.bad_rows.len() < MAX_REPORTED_BAD_ROWS {
                    report.bad_rows.push(bad);
                }
            }
        }
        if shape.is_none() && report.read - before >= MAX_UNRECOGNISED_ROWS {
            break;
        }
    }
    match (shape, unknown) {
        (None, Some(columns)) => {
            let problem = Shape::missing(options.format.as_ref()).problem;
            Err(ImportError::Unknown { path: path.to_owned(), problem, columns })
        }
        (None, None) if report.read == before => Err(InputError::Empty { path: path.to_owned() }.into()),
        (None, None) | (Some(_), _) => Ok(()),
    }
}

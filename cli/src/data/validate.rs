//! `longhand validate`: the content of a file of instructions, and its bad rows.

use std::path::PathBuf;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use longhand_coordinator::dataset::input::{self, LENGTH_BINS, Summary};

use super::bad_rows;

const HELP: &str = "\
Examples:
  longhand validate instructions.jsonl
  longhand validate instructions.jsonl.zst --json

Exit codes:
  0    every row is valid
  2    the file cannot be read, or has no rows
  3    some rows are bad; each is listed with its line and how to fix it";

/// The file to check.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ValidateArgs {
    /// File of instructions
    input: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads the whole file; bad rows are listed.
pub(crate) fn validate(args: &ValidateArgs) -> Result<Code> {
    let summary = input::validate(&args.input).map_err(Failure::refused)?;
    output::print(args.json, &summary, || text(&summary))?;
    Ok(if summary.bad == 0 { Code::Ok } else { Code::Partial })
}

fn text(summary: &Summary) -> String {
    let mut text = bad_rows::text(&summary.bad_rows, summary.bad);
    let count = |name: &str, number: u64| vec![name.to_owned(), output::grouped(number)];
    let mut rows = vec![
        count("valid rows", summary.rows),
        count("bad rows", summary.bad),
        count("duplicate rows (skipped)", summary.repeated),
        count("English", summary.english),
        count("Chinese", summary.chinese),
    ];
    for (bin, number) in LENGTH_BINS.iter().zip(summary.lengths) {
        rows.push(count(&format!("requested length {bin}"), number));
    }
    rows.push(count("no requested length", summary.no_length));
    text.push_str(&output::table(&rows));
    text.trim_end().to_owned()
}

//! `longhand import`: converts a data set of conversations or prompts into a file of instructions.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped};
use longhand_coordinator::dataset::import::{Format, Options, Report, Turn, import as import_files};

use super::bad_rows;

const HELP: &str = "\
Examples:
  longhand import data/train-*.parquet -o instructions.jsonl \\
    --source org/chats --licence odc-by
  longhand import sharegpt.json -o instructions.jsonl --turn last --history
  longhand import questions.jsonl.zst -o instructions.jsonl.zst --field query

A source is JSON Lines, a JSON array or Parquet, plain or compressed with gzip or zstd, and is read as a stream. Its format \
is detected from the column that holds the instruction:
  wildchat   `conversation`: turns, beside language and moderation
  sharegpt   `conversations`: turns with from and value
  messages   `messages`: turns with role and content
  openai     `body.messages`: lines of an OpenAI batch
  prompt     `prompt`: a text
  alpaca     `instruction`, with an optional `input`

Each row of the output has an id derived from its content, the instruction, its language, length and context if the source \
states them, and its origin in `metadata.source`: data set, file, row, format, turn, id, licence. `metadata.moderation` holds the \
moderation result of the source. With --history, the columns `system` and `history` are kept too. What a row states and the \
output does not keep is counted by column. Use `longhand select` to choose among the rows.

Exit codes:
  0    every row was read
  2    nothing was written: a source cannot be read, or has no known column
  3    some rows are bad; each is listed with its line and how to fix it";

/// The sources, and how to read them.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ImportArgs {
    /// Files of a data set
    #[arg(required = true)]
    sources: Vec<PathBuf>,

    /// File of instructions to write; compressed if its name ends with `.gz` or `.zst`
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Format of the data set [default: detected from its columns]
    #[arg(long, value_enum, conflicts_with = "field")]
    format: Option<FormatArg>,

    /// Column that holds the instruction, as text or as turns
    #[arg(long, value_name = "COLUMN")]
    field: Option<String>,

    /// User turn to take as the instruction: first, last, or a number from 1
    #[arg(long, default_value = "first")]
    turn: TurnArg,

    /// Keep the turns before that one as context
    #[arg(long)]
    history: bool,

    /// Name of the data set, for the origin of its rows [default: the file name]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Licence of rows that do not state one
    #[arg(long, value_name = "LICENCE")]
    licence: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    Wildchat,
    Sharegpt,
    Messages,
    Openai,
    Prompt,
    Alpaca,
}

#[derive(Debug, Clone, Copy)]
struct TurnArg(Turn);

impl FromStr for TurnArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("first", _) => Ok(Self(Turn::First)),
            ("last", _) => Ok(Self(Turn::Last)),
            (_, Ok(number)) if number > 0 => Ok(Self(Turn::Nth(number))),
            _ => Err(format!("invalid turn {text:?}: expected first, last, or a number from 1")),
        }
    }
}

/// Reads the sources in the order given.
pub(crate) fn import(args: &ImportArgs) -> Result<Code> {
    let format = args.format.map(|format| match format {
        FormatArg::Wildchat => Format::Wildchat,
        FormatArg::Sharegpt => Format::Sharegpt,
        FormatArg::Messages => Format::Messages,
        FormatArg::Openai => Format::Openai,
        FormatArg::Prompt => Format::Prompt,
        FormatArg::Alpaca => Format::Alpaca,
    });
    let options = Options {
        format: format.or_else(|| args.field.clone().map(Format::Field)),
        turn: args.turn.0,
        history: args.history,
        source: args.source.clone(),
        licence: args.licence.clone(),
    };
    let report = import_files(&args.sources, &args.output, &options).map_err(Failure::refused)?;
    output::print(args.json, &report, || text(&report, args))?;
    Ok(if report.bad == 0 { Code::Ok } else { Code::Partial })
}

fn text(report: &Report, args: &ImportArgs) -> String {
    let mut text = bad_rows::text(&report.bad_rows, report.bad);
    let rows = [("rows read", report.read), ("bad rows (skipped)", report.bad), ("instructions", report.written)];
    let mut rows: Vec<_> = rows.into_iter().map(|(name, count)| vec![name.to_owned(), grouped(count)]).collect();
    for (column, count) in &report.dropped {
        let remedy = if matches!(*column, "system" | "history") { "; keep it with --history" } else { " (not usable)" };
        rows.push(vec![format!("rows without their `{column}`{remedy}"), grouped(*count)]);
    }
    text.push_str(&output::table(&rows));
    format!("{text}\n{}", args.output.display())
}

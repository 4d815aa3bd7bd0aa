//! `longhand import`: a data set of conversations or prompts becomes a file of instructions.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use longhand_coordinator::dataset::import::{Format, Options, Report, Turn, import as import_files};

use crate::exit::{Code, Failure, Result};
use crate::output::{self, grouped};

const HELP: &str = "\
Examples:
  longhand import data/train-*.parquet -o instructions.jsonl --source org/chats --licence odc-by
  longhand import sharegpt.json -o instructions.jsonl --turn last --history
  longhand import questions.jsonl.zst -o instructions.jsonl.zst --field query

A source is JSON Lines, a JSON list or Parquet, plain or compressed by gzip or zstd, and is read as a stream. Its kind is
told by the column that holds the instruction:
  wildchat   `conversation`: turns, beside language and moderation
  sharegpt   `conversations`: turns with from and value
  messages   `messages`: turns with role and content
  openai     `body.messages`: lines of an OpenAI batch
  prompt     `prompt`: a text
  alpaca     `instruction`, with an optional `input`

Each row of the output has an id that names its content, the instruction, its language and length where the source states
them, and in `metadata.source` where it came from: data set, file, row, format, turn, id, licence. `metadata.moderation`
holds what the source's own moderation says. `longhand select` chooses among them.

Exit codes:
  0    every row was read
  2    nothing was written: a source cannot be read, or has no known column
  3    some rows are bad; each is listed with its line and the remedy";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ImportArgs {
    /// Files of a data set
    #[arg(required = true)]
    sources: Vec<PathBuf>,

    /// File of instructions to write; `.gz` or `.zst` at its end compresses it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Kind of the data set [default: told by its columns]
    #[arg(long, value_enum, conflicts_with = "field")]
    format: Option<Kind>,

    /// Column that holds the instruction, as a text or as turns
    #[arg(long, value_name = "COLUMN")]
    field: Option<String>,

    /// Turn of the user's that is the instruction: first, last, or a number from 1
    #[arg(long, default_value = "first")]
    turn: TurnArg,

    /// Keep the turns before it
    #[arg(long)]
    history: bool,

    /// Name of the data set, for the provenance of its rows [default: the file's name]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Licence of rows that do not state their own
    #[arg(long, value_name = "LICENCE")]
    licence: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
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
            _ => Err(format!("{text:?} is no turn: want first, last, or a number from 1")),
        }
    }
}

/// Reads the sources in the order given.
pub(crate) fn import(args: &ImportArgs) -> Result<Code> {
    let format = args.format.map(|kind| match kind {
        Kind::Wildchat => Format::Wildchat,
        Kind::Sharegpt => Format::Sharegpt,
        Kind::Messages => Format::Messages,
        Kind::Openai => Format::Openai,
        Kind::Prompt => Format::Prompt,
        Kind::Alpaca => Format::Alpaca,
    });
    let options = Options {
        format: format.or_else(|| args.field.clone().map(Format::Field)),
        turn: args.turn.0,
        history: args.history,
        source: args.source.clone(),
        licence: args.licence.clone(),
    };
    let report = import_files(&args.sources, &args.output, &options).map_err(Failure::refused)?;
    if args.json {
        output::json(&report)?;
    } else {
        output::line(&text(&report, args))?;
    }
    Ok(if report.bad == 0 { Code::Ok } else { Code::Flawed })
}

fn text(report: &Report, args: &ImportArgs) -> String {
    let mut text = output::bad_rows(&report.bad_rows, report.bad);
    let rows = [("rows read", report.read), ("bad rows (left out)", report.bad), ("instructions", report.written)];
    text.push_str(&output::table(&rows.map(|(name, count)| vec![name.to_owned(), grouped(count)])));
    format!("{text}\n{}", args.output.display())
}

//! `longhand compose`: makes a file of instructions from a table of forms, subjects, readers and tones.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use futures::{StreamExt, TryStreamExt, stream};
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped};
use longhand_coordinator::dataset::compose::{
    BUILT_IN, ComposeError, Lengths, Options, Report, Seeds, WordingModel, compose as compose_rows,
};
use longhand_coordinator::dataset::input::LENGTH_BINS;
use longhand_coordinator::domain::language::Language;
use longhand_proto::task::{self, Output, Task};
use longhand_worker::engine::{Engine, generate};
use tokio::runtime::Handle;

use crate::args::engine::{EngineArgs, EngineKind};
use crate::engine;

/// Messages of progress for each round of questions to the model.
const MESSAGES: usize = 10;

const HELP: &str = "\
Examples:
  longhand compose -o instructions.jsonl --count 200
  longhand compose -o zh.jsonl --count 1000 --language zh --lengths 3000-10000
  longhand compose -o instructions.jsonl --count 200 --model model.gguf
  longhand compose --write-seeds my-seeds

Each row asks for a form (essay, field guide, short story, ...) on a subject, with a length; most also name readers and a tone. \
A pair of form and subject comes once, all else is spread evenly, and no two rows are near duplicates. Lengths are \
log-uniform over --lengths, as round numbers of words (characters in Chinese). Without a model, the rows are worded by \
sentence patterns. With --model, or --engine and a server, the model words each row: it must name form, subject and length in \
one plain request. After three tries that fail, the pattern's sentence stays.

The same seed, seed files and arguments give the same file. A file that holds this draw already is left alone; another file is \
never replaced. `metadata` of a row has form, subject, field, reader, tone, how it was worded, the seed and the hash of the seed file.

Exit codes:
  0    the file holds the rows
  1    the engine failed; nothing was written
  2    nothing was written: invalid arguments, a bad seed file, too few seeds,
       or a file that is in the way";

/// How many rows, and of what.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ComposeArgs {
    /// File of instructions to write; compressed if its name ends with `.gz` or `.zst`
    #[arg(short, long, value_name = "FILE", required_unless_present = "write_seeds")]
    output: Option<PathBuf>,

    /// Number of rows
    #[arg(long, value_name = "N", required_unless_present = "write_seeds")]
    count: Option<NonZeroUsize>,

    /// Random seed of the draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Language of the rows; both share them evenly
    #[arg(long, value_enum, default_value_t = LanguagesArg::Both)]
    language: LanguagesArg,

    /// Lengths to ask for, in words
    #[arg(long, value_name = "MIN-MAX", default_value = "2000-32000")]
    lengths: Lengths,

    /// Folder with custom seed files: en.toml, zh.toml
    #[arg(long, value_name = "DIR")]
    seeds: Option<PathBuf>,

    /// Write the built-in seed files into a folder, and do nothing else
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "count", "seeds"])]
    write_seeds: Option<PathBuf>,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LanguagesArg {
    En,
    Zh,
    Both,
}

impl LanguagesArg {
    const fn languages(self) -> &'static [Language] {
        match self {
            Self::En => &[Language::En],
            Self::Zh => &[Language::Zh],
            Self::Both => &[Language::En, Language::Zh],
        }
    }
}

impl ComposeArgs {
    fn options(&self, count: NonZeroUsize) -> Result<Options> {
        let seeds = |language: &Language| match &self.seeds {
            Some(folder) => Seeds::load(folder, *language).map_err(Failure::refused),
            None => Ok(Seeds::built_in(*language)),
        };
        Ok(Options {
            count: count.get(),
            seed: self.seed,
            lengths: self.lengths.clone(),
            seeds: self.language.languages().iter().map(seeds).collect::<Result<_>>()?,
        })
    }

    /// Whether a model words the rows: the local engine does if a model is given.
    fn is_worded(&self) -> bool {
        match self.engine.engine {
            EngineKind::Local => self.engine.model.is_some(),
            EngineKind::OpenAi | EngineKind::Mock => true,
        }
    }
}

/// Composes, and prints what the file holds.
pub(crate) async fn compose(args: &ComposeArgs) -> Result<Code> {
    if let Some(folder) = &args.write_seeds {
        return write_seeds(folder);
    }
    let (Some(out), Some(count)) = (&args.output, args.count) else {
        return Err(Failure::refused("no output and count given; see `longhand compose --help`"));
    };
    let options = args.options(count)?;
    let engine = if args.is_worded() { Some(engine::open(&args.engine).await?) } else { None };
    let work = {
        let (out, runtime) = (out.clone(), Handle::current());
        move || match engine {
            None => compose_rows(&out, &options, None),
            Some(engine) => {
                let mut write = |tasks| runtime.block_on(write_all(&engine, tasks));
                let model = WordingModel { model: engine.model().clone(), write: &mut write };
                compose_rows(&out, &options, Some(model))
            }
        }
    };
    let report = match tokio::task::spawn_blocking(work).await.map_err(Failure::stopped)? {
        Err(error @ ComposeError::Model(_)) => return Err(Failure::stopped(error)),
        ended => ended.map_err(Failure::refused)?,
    };
    output::print(args.json, &report, || text(&report, out))?;
    Ok(Code::Ok)
}

/// Runs the tasks, as many at a time as the engine takes.
async fn write_all(
    engine: &Arc<dyn Engine>,
    tasks: Vec<Task>,
) -> std::result::Result<Vec<std::result::Result<Output, task::Failure>>, String> {
    let all = tasks.len();
    output::note(&format!("asking {} to word {} rows", engine.model().name, grouped(all as u64)));
    let slots = engine.slots().max(1) as usize;
    let mut done = 0;
    let counted = |_: &_| {
        done += 1;
        if done % all.div_ceil(MESSAGES) == 0 && done < all {
            output::note(&format!("{} of {} rows", grouped(done as u64), grouped(all as u64)));
        }
    };
    stream::iter(tasks)
        .map(|task| generate(engine.as_ref(), task))
        .buffered(slots)
        .inspect_ok(counted)
        .try_collect()
        .await
}

fn text(report: &Report, out: &Path) -> String {
    let count = |name: &str, number: usize| vec![name.to_owned(), grouped(number as u64)];
    let mut rows = vec![
        count("rows", report.rows),
        count("  English", report.english),
        count("  Chinese", report.chinese),
        count("forms", report.forms),
        count("subjects", report.subjects),
    ];
    for (bin, number) in LENGTH_BINS.iter().zip(report.lengths) {
        rows.push(count(&format!("length {bin}"), number));
    }
    if let Some(worded) = &report.worded {
        rows.extend([count("worded by the model", worded.model), count("worded by a pattern", worded.pattern)]);
        rows.extend(worded.refused.iter().map(|(gate, number)| count(&format!("  tries refused: {gate}"), *number)));
    }
    let held = if report.unchanged { " (held this draw already; nothing was written)" } else { "" };
    format!("{}\n{}{held}", output::table(&rows), out.display())
}

fn write_seeds(folder: &Path) -> Result<Code> {
    let at = |path: &Path, error| Failure::refused(format!("{}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    for (name, text) in BUILT_IN {
        let path = folder.join(name);
        if path.exists() {
            return Err(Failure::refused(format!("{} already exists; choose another folder", path.display())));
        }
        fs::write(&path, text).map_err(|error| at(&path, error))?;
    }
    output::line(&format!("{}", folder.display())).map(|()| Code::Ok)
}

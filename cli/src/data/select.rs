//! `longhand select`: selects instructions from a larger file.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped};
use longhand_coordinator::dataset::select::{
    IntentModel, Options, Report, Rules, SelectError, rules, select as select_rows,
};
use longhand_coordinator::domain::language::Language;
use longhand_proto::task::{self, Output, Task};
use longhand_worker::engine::{Engine, generate};
use tokio::runtime::Handle;

use crate::args::engine::EngineArgs;
use crate::engine;

/// Attempts per row if the engine fails.
const MAX_ATTEMPTS: u32 = 3;

const HELP: &str = "\
Examples:
  longhand select instructions.jsonl -o chosen.jsonl --quota en=3000 \\
    --quota zh=3000 --topics 100
  longhand select instructions.jsonl -o chosen.jsonl --min-length 2000 \\
    --require-length --against longbench_write.jsonl
  longhand select instructions.jsonl -o chosen.jsonl --ask --model model.gguf
  longhand select --write-rules my-rules

Rules, in the order in which they are applied; each drops a row if:
  bad_row          the row cannot be read
  language         its language is none of --languages
  toxic, scraping  it matches a line of the rule list, or the source's
                   moderation flagged it
  length           it states a length outside --min-length to --max-length
  no_length        it states no length, with --require-length
  short            it states no length and the rule lists say that it wants a
                   short answer (unless --any-intent)
  exact_duplicate  an earlier row has the same text
  contaminated     a row of --against is a near duplicate
  near_duplicate   an earlier row that passed is a near duplicate
  intent           the model says that it wants a short answer, with --ask
  quota            --quota is reached: rows are drawn at random by --seed, from
                   each of --topics in turn

Two texts are near duplicates if the Jaccard similarity of their 5-word shingles (5-character shingles in Chinese) is at \
least --similarity. Pairs at the threshold are found with a probability of 0.99, more similar pairs with a higher one.

With --ask, a model decides about each row that states no length and that the rule lists leave open. It answers yes or no; \
answers are saved in answers.jsonl beside the output, so that rerunning the same command resumes. Rows with an unreadable \
answer are kept and counted. Without --ask, such rows are kept.

Each dropped row is listed in the dropped file with its line, rule, value and details.

Exit codes:
  0    at least one row was selected
  1    the engine failed; rerun the same command to resume
  2    nothing was written: invalid arguments, or a file, a rule list or a model
       cannot be read
  3    no row was selected";

/// The input, and the rules to select by.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct SelectArgs {
    /// File of instructions
    #[arg(required_unless_present = "write_rules")]
    input: Option<PathBuf>,

    /// File to write the selected rows to
    #[arg(short, long, value_name = "FILE", required_unless_present = "write_rules")]
    output: Option<PathBuf>,

    /// File to list the dropped rows in [default: dropped.jsonl beside the output]
    #[arg(long, value_name = "FILE")]
    dropped: Option<PathBuf>,

    /// Languages to keep
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "en,zh")]
    languages: Vec<LanguageArg>,

    /// Minimum stated length, in words
    #[arg(long, value_name = "WORDS", default_value_t = 1)]
    min_length: u32,

    /// Maximum stated length, in words
    #[arg(long, value_name = "WORDS", default_value_t = 1_000_000)]
    max_length: u32,

    /// Keep only rows that state a length
    #[arg(long)]
    require_length: bool,

    /// Also keep rows that want a short answer
    #[arg(long)]
    any_intent: bool,

    /// Let a model decide where the rule lists cannot tell whether a row wants a long text
    #[arg(long, conflicts_with_all = ["any_intent", "require_length"])]
    ask: bool,

    /// Folder with custom rule lists: toxic.txt, scraping.txt, long.txt, short.txt; and the questions for --ask:
    /// question_en.txt and question_zh.txt
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,

    /// Write the built-in rule lists and questions into a folder, and do nothing else
    #[arg(long, value_name = "DIR", conflicts_with_all = ["input", "output"])]
    write_rules: Option<PathBuf>,

    /// Minimum similarity of near duplicates, above 0 and at most 1
    #[arg(long, value_name = "FRACTION", default_value_t = 0.8, value_parser = fraction)]
    similarity: f64,

    /// File of instructions to exclude near duplicates of, such as an evaluation set; may be repeated
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,

    /// Maximum rows of a language, such as en=3000; may be repeated
    #[arg(long, value_name = "LANGUAGE=ROWS")]
    quota: Vec<QuotaArg>,

    /// Divide each quota evenly among N topics, which are clusters of instructions with similar words
    #[arg(long, value_name = "N", requires = "quota", value_parser = clap::value_parser!(u32).range(2..=1000))]
    topics: Option<u32>,

    /// Random seed of the selection within a quota
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, Clone, Copy)]
struct LanguageArg(Language);

impl FromStr for LanguageArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "en" => Ok(Self(Language::En)),
            "zh" => Ok(Self(Language::Zh)),
            _ => Err(format!("unsupported language {text:?}: expected en or zh")),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct QuotaArg(Language, u64);

impl FromStr for QuotaArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(language, rows)| Some((language, rows.parse().ok()?)));
        let (language, rows) =
            parts.ok_or_else(|| format!("invalid quota {text:?}: expected LANGUAGE=ROWS, such as en=3000"))?;
        Ok(Self(language.parse::<LanguageArg>()?.0, rows))
    }
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(fraction) if fraction > 0.0 && fraction <= 1.0 => Ok(fraction),
        _ => Err(format!("invalid fraction {text:?}: expected a number above 0 and at most 1")),
    }
}

impl SelectArgs {
    fn options(&self) -> Result<Options> {
        let (min, max) = (self.min_length, self.max_length);
        if min > max {
            return Err(Failure::refused(format!("--min-length {min} is above --max-length {max}: no row can pass")));
        }
        let rules = match &self.rules {
            Some(folder) => Rules::load(folder).map_err(Failure::refused)?,
            None => Rules::built_in(),
        };
        Ok(Options {
            languages: self.languages.iter().map(|language| language.0).collect(),
            length: min..=max,
            require_length: self.require_length,
            any_intent: self.any_intent,
            rules,
            similarity: self.similarity,
            against: self.against.clone(),
            quotas: self.quota.iter().map(|quota| (quota.0, quota.1)).collect::<HashMap<_, _>>(),
            topics: self.topics.map_or(0, |topics| topics as usize),
            seed: self.seed,
            ..Options::default()
        })
    }
}

/// Selects, and prints the number of rows after each rule.
pub(crate) async fn select(args: &SelectArgs) -> Result<Code> {
    if let Some(folder) = &args.write_rules {
        return write_rules(folder);
    }
    let (Some(input), Some(out)) = (&args.input, &args.output) else {
        return Err(Failure::refused("no input and output given; see `longhand select --help`"));
    };
    let options = args.options()?;
    let dropped = args.dropped.clone().unwrap_or_else(|| out.with_file_name("dropped.jsonl"));
    let answers = out.with_file_name("answers.jsonl");
    let mut pairs = vec![(input, out), (input, &dropped), (out, &dropped)];
    if args.ask {
        pairs.extend([input, out, &dropped].map(|path| (path, &answers)));
    }
    for (one, other) in pairs {
        if one == other {
            return Err(Failure::refused(format!(
                "{} is given for two files; use a different name for each",
                one.display()
            )));
        }
    }
    let engine = if args.ask { Some(engine::open(&args.engine).await?) } else { None };
    let work = {
        let (input, out, dropped, runtime) = (input.clone(), out.clone(), dropped.clone(), Handle::current());
        move || match engine {
            None => select_rows(&input, &out, &dropped, &options, None),
            Some(engine) => {
                let mut write = |tasks| runtime.block_on(write_all(&engine, tasks));
                let model = IntentModel { model: engine.model().clone(), answers, write: &mut write };
                select_rows(&input, &out, &dropped, &options, Some(model))
            }
        }
    };
    let report = match tokio::task::spawn_blocking(work).await.map_err(Failure::stopped)? {
        Err(error @ SelectError::Model(_)) => return Err(Failure::stopped(error)),
        ended => ended.map_err(Failure::refused)?,
    };
    output::print(args.json, &report, || text(&report, out, &dropped))?;
    Ok(if report.kept > 0 { Code::Ok } else { Code::Partial })
}

/// Runs the tasks, as many at a time as the engine takes.
async fn write_all(
    engine: &Arc<dyn Engine>,
    tasks: Vec<Task>,
) -> std::result::Result<Vec<std::result::Result<Output, task::Failure>>, String> {
    output::note(&format!("asking {} about {} rows", engine.model().name, grouped(tasks.len() as u64)));
    let slots = engine.slots().max(1) as usize;
    stream::iter(tasks).map(|task| write(engine, task)).buffered(slots).try_collect().await
}

/// Runs one task, with retries after transient failures; an error if the engine failed for good.
async fn write(
    engine: &Arc<dyn Engine>,
    mut task: Task,
) -> std::result::Result<std::result::Result<Output, task::Failure>, String> {
    loop {
        let ended = generate(engine.as_ref(), task.clone()).await?;
        match ended {
            Err(failure) if !failure.permanent && task.attempt < MAX_ATTEMPTS => task.attempt += 1,
            ended => return Ok(ended),
        }
    }
}

fn text(report: &Report, out: &Path, dropped: &Path) -> String {
    let row = |name: &str, count: u64, left: u64| vec![name.to_owned(), grouped(count), grouped(left)];
    let mut left = report.read;
    let mut rows = vec![
        vec!["rule".into(), "dropped".into(), "remaining".into()],
        vec!["read".into(), String::new(), grouped(left)],
    ];
    for (rule, count) in &report.dropped {
        left -= count;
        rows.push(row(rule, *count, left));
    }
    let mut kept = vec![
        ("selected", report.kept),
        ("  English", report.english),
        ("  Chinese", report.chinese),
        ("  with a stated length", report.stated),
        ("  long, by the rule lists", report.long),
        ("  unclear", report.unknown),
    ];
    if let Some(asked) = report.asked {
        let all = asked.yes + asked.no + asked.unread;
        kept.extend([
            ("asked the model", all),
            ("  yes", asked.yes),
            ("  no", asked.no),
            ("  unreadable", asked.unread),
        ]);
    }
    let kept: Vec<Vec<String>> = kept.into_iter().map(|(name, count)| vec![name.to_owned(), grouped(count)]).collect();
    let kept = output::table(&kept);
    format!("{}\n{kept}\nselected  {}\ndropped   {}", output::table(&rows), out.display(), dropped.display())
}

fn write_rules(folder: &Path) -> Result<Code> {
    let at = |path: &Path, error| Failure::refused(format!("{}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    for (name, text) in rules::BUILT_IN {
        let path = folder.join(name);
        if path.exists() {
            return Err(Failure::refused(format!("{} already exists; choose another folder", path.display())));
        }
        fs::write(&path, text).map_err(|error| at(&path, error))?;
    }
    output::line(&format!("{}", folder.display())).map(|()| Code::Ok)
}

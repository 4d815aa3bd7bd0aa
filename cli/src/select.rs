//! `longhand select`: the instructions worth writing, out of many.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use longhand_coordinator::dataset::select::{
    IntentModel, Options, Report, Rules, SelectError, rules, select as select_rows,
};
use longhand_coordinator::domain::language::Language;
use longhand_proto::task::{self, Output, Task};
use longhand_worker::engine::{Engine, Event};
use tokio::runtime::Handle;

use crate::args::EngineArgs;
use crate::exit::{Code, Failure, Result};
use crate::output::{self, grouped};
use crate::writer;

/// Times that a row is asked about, if the engine fails.
const TRIES: u32 = 3;

const HELP: &str = "\
Examples:
  longhand select instructions.jsonl -o chosen.jsonl --quota en=3000 --quota zh=3000 --topics 100
  longhand select instructions.jsonl -o chosen.jsonl --min-length 2000 --require-length --against longbench_write.jsonl
  longhand select instructions.jsonl -o chosen.jsonl --ask --model model.gguf
  longhand select --write-rules my-rules

The rules, in the order in which they are asked:
  bad_row          the row cannot be read
  language         it is written in none of --languages
  toxic, scraping  a line of the rule list, or the source's own moderation
  length           it states a length outside --min-length to --max-length
  no_length        it states none, with --require-length
  short            it states none and asks for a short answer, by the rule lists (unless --any-intent)
  exact_duplicate  an earlier row says the same
  contaminated     a row of --against says nearly the same
  near_duplicate   an earlier row that passed says nearly the same
  intent           by the model's word it asks for a short answer, with --ask
  quota            more rows passed than --quota wants: a draw by --seed chooses, of each of --topics in turn

Near the same: of all runs of five words (characters in Chinese) in either of two texts, a share of --similarity or more is
in both. Pairs at the threshold are found with a probability of 0.99, and more alike ones with a higher one.

With --ask a model is asked about each row that states no length and of which the rule lists cannot tell; it may say yes or
no, and what it says is kept in answers.jsonl beside the output, so that the same command goes on where it stopped. Where
nothing can be read of it, the row stays, and is counted. Where there is no time for a model, such rows stay.

Each row that is left out stands in the dropped file with line, rule, value and what the rule saw.

Exit codes:
  0    at least one row was chosen
  1    the model can answer no more; the same command goes on
  2    nothing was written: a file, a rule list or a model cannot be read
  3    no row was chosen";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct SelectArgs {
    /// File of instructions
    #[arg(required_unless_present = "write_rules")]
    input: Option<PathBuf>,

    /// File to write the chosen rows to
    #[arg(short, long, value_name = "FILE", required_unless_present = "write_rules")]
    output: Option<PathBuf>,

    /// File to list the other rows in [default: dropped.jsonl beside the output]
    #[arg(long, value_name = "FILE")]
    dropped: Option<PathBuf>,

    /// Languages to keep
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "en,zh")]
    languages: Vec<LanguageArg>,

    /// Least length that a row may state, in words
    #[arg(long, value_name = "WORDS", default_value_t = 1)]
    min_length: u32,

    /// Greatest length that a row may state, in words
    #[arg(long, value_name = "WORDS", default_value_t = 1_000_000)]
    max_length: u32,

    /// Keep only rows that state a length
    #[arg(long)]
    require_length: bool,

    /// Keep rows that ask for a short answer too
    #[arg(long)]
    any_intent: bool,

    /// Ask a model about rows of which the rules cannot tell whether they want a long text
    #[arg(long, conflicts_with_all = ["any_intent", "require_length"])]
    ask: bool,

    #[command(flatten)]
    engine: EngineArgs,

    /// Folder with rule lists of your own: toxic.txt, scraping.txt, long.txt, short.txt; and the questions of --ask,
    /// question_en.txt and question_zh.txt
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,

    /// Write the built-in lists and questions into a folder, and do nothing else
    #[arg(long, value_name = "DIR", conflicts_with_all = ["input", "output"])]
    write_rules: Option<PathBuf>,

    /// Least similarity of near duplicates, above 0 and up to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, value_parser = share)]
    similarity: f64,

    /// File of instructions that must not be among the chosen, such as an evaluation's; may be given again
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,

    /// Most rows of a language, such as en=3000; may be given again
    #[arg(long, value_name = "LANGUAGE=ROWS")]
    quota: Vec<QuotaArg>,

    /// Share each quota evenly among N topics: instructions put together by the words that they have in common
    #[arg(long, value_name = "N", requires = "quota", value_parser = clap::value_parser!(u32).range(2..=1000))]
    topics: Option<u32>,

    /// Seed of the draw that fills a quota
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy)]
struct LanguageArg(Language);

impl FromStr for LanguageArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "en" => Ok(Self(Language::En)),
            "zh" => Ok(Self(Language::Zh)),
            _ => Err(format!("{text:?} is no language that can be written: want en or zh")),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct QuotaArg(Language, u64);

impl FromStr for QuotaArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(language, rows)| Some((language, rows.parse().ok()?)));
        let (language, rows) = parts.ok_or_else(|| format!("{text:?} is no quota: want en=3000"))?;
        Ok(Self(language.parse::<LanguageArg>()?.0, rows))
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err(format!("{text:?} is out of range: want a number above 0 and up to 1")),
    }
}

/// Chooses, and prints the rows of each stage.
pub(crate) async fn select(args: &SelectArgs) -> Result<Code> {
    if let Some(folder) = &args.write_rules {
        return write_rules(folder);
    }
    let (Some(input), Some(out)) = (&args.input, &args.output) else {
        return Err(Failure::refused("no input and output were given; see `longhand select --help`"));
    };
    if args.min_length > args.max_length {
        let (least, most) = (args.min_length, args.max_length);
        return Err(Failure::refused(format!("--min-length {least} is above --max-length {most}; no row could pass")));
    }
    let rules = match &args.rules {
        Some(folder) => Rules::load(folder).map_err(Failure::refused)?,
        None => Rules::built_in(),
    };
    let options = Options {
        languages: args.languages.iter().map(|language| language.0).collect(),
        length: args.min_length..=args.max_length,
        require_length: args.require_length,
        any_intent: args.any_intent,
        rules,
        similarity: args.similarity,
        against: args.against.clone(),
        quotas: args.quota.iter().map(|quota| (quota.0, quota.1)).collect::<HashMap<_, _>>(),
        topics: args.topics.map_or(0, |topics| topics as usize),
        seed: args.seed,
        ..Options::default()
    };
    let dropped = args.dropped.clone().unwrap_or_else(|| out.with_file_name("dropped.jsonl"));
    let answers = out.with_file_name("answers.jsonl");
    let mut pairs = vec![(input, out), (input, &dropped), (out, &dropped)];
    if args.ask {
        pairs.extend([input, out, &dropped].map(|path| (path, &answers)));
    }
    for (one, other) in pairs {
        if one == other {
            return Err(Failure::refused(format!("{} is named twice; give each file its own name", one.display())));
        }
    }
    let engine = if args.ask { Some(writer::open(&args.engine).await?) } else { None };
    let work = {
        let (input, out, dropped, runtime) = (input.clone(), out.clone(), dropped.clone(), Handle::current());
        move || match engine {
            None => select_rows(&input, &out, &dropped, &options, None),
            Some(engine) => {
                let mut write = |tasks| runtime.block_on(write_all(&engine, tasks));
                let intent_model = IntentModel { model: engine.model().clone(), answers, write: &mut write };
                select_rows(&input, &out, &dropped, &options, Some(intent_model))
            }
        }
    };
    let report = match tokio::task::spawn_blocking(work).await.map_err(Failure::stopped)? {
        Err(error @ SelectError::Model(_)) => return Err(Failure::stopped(error)),
        ended => ended.map_err(Failure::refused)?,
    };
    if args.json {
        output::json(&report)?;
    } else {
        output::line(&text(&report, out, &dropped))?;
    }
    Ok(if report.kept > 0 { Code::Ok } else { Code::Flawed })
}

/// Does the tasks, as many at a time as the engine takes.
async fn write_all(
    engine: &Arc<dyn Engine>,
    tasks: Vec<Task>,
) -> std::result::Result<Vec<std::result::Result<Output, task::Failure>>, String> {
    eprintln!("asking {} about {} rows", engine.model().name, grouped(tasks.len() as u64));
    let slots = engine.slots().max(1) as usize;
    stream::iter(tasks).map(|task| write(engine, task)).buffered(slots).try_collect().await
}

/// Does one task, and tries again where that may help; an error if the engine can do no more.
async fn write(
    engine: &Arc<dyn Engine>,
    mut task: Task,
) -> std::result::Result<std::result::Result<Output, task::Failure>, String> {
    loop {
        let mut generation = engine.start(task.clone(), None);
        let ended = loop {
            let event = tokio::select! {
                biased;
                why = engine.dead() => return Err(why),
                event = generation.events.recv() => event,
            };
            match event {
                Some(Event::Tokens(_)) => {}
                Some(Event::Done(output)) => break Ok(output),
                Some(Event::Failed(failure)) => break Err(failure),
                None => return Err("the engine ended in the middle of an answer".to_owned()),
            }
        };
        match ended {
            Err(failure) if !failure.permanent && task.attempt < TRIES => task.attempt += 1,
            ended => return Ok(ended),
        }
    }
}

fn text(report: &Report, out: &Path, dropped: &Path) -> String {
    let row = |name: &str, count: u64, left: u64| vec![name.to_owned(), grouped(count), grouped(left)];
    let mut left = report.read;
    let mut rows =
        vec![vec!["stage".into(), "dropped".into(), "left".into()], vec!["read".into(), String::new(), grouped(left)]];
    for (rule, count) in &report.dropped {
        left -= count;
        rows.push(row(rule, *count, left));
    }
    let mut kept = vec![
        ("chosen", report.kept),
        ("  English", report.english),
        ("  Chinese", report.chinese),
        ("  with a stated length", report.stated),
        ("  long by their words", report.long),
        ("  of no clear length", report.unknown),
    ];
    if let Some(asked) = report.asked {
        let all = asked.yes + asked.no + asked.unread;
        kept.extend([
            ("asked of the model", all),
            ("  yes", asked.yes),
            ("  no", asked.no),
            ("  unreadable", asked.unread),
        ]);
    }
    let kept: Vec<Vec<String>> = kept.into_iter().map(|(name, count)| vec![name.to_owned(), grouped(count)]).collect();
    let kept = output::table(&kept);
    format!("{}\n{kept}\nchosen   {}\ndropped  {}", output::table(&rows), out.display(), dropped.display())
}

fn write_rules(folder: &Path) -> Result<Code> {
    let at = |path: &Path, error| Failure::refused(format!("{}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    for (name, text) in rules::BUILT_IN {
        let path = folder.join(name);
        if path.exists() {
            return Err(Failure::refused(format!("{} is there already; name another folder", path.display())));
        }
        fs::write(&path, text).map_err(|error| at(&path, error))?;
    }
    output::line(&format!("{}", folder.display())).map(|()| Code::Ok)
}

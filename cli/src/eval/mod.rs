//! `longhand eval`: how well a model keeps to the length asked for, and how well it writes; alone and by AgentWrite.
//!
//! Both methods are ordinary runs, each in a folder of its own below the output folder: so an evaluation is resumed as a run
//! is, and each text can be looked at. The scores are read from their stores when both are complete.

mod page;
mod prompts;
mod sample;
mod score;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use longhand_coordinator::domain::recipe::{Method, Recipe};
use longhand_coordinator::store::{self, Filter, RedisOptions};
use serde_json::json;

use crate::args::{EngineArgs, LEASE_SECONDS, RunArgs};
use crate::exit::{Code, Failure, Result};
use crate::folder::write_atomically;
use crate::port::{AccessArgs, HttpArgs};
use crate::run::{out_of_store, work};
use crate::store::StoreArgs;
use crate::{output, writer};
use prompts::Prompt;
use score::{Case, Report};

/// Sections that may be cut before the text is given up: here a cut text is one more thing to measure.
const ANY: u32 = 200;
/// Documents looked at in one call to the store.
const PAGE: u32 = 64;

const HELP: &str = "\
Examples:
  longhand eval longbench-write --prompts longbench_write.jsonl -o evaluation --model model.gguf
  longhand eval longbench-write --prompts longbench_write.jsonl -o evaluation --model model.gguf --judge 3
  longhand eval ruler --prompts longwrite_ruler.jsonl -o ruler --model model.gguf --max-length 2000

Prompts: one JSON object a line with `prompt`, `length` (words asked for) and, if known, `type`.

Each prompt is written twice: directly (the prompt as it is, the answer as it comes) and by AgentWrite with the recipe.
S_l is 100 where the length asked for was met, and 0 at four times too long or three times too short; a text that could
not be written counts as no words. S_q is the judge's score, with --judge. Intervals are 95 % bootstrap intervals over
the prompts. No filter leaves anything out.

Stop with Ctrl-C; the same command goes on where it stopped.

Output: report.txt (the table), report.json, report.html (asked against written length), and the two runs in direct/ and
agentwrite/, each a folder like that of `longhand run`.

Exit codes:
  0    evaluated
  1    it could not go on; the same command continues
  2    nothing was started: wrong usage, prompts, recipe, model or output folder
  3    evaluated, but some texts could not be written
  130  interrupted; the same command continues it";

/// Which set of prompts is measured; they differ in how the results are grouped.
#[derive(Debug, Subcommand)]
pub(crate) enum Eval {
    /// LongBench-Write: by length asked for, language and type
    #[command(name = "longbench-write")]
    LongBenchWrite(Box<EvalArgs>),
    /// LongWrite-Ruler: the same requests at growing lengths
    Ruler(Box<EvalArgs>),
}

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct EvalArgs {
    /// File of prompts (JSON Lines)
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,

    /// Output folder; made if missing, continued if it holds an unfinished evaluation
    #[arg(short, long, value_name = "DIR", env = "LONGHAND_OUTPUT")]
    output: PathBuf,

    /// How the texts come about
    #[arg(long, value_enum, default_value_t = Methods::Both)]
    method: Methods,

    /// Recipe (TOML) of AgentWrite; its sampling is used for direct texts too [default: the built-in recipe]
    #[arg(long, value_name = "FILE", env = "LONGHAND_RECIPE")]
    recipe: Option<PathBuf>,

    /// Votes of the judge on each text, by the same model; 0 leaves S_q out
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=32))]
    judge: u32,

    /// Leave out prompts that ask for more words
    #[arg(long, value_name = "WORDS")]
    max_length: Option<u32>,

    /// Seed of all random choices, the intervals included
    #[arg(long, value_name = "N", default_value_t = 0, env = "LONGHAND_SEED")]
    seed: u64,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    http: HttpArgs,

    #[command(flatten)]
    access: AccessArgs,

    /// Print events to stdout, one JSON object a line, the report as the last one
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Methods {
    Both,
    Direct,
    #[value(name = "agentwrite")]
    AgentWrite,
}

impl Methods {
    fn each(self) -> Vec<Method> {
        match self {
            Self::Both => vec![Method::Direct, Method::AgentWrite],
            Self::Direct => vec![Method::Direct],
            Self::AgentWrite => vec![Method::AgentWrite],
        }
    }
}

/// The name of a method's run and folder.
const fn name(method: Method) -> &'static str {
    match method {
        Method::Direct => "direct",
        Method::AgentWrite => "agentwrite",
    }
}

impl Eval {
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::LongBenchWrite(args) | Self::Ruler(args) => args.json,
        }
    }

    pub(crate) async fn run(self) -> Result<Code> {
        match self {
            Self::LongBenchWrite(args) => evaluate(*args, score::Grouping::Bins).await,
            Self::Ruler(args) => evaluate(*args, score::Grouping::Lengths).await,
        }
    }
}

async fn evaluate(mut args: EvalArgs, grouping: score::Grouping) -> Result<Code> {
    let recipe = match &args.recipe {
        Some(path) => Recipe::load(path).map_err(Failure::refused)?,
        None => Recipe::builtin(),
    };
    let (prompts, left_out) = prompts::read(&args.prompts, args.max_length)?;
    let engine = writer::open(&args.engine).await?;
    let input = args.output.join("prompts.jsonl");
    std::fs::create_dir_all(&args.output)
        .and_then(|()| write_atomically(&input, prompts::rows(&prompts).as_bytes()))
        .map_err(|e| Failure::refused(format!("{} cannot be written: {e}", input.display())))?;
    let mut cases = Vec::new();
    for method in args.method.each() {
        let output = args.output.join(name(method));
        let run = RunArgs {
            input: input.clone(),
            output: output.clone(),
            run_id: Some(name(method).parse().map_err(Failure::refused)?),
            seed: args.seed,
            // The next method gets them back.
            engine: args.engine,
            access: args.access,
            http: args.http,
            json: args.json,
            lease_seconds: LEASE_SECONDS,
            candidates: 1,
            strict: true,
            recipe: None,
            store: None,
            limit: None,
            access_to_store: StoreArgs::default(),
            trace_content: false,
            new_run: false,
            dry_run: false,
            quiet: false,
        };
        let code = work(&run, measured(&recipe, method, args.judge), Arc::clone(&engine)).await?;
        (args.engine, args.access, args.http) = (run.engine, run.access, run.http);
        match code {
            Code::Ok | Code::Flawed => {}
            Code::Interrupted | Code::Stopped | Code::Refused => return Ok(code),
        }
        cases.push((method, read(&output, &prompts).await?));
    }
    report(&args, &Report::new(cases, grouping, args.seed, engine.model(), left_out))
}

/// The recipe as it is measured: nothing is left out, and everything that was written is judged.
fn measured(recipe: &Recipe, method: Method, votes: u32) -> Recipe {
    let mut recipe = Recipe { method, ..recipe.clone() };
    recipe.filters.max_truncated = ANY;
    (recipe.judge.votes, recipe.judge.all, recipe.judge.min) = (votes, true, 0.0);
    recipe
}

/// What became of each prompt, in the order of the prompts.
async fn read(folder: &Path, prompts: &[Prompt]) -> Result<Vec<Case>> {
    let url = format!("sqlite://{}", folder.join(".longhand").join("store.sqlite").display());
    let store = store::open(&url, RedisOptions::default()).await.map_err(|e| out_of_store(&e))?;
    let mut found = std::collections::HashMap::new();
    for run in store.runs().await.map_err(|e| out_of_store(&e))? {
        let mut after = None;
        loop {
            let page = store.list(&run.id, &Filter::default(), after, PAGE).await.map_err(|e| out_of_store(&e))?;
            for record in page.records {
                let document =
                    record.document().map_err(|e| Failure::stopped(format!("document {}: {e}", record.id)))?;
                let case = Case::of(record.state, &document);
                found.insert(document.instruction.id.clone().unwrap_or_default(), case);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    let case = |prompt: &Prompt| {
        let case = found.remove(&prompt.id).ok_or_else(|| {
            Failure::stopped(format!(
                "prompt {} is not in {}; give the same command again",
                prompt.id,
                folder.display()
            ))
        })?;
        Ok(Case { kind: prompt.kind.clone(), asked: prompt.length, ..case })
    };
    prompts.iter().map(case).collect()
}

fn report(args: &EvalArgs, report: &Report) -> Result<Code> {
    let text = report.text();
    let json = serde_json::to_vec_pretty(report).map_err(Failure::stopped)?;
    let page = page::html(report);
    for (file, content) in
        [("report.json", json.as_slice()), ("report.html", page.as_bytes()), ("report.txt", text.as_bytes())]
    {
        let path = args.output.join(file);
        write_atomically(&path, content)
            .map_err(|e| Failure::stopped(format!("{} cannot be written: {e}", path.display())))?;
    }
    if args.json {
        output::json(&json!({ "event": "evaluated", "report": report, "output": args.output }))?;
    } else {
        output::line(&format!("\n{text}\nplot  {}", args.output.join("report.html").display()))?;
    }
    Ok(if report.failed() == 0 { Code::Ok } else { Code::Flawed })
}

//! `longhand eval`: how well a model follows a requested length and how well it writes, directly and with AgentWrite.
//!
//! Both methods are ordinary runs, each in a folder below the output folder: an evaluation resumes as a run does, and each
//! text can be inspected. The scores are computed from the stores when both runs are complete.

mod bootstrap;
mod compare;
mod page;
mod prompts;
mod score;
mod yields;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use longhand_coordinator::domain::recipe::{Method, Recipe};
use longhand_coordinator::files::atomic;
use longhand_coordinator::store::{self, Filter, RedisOptions};
use longhand_coordinator::text::filter;
use serde_json::json;

use crate::args::engine::EngineArgs;
use crate::args::lease::LEASE_SECONDS;
use crate::args::listen::{AccessArgs, HttpArgs};
use crate::args::recipe;
use crate::args::store::StoreArgs;
use crate::engine;
use crate::run::args::RunArgs;
use crate::run::run_with;
use crate::run::store_failure::store_failure;
use prompts::Prompt;
use score::{Case, Report, method_name};

/// Truncated sections that a document may have: here a truncated text is measured as it is.
const MAX_TRUNCATED: u32 = 200;
/// Documents per page when listing the store.
const PAGE: u32 = 64;

const HELP: &str = "\
Examples:
  longhand eval longbench-write --prompts longbench_write.jsonl -o evaluation \\
    --model model.gguf
  longhand eval longbench-write --prompts longbench_write.jsonl -o evaluation \\
    --model model.gguf --judge 3
  longhand eval longbench-write --prompts longbench_write.jsonl -o after \\
    --model model.gguf --against evaluation
  longhand eval ruler --prompts longwrite_ruler.jsonl -o ruler \\
    --model model.gguf --max-length 2000

Prompts: one JSON object per line with `prompt`, `length` (requested words) and optionally `type`.

Each prompt is answered twice: directly (the prompt and the reply as they are) and with AgentWrite and the recipe. S_l is \
100 if the requested length was met, and 0 if the text is four times too long or three times too short; a failed text \
counts as 0 words. S_q is the judge's score, with --judge. Intervals are 95 % bootstrap intervals over the prompts.

The yield says what the recipe's rules would accept and what it cost: tokens for each word of an accepted text, sections \
written again, the share of runs of eight words that stood in the text before, and echoes of the prompt or talk about the \
text in 10,000 words. Every text is measured to its end, accepted or not. --against DIR compares with another evaluation \
prompt by prompt.

Stop with Ctrl-C; rerun the same command to resume.

Output: report.txt (the tables), report.json, report.html (plot of requested against written length), and the two runs in \
direct/ and agentwrite/, each like the output folder of `longhand run`.

Exit codes:
  0    evaluated
  1    the evaluation could not continue; rerun the same command to resume
  2    nothing was started: invalid arguments, prompts, recipe, model or output
       folder
  3    evaluated, but some texts failed
  130  interrupted; rerun the same command to resume";

/// The kind of prompt set; the kinds differ in how results are grouped.
#[derive(Debug, Subcommand)]
pub(crate) enum Eval {
    /// LongBench-Write: results by requested length, language and type
    #[command(name = "longbench-write")]
    LongBenchWrite(Box<EvalArgs>),
    /// LongWrite-Ruler: the same requests at increasing lengths
    Ruler(Box<EvalArgs>),
}

/// The prompts, and how to answer them.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct EvalArgs {
    /// File of prompts (JSON Lines)
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,

    /// Output folder; created if missing, resumed if it holds an unfinished evaluation
    #[arg(short, long, value_name = "DIR", env = "LONGHAND_OUTPUT")]
    output: PathBuf,

    /// How the texts are generated
    #[arg(long, value_enum, default_value_t = Methods::Both)]
    method: Methods,

    /// Recipe (TOML) of AgentWrite; its sampling applies to direct texts too [default: the built-in recipe]
    #[arg(long, value_name = "FILE", env = "LONGHAND_RECIPE")]
    recipe: Option<PathBuf>,

    /// Votes of the judge (the same model) on each text; 0 for no S_q
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=32))]
    judge: u32,

    /// Skip prompts that request more words
    #[arg(long, value_name = "WORDS")]
    max_length: Option<u32>,

    /// Output folder of a finished evaluation to compare with, prompt by prompt
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,

    /// Random seed of texts and intervals
    #[arg(long, value_name = "N", default_value_t = 0, env = "LONGHAND_SEED")]
    seed: u64,

    /// Print events to stdout, one JSON object per line; the report is the last one
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    http: HttpArgs,

    #[command(flatten)]
    access: AccessArgs,
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

impl Eval {
    /// True if stdout is for programs.
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::LongBenchWrite(args) | Self::Ruler(args) => args.json,
        }
    }

    /// Runs the evaluation.
    pub(crate) async fn run(self) -> Result<Code> {
        match self {
            Self::LongBenchWrite(args) => evaluate(*args, score::Grouping::Bins).await,
            Self::Ruler(args) => evaluate(*args, score::Grouping::Lengths).await,
        }
    }
}

async fn evaluate(mut args: EvalArgs, grouping: score::Grouping) -> Result<Code> {
    let recipe = recipe::load(args.recipe.as_deref())?;
    let (prompts, left_out) = prompts::read(&args.prompts, args.max_length)?;
    let against = args.against.as_deref().map(compare::read).transpose()?;
    let engine = engine::open(&args.engine).await?;
    let input = args.output.join("prompts.jsonl");
    std::fs::create_dir_all(&args.output)
        .map_err(|e| Failure::refused(format!("{} cannot be created: {e}", args.output.display())))?;
    atomic::replace(&input, prompts::rows(&prompts).as_bytes()).map_err(Failure::refused)?;
    let mut cases = Vec::new();
    for method in args.method.each() {
        let output = args.output.join(method_name(method));
        let run = RunArgs {
            input: input.clone(),
            output: output.clone(),
            run_id: Some(method_name(method).parse().map_err(Failure::refused)?),
            seed: args.seed,
            // Moved back below, for the next method.
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
            store_access: StoreArgs::default(),
            trace_content: false,
            add: true,
            new_run: false,
            dry_run: false,
            quiet: false,
        };
        let code = run_with(&run, evaluation_recipe(&recipe, method, args.judge), Arc::clone(&engine)).await?;
        (args.engine, args.access, args.http) = (run.engine, run.access, run.http);
        match code {
            Code::Ok | Code::Partial => {}
            Code::Interrupted | Code::Stopped | Code::Refused => return Ok(code),
        }
        cases.push((method, read(&output, &prompts, &recipe).await?));
    }
    let mut result = Report::new(cases, grouping, args.seed, engine.model(), left_out);
    if let Some(against) = against {
        result.against = compare::compare(&result, &against);
    }
    report(&args, &result)
}

/// The recipe for an evaluation: every text is written to its end, whatever a rule says of it, and judged.
fn evaluation_recipe(recipe: &Recipe, method: Method, votes: u32) -> Recipe {
    let mut recipe = Recipe { method, ..recipe.clone() };
    recipe.filters.set(&filter::TRUNCATED, MAX_TRUNCATED);
    recipe.section.keep_best = true;
    (recipe.judge.votes, recipe.judge.all, recipe.judge.min) = (votes, true, 0.0);
    recipe
}

/// The result of each prompt, in the order of the prompts. `recipe` has the rules that are asked.
async fn read(folder: &Path, prompts: &[Prompt], recipe: &Recipe) -> Result<Vec<Case>> {
    let url = format!("sqlite://{}", folder.join(".longhand").join("store.sqlite").display());
    let store = store::open(&url, RedisOptions::default()).await.map_err(|e| store_failure(&e))?;
    let mut found = std::collections::HashMap::new();
    for run in store.runs().await.map_err(|e| store_failure(&e))? {
        let mut after = None;
        loop {
            let page = store.list(&run.id, &Filter::default(), after, PAGE).await.map_err(|e| store_failure(&e))?;
            for record in page.records {
                let document =
                    record.document().map_err(|e| Failure::stopped(format!("document {}: {e}", record.id)))?;
                let case = Case::of(record.state, &document, recipe);
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
            Failure::stopped(format!("prompt {} is not in {}; rerun the same command", prompt.id, folder.display()))
        })?;
        Ok(Case { kind: prompt.kind.clone(), asked: prompt.length, ..case })
    };
    prompts.iter().map(case).collect()
}

fn report(args: &EvalArgs, report: &Report) -> Result<Code> {
    let mut text = report.text();
    if let Some(folder) = &args.against {
        text.push_str(&format!("\n{}", compare::text(&report.against, folder)));
    }
    let json = serde_json::to_vec_pretty(report).map_err(Failure::stopped)?;
    let page = page::html(report, &text);
    for (file, content) in
        [("report.json", json.as_slice()), ("report.html", page.as_bytes()), ("report.txt", text.as_bytes())]
    {
        let path = args.output.join(file);
        atomic::replace(&path, content).map_err(Failure::stopped)?;
    }
    if args.json {
        output::json(&json!({ "event": "evaluated", "report": report, "output": args.output }))?;
    } else {
        output::line(&format!("\n{text}\nplot  {}", args.output.join("report.html").display()))?;
    }
    Ok(if report.failed() == 0 { Code::Ok } else { Code::Partial })
}

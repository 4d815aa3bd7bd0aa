//! `longhand submit`: a file of instructions becomes a run of a coordinator.

use std::path::{Path, PathBuf};

use clap::Args;
use longhand_coordinator::control::wire;
use longhand_coordinator::dataset::input;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_proto::{RunId, v1};
use serde_json::json;

use super::client;
use crate::exit::{Code, Failure, Result};
use crate::link::{LinkArgs, Office};
use crate::output::{self, grouped};

/// Rows and bytes of one call.
const ROWS: usize = 256;
const BYTES: usize = 4 << 20;

const HELP: &str = "\
Examples:
  longhand submit instructions.jsonl --run-id ships
  longhand submit instructions.jsonl --recipe recipe.toml --candidates 4 --priority 5

Submitting the same file twice changes nothing: rows that are there already are left as they are. A submission that was
cut short is finished by the same command.

Exit codes:
  0    submitted
  1    the coordinator does not answer; the same command goes on
  2    nothing was submitted: wrong usage, input or recipe, or the run is another one or paused
  3    submitted, but some rows are bad";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct SubmitArgs {
    /// File of instructions
    input: PathBuf,

    /// Name of the run [default: the file's name without its ending]
    #[arg(long, value_name = "ID", env = "LONGHAND_RUN_ID")]
    run_id: Option<RunId>,

    /// Recipe (TOML): templates, sampling, length control, filters [default: the built-in recipe]
    #[arg(long, value_name = "FILE", env = "LONGHAND_RECIPE")]
    recipe: Option<PathBuf>,

    /// Take only the first N rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Write N documents for each instruction
    #[arg(long, value_name = "N", default_value_t = 1, env = "LONGHAND_CANDIDATES",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    candidates: u32,

    /// Seed of all random choices
    #[arg(long, value_name = "N", default_value_t = 0, env = "LONGHAND_SEED")]
    seed: u64,

    /// Runs of a higher number get the workers first; equal ones share them
    #[arg(long, value_name = "N", default_value_t = 0)]
    priority: u32,

    /// Have it written by the model of this name or weights hash only
    #[arg(long, value_name = "MODEL")]
    require_model: Option<String>,

    /// Have the votes of the recipe's judge given by the model of this name or weights hash only
    #[arg(long, value_name = "MODEL")]
    judge_model: Option<String>,

    /// Most documents that are begun and not at an end
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..))]
    max_open: u32,

    #[command(flatten)]
    link: LinkArgs,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn submit(args: &SubmitArgs) -> Result<Code> {
    let recipe = match &args.recipe {
        Some(path) => Recipe::load(path).map_err(Failure::refused)?,
        None => Recipe::builtin(),
    };
    let run = match &args.run_id {
        Some(run) => run.clone(),
        None => name(&args.input)?,
    };
    let rows = instruction::read(&args.input).map_err(Failure::refused)?;
    let office = Office::open(&args.link)?;
    let request = v1::CreateRunRequest {
        run: run.to_string(),
        recipe: recipe.to_toml(),
        seed: args.seed,
        terms: Some(v1::Terms {
            priority: args.priority,
            model: args.require_model.clone().unwrap_or_default(),
            max_open: args.max_open,
            judge: args.judge_model.clone().unwrap_or_default(),
        }),
    };
    let create = |wire| {
        let request = request.clone();
        async move { client(wire).create_run(request).await }
    };
    office.call("create run", create).await?;

    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let (mut batch, mut bytes, mut bad) = (Vec::new(), 0, 0_u64);
    let (mut inserted, mut existing) = (0, 0);
    let mut rows = rows.take(limit).peekable();
    while let Some(row) = rows.next() {
        bad += u64::from(row.is_err());
        let row = wire::row_to_wire(row).map_err(Failure::refused)?;
        bytes += wire::row_bytes(&row);
        batch.push(row);
        if batch.len() >= ROWS || bytes >= BYTES || rows.peek().is_none() {
            let rows = std::mem::take(&mut batch);
            bytes = 0;
            let request = v1::AddRowsRequest { run: run.to_string(), candidates: args.candidates, rows };
            let add = |wire| {
                let request = request.clone();
                async move { client(wire).add_rows(request).await }
            };
            let reply = office.call("add rows", add).await?;
            inserted += reply.inserted;
            existing += reply.existing;
        }
    }
    if args.json {
        output::json(&json!({ "run": run, "inserted": inserted, "existing": existing, "bad_rows": bad }))?;
    } else {
        let known = if existing > 0 { format!(", {} were there already", grouped(existing)) } else { String::new() };
        output::line(&format!("run {run}: {} documents submitted{known}", grouped(inserted)))?;
        if bad > 0 {
            output::line(&format!("{} bad rows: `longhand validate` shows them", grouped(bad)))?;
        }
    }
    Ok(if bad == 0 { Code::Ok } else { Code::Flawed })
}

/// The file's name up to its first dot.
fn name(input: &Path) -> Result<RunId> {
    let name = input.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    let id: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect();
    id.parse().map_err(|e| Failure::refused(format!("{e}; name the run with --run-id")))
}

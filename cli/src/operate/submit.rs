//! `longhand submit`: submits a file of instructions to a coordinator as a run.

use std::path::{Path, PathBuf};

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped, plural};
use longhand_coordinator::control::wire;
use longhand_coordinator::dataset::input;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_proto::{RunId, v1};
use serde_json::json;

use super::client::{OperatorClient, grpc};
use crate::args::connection::ConnectionArgs;
use crate::args::recipe;

/// Maximum rows and bytes per call.
const ROWS: usize = 256;
const BYTES: usize = 4 << 20;

const HELP: &str = "\
Examples:
  longhand submit instructions.jsonl --run-id ships
  longhand submit instructions.jsonl --recipe recipe.toml --candidates 4 \\
    --priority 5

Submitting the same file twice changes nothing: existing rows are left unchanged. Rerun the same command to complete an \
interrupted submission.

Exit codes:
  0    submitted
  1    the coordinator does not answer; rerun the same command to resume
  2    nothing was submitted: invalid arguments, input or recipe, or the run
       exists with other settings or is paused
  3    submitted, but some rows are bad, or differ from the documents that the
       run has of them";

/// The input, and the settings of the run.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct SubmitArgs {
    /// File of instructions
    input: PathBuf,

    /// Name of the run [default: the file name without its extension]
    #[arg(long, value_name = "ID", env = "LONGHAND_RUN_ID")]
    run_id: Option<RunId>,

    /// Recipe (TOML): templates, sampling, length control, filters [default: the built-in recipe]
    #[arg(long, value_name = "FILE", env = "LONGHAND_RECIPE")]
    recipe: Option<PathBuf>,

    /// Submit only the first N rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Write N documents per instruction
    #[arg(long, value_name = "N", default_value_t = 1, env = "LONGHAND_CANDIDATES",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    candidates: u32,

    /// Random seed
    #[arg(long, value_name = "N", default_value_t = 0, env = "LONGHAND_SEED")]
    seed: u64,

    /// Priority: workers take runs with higher numbers first; runs with equal numbers share the workers
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: u32,

    /// Accept only workers with the model of this name or weights hash
    #[arg(long, value_name = "MODEL")]
    require_model: Option<String>,

    /// Accept judge votes only from workers with the model of this name or weights hash
    #[arg(long, value_name = "MODEL")]
    judge_model: Option<String>,

    /// Maximum number of documents that are started and not finished
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..))]
    max_open: u32,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Creates the run and submits the rows.
pub(super) async fn submit(args: &SubmitArgs) -> Result<Code> {
    let recipe = recipe::load(args.recipe.as_deref())?;
    let run = match &args.run_id {
        Some(run) => run.clone(),
        None => default_run_id(&args.input)?,
    };
    let rows = input::read(&args.input).map_err(Failure::refused)?;
    let client = OperatorClient::open(&args.connection)?;
    create_run(args, &client, &run, &recipe).await?;

    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let (mut batch, mut bytes, mut bad) = (Vec::new(), 0, 0_u64);
    let (mut inserted, mut existing, mut changed) = (0, 0, 0);
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
            let reply = add_rows(&client, request).await?;
            inserted += reply.inserted;
            existing += reply.existing;
            changed += reply.changed;
        }
    }
    if args.json {
        output::json(
            &json!({ "run": run, "inserted": inserted, "existing": existing, "changed": changed, "bad_rows": bad }),
        )?;
    } else {
        let known = if existing > 0 { format!(", {} already existed", grouped(existing)) } else { String::new() };
        output::line(&format!("run {run}: {} submitted{known}", plural(inserted, "document")))?;
        if bad > 0 {
            output::line(&format!("{}; run `longhand validate` to see them", plural(bad, "bad row")))?;
        }
    }
    if changed > 0 {
        output::note(&changed_rows(changed));
    }
    Ok(if bad + changed == 0 { Code::Ok } else { Code::Partial })
}

/// What became of rows whose id the run has with another instruction.
fn changed_rows(documents: u64) -> String {
    format!(
        "not changed: {} whose rows have another instruction now; give these rows new ids, or submit under another run id",
        plural(documents, "document")
    )
}

async fn create_run(args: &SubmitArgs, client: &OperatorClient, run: &RunId, recipe: &Recipe) -> Result<()> {
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
        async move { grpc(wire).create_run(request).await }
    };
    client.call("create run", create).await.map(drop)
}

async fn add_rows(client: &OperatorClient, request: v1::AddRowsRequest) -> Result<v1::AddRowsReply> {
    let add = |wire| {
        let request = request.clone();
        async move { grpc(wire).add_rows(request).await }
    };
    client.call("add rows", add).await
}

/// The file's name up to its first dot.
fn default_run_id(input: &Path) -> Result<RunId> {
    let name = input.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    let id: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect();
    id.parse().map_err(|e| Failure::refused(format!("{e}; set the name with --run-id")))
}

//! Arguments of `longhand run`.

use std::path::PathBuf;

use clap::Args;
use longhand_proto::RunId;

use crate::args::engine::EngineArgs;
use crate::args::lease::LEASE_SECONDS;
use crate::args::listen::{AccessArgs, HttpArgs};
use crate::args::store::StoreArgs;

const HELP: &str = "\
Examples:
  longhand run instructions.jsonl -o corpus \\
    --model SmolLM2-135M-Instruct.Q4_1.gguf
  longhand run instructions.jsonl -o corpus --model Qwen3-8B/ \\
    --recipe recipe.toml --candidates 4
  longhand run instructions.jsonl -o corpus --model model.gguf --dry-run

Input: one JSON object per line (.jsonl, .jsonl.gz, .jsonl.zst) or Parquet, with the text in `prompt`, `instruction` or \
`messages`; optional `id`, `length` (words), `language`, `context`, `metadata`.

Stop with Ctrl-C; rerun the same command to resume. Finished sections are not generated again.

Output: data/ (accepted documents, Parquet and JSONL), rejected.jsonl (rule and value), failed.jsonl (error class), \
stats.json, recipe.toml (as used), README.md (dataset card). The state of the run is in .longhand/.

Environment: each option above names its variable. A flag comes before a variable, a variable before longhand.toml (`--config`). Also
  RUST_LOG                      log level on stderr: error, warn (default),
                                info, debug, or per module
  NO_COLOR                      no colours in log lines
  OTEL_EXPORTER_OTLP_ENDPOINT   send traces to this endpoint by OTLP; if unset,
                                tracing is off
  OTEL_EXPORTER_OTLP_PROTOCOL   grpc or http/protobuf [default: grpc, but
                                http/protobuf for port 4318]
  OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG
                                which documents are traced, such as traceidratio
                                and 0.1; errors always are
  OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS,
  OTEL_EXPORTER_OTLP_TIMEOUT,
  OTEL_EXPORTER_OTLP_COMPRESSION, OTEL_BSP_*, OTEL_SDK_DISABLED
                                as defined by OpenTelemetry

Exit codes:
  0    every document was accepted or rejected, and at least one was accepted
  1    the run could not continue (disk full, store lost, engine failed); rerun
       the same command to resume
  2    nothing was started: invalid arguments, input, recipe, model or output
       folder
  3    the run is complete, but rows were bad, documents failed, or none was
       accepted
  130  interrupted; rerun the same command to resume";

/// A run on this machine.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct RunArgs {
    /// File of instructions
    pub(crate) input: PathBuf,

    /// Output folder; created if missing, resumed if it holds an unfinished run
    #[arg(short, long, value_name = "DIR", env = "LONGHAND_OUTPUT")]
    pub(crate) output: PathBuf,

    /// Recipe (TOML): templates, sampling, length control, filters [default: the built-in recipe]
    #[arg(long, value_name = "FILE", env = "LONGHAND_RECIPE")]
    pub(crate) recipe: Option<PathBuf>,

    /// Store for the state of the run: redis://HOST:PORT/DB (see `longhand coordinator --help`), or sqlite://PATH
    /// [default: SQLite in the output folder]
    #[arg(long, value_name = "URL", env = "LONGHAND_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,

    /// Use only the first N rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,

    /// Write N documents per instruction
    #[arg(long, value_name = "N", default_value_t = 1, env = "LONGHAND_CANDIDATES",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) candidates: u32,

    /// Random seed; the same input, recipe, model, run id and seed give the same texts
    #[arg(long, value_name = "N", default_value_t = 0, env = "LONGHAND_SEED")]
    pub(crate) seed: u64,

    /// Name of the run [default: the name of the output folder]
    #[arg(long, value_name = "ID", env = "LONGHAND_RUN_ID")]
    pub(crate) run_id: Option<RunId>,

    /// Add the rows of another input to the run in the output folder
    #[arg(long, conflicts_with = "new_run")]
    pub(crate) add: bool,

    /// Archive the run in the output folder and start a new one
    #[arg(long)]
    pub(crate) new_run: bool,

    /// Print the first prompt and the number of documents; start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Start only if every row of the input is valid
    #[arg(long)]
    pub(crate) strict: bool,

    /// Time after which the documents of an unresponsive worker are reassigned
    #[arg(long, value_name = "SECONDS", default_value_t = LEASE_SECONDS, env = "LONGHAND_LEASE_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) lease_seconds: u64,

    /// Include prompts and texts in traces
    #[arg(long, env = "LONGHAND_TRACE_CONTENT")]
    pub(crate) trace_content: bool,

    /// Print events to stdout, one JSON object per line, instead of the progress display and the summary
    #[arg(long)]
    pub(crate) json: bool,

    /// Print neither progress nor summary
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    #[command(flatten)]
    pub(crate) http: HttpArgs,

    #[command(flatten)]
    pub(crate) store_access: StoreArgs,

    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

//! The command line: what a person may say, and the help that teaches it. Values are checked here, once.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use longhand_proto::RunId;

use crate::bench::Bench;
use crate::capacity::CapacityArgs;
use crate::coordinator::CoordinatorArgs;
use crate::device::DeviceArgs;
use crate::eval::Eval;
use crate::health::HealthArgs;
use crate::import::ImportArgs;
use crate::model::Model;
use crate::operator::Operate;
use crate::port::{AccessArgs, HttpArgs};
use crate::report::ReportArgs;
use crate::select::SelectArgs;
use crate::selftest::SelftestArgs;
use crate::store::StoreArgs;
use crate::version;
use crate::worker::WorkerArgs;

/// Default of `--lease-seconds`.
pub(crate) const LEASE_SECONDS: u64 = 60;

const ABOUT: &str = "Writes long documents with a language model, and keeps the good ones as training data";

const LONG_ABOUT: &str = "\
Writes long documents with a language model, and keeps the good ones as training data.

Each instruction of the input becomes a plan, the plan becomes sections written one after the other, the sections
become one document of 2,000 words or more, and the documents that pass the filters become a corpus.";

const EXAMPLES: &str = "\
Examples:
  longhand validate instructions.jsonl
  longhand run instructions.jsonl -o corpus --model model.gguf
  longhand run instructions.jsonl -o corpus --model model.gguf --recipe recipe.toml --limit 5

Every command explains itself: `longhand run --help`.";

const RUN_HELP: &str = "\
Examples:
  longhand run instructions.jsonl -o corpus --model SmolLM2-135M-Instruct.Q4_1.gguf
  longhand run instructions.jsonl -o corpus --model Qwen3-8B/ --recipe recipe.toml --candidates 4
  longhand run instructions.jsonl -o corpus --model model.gguf --dry-run

Input: one JSON object a line (.jsonl, .jsonl.gz, .jsonl.zst) or Parquet, with the text in `prompt`, `instruction` or
`messages`; optional `id`, `length` (words), `language`, `context`, `metadata`.

Stop with Ctrl-C; the same command goes on where it stopped. Finished sections are not written anew.

Output: data/ (accepted documents, Parquet and JSONL), rejected.jsonl (rule and value), failed.jsonl (error class),
stats.json, recipe.toml (as used), README.md (dataset card). The state of the run lies in .longhand/.

Environment: every option above names its variable; a flag wins over it. Also
  RUST_LOG                      log lines on stderr: error, warn (default), info, debug, or per module
  NO_COLOR                      no colours in log lines
  OTEL_EXPORTER_OTLP_ENDPOINT   send traces there by OTLP; unset: no connection is tried
  OTEL_EXPORTER_OTLP_PROTOCOL   grpc or http/protobuf [default: grpc, but http/protobuf for port 4318]
  OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG
                                which documents are traced whole, such as traceidratio and 0.1; errors always are
  OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TIMEOUT,
  OTEL_EXPORTER_OTLP_COMPRESSION, OTEL_BSP_*, OTEL_SDK_DISABLED
                                as OpenTelemetry defines them

Exit codes:
  0    every document ended as accepted or rejected, and at least one was accepted
  1    the run could not go on (disk full, store gone, engine failed); the same command continues it
  2    nothing was started: wrong usage, input, recipe, model or output folder
  3    the run is complete, but rows were bad, documents failed, or none was accepted
  130  interrupted; the same command continues it";

const VALIDATE_HELP: &str = "\
Examples:
  longhand validate instructions.jsonl
  longhand validate instructions.jsonl.zst --json

Exit codes:
  0    every row is good
  2    the file cannot be read, or holds no row
  3    some rows are bad; each is listed with its line and the remedy";

/// The command line of `longhand`.
#[derive(Debug, Parser)]
#[command(
    name = "longhand",
    version = version::LONG,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = EXAMPLES,
    max_term_width = 120,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Log lines on stderr as text, or one JSON object a line with ids of run, document and trace
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "LONGHAND_LOG_FORMAT",
          hide_short_help = true)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a corpus from a file of instructions
    Run(Box<RunArgs>),
    /// Check a file of instructions: bad rows, languages, lengths
    Validate(ValidateArgs),
    /// Make a file of instructions from a data set of conversations or prompts
    Import(ImportArgs),
    /// Choose instructions: language, length, rule lists, duplicates, quotas
    Select(Box<SelectArgs>),
    /// Show what each filter says of a corpus, as a page to choose thresholds by
    Report(ReportArgs),
    /// Decide over a store what each worker writes next
    Coordinator(Box<CoordinatorArgs>),
    /// Write documents for a coordinator
    Worker(Box<WorkerArgs>),
    /// Check what computes here: driver, every kernel, a model from end to end, and speed against known ceilings
    Selftest(SelftestArgs),
    /// Measure how fast it is here
    #[command(subcommand)]
    Bench(Bench),
    /// Ask a coordinator or a worker whether it is well
    Health(HealthArgs),
    /// Fetch models
    #[command(subcommand)]
    Model(Model),
    /// Work out how many GPUs, and how much time and memory, a corpus takes
    PlanCapacity(CapacityArgs),
    /// Measure how well a model keeps to a length and writes, alone and by AgentWrite
    #[command(subcommand)]
    Eval(Eval),
    #[command(flatten)]
    Operate(Operate),
}

#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// File of instructions
    pub(crate) input: PathBuf,

    /// Output folder; made if missing, continued if it holds an unfinished run
    #[arg(short, long, value_name = "DIR", env = "LONGHAND_OUTPUT")]
    pub(crate) output: PathBuf,

    /// Recipe (TOML): templates, sampling, length control, filters [default: the built-in recipe]
    #[arg(long, value_name = "FILE", env = "LONGHAND_RECIPE")]
    pub(crate) recipe: Option<PathBuf>,

    /// Where the run's state lives: redis://HOST:PORT/DB (see `longhand coordinator --help`), or sqlite://PATH [default:
    /// SQLite in the output folder]
    #[arg(long, value_name = "URL", env = "LONGHAND_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,

    #[command(flatten)]
    pub(crate) access_to_store: StoreArgs,

    /// Take only the first N rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,

    /// Write N documents for each instruction
    #[arg(long, value_name = "N", default_value_t = 1, env = "LONGHAND_CANDIDATES",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) candidates: u32,

    /// Seed of all random choices; the same input, recipe, model, run id and seed give the same texts
    #[arg(long, value_name = "N", default_value_t = 0, env = "LONGHAND_SEED")]
    pub(crate) seed: u64,

    /// Name of the run [default: the name of the output folder]
    #[arg(long, value_name = "ID", env = "LONGHAND_RUN_ID")]
    pub(crate) run_id: Option<RunId>,

    /// Set the run that the output folder holds aside, and begin a new one
    #[arg(long)]
    pub(crate) new_run: bool,

    /// Print the first full prompt and the counts; start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Start only if every row of the input is good
    #[arg(long)]
    pub(crate) strict: bool,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Time after which a silent worker loses its documents
    #[arg(long, value_name = "SECONDS", default_value_t = LEASE_SECONDS, env = "LONGHAND_LEASE_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) lease_seconds: u64,

    #[command(flatten)]
    pub(crate) http: HttpArgs,

    /// Put prompts and texts into traces
    #[arg(long, env = "LONGHAND_TRACE_CONTENT")]
    pub(crate) trace_content: bool,

    #[command(flatten)]
    pub(crate) access: AccessArgs,

    /// Print events to stdout, one JSON object a line, instead of the progress display and the summary
    #[arg(long)]
    pub(crate) json: bool,

    /// Print neither progress nor summary
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// The engine of a worker.
#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// Model: a GGUF file, or a Hugging Face folder with safetensors; with --engine openai its name there
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL")]
    pub(crate) model: Option<PathBuf>,

    /// What writes the text
    #[arg(long, value_enum, default_value_t = EngineKind::Local, env = "LONGHAND_ENGINE")]
    pub(crate) engine: EngineKind,

    /// Server of --engine openai, such as http://127.0.0.1:8000/v1
    #[arg(long, value_name = "URL", env = "LONGHAND_BASE_URL")]
    pub(crate) base_url: Option<String>,

    /// Environment variable that holds the key for that server
    #[arg(long, value_name = "VARIABLE", env = "LONGHAND_API_KEY_ENV")]
    pub(crate) api_key_env: Option<String>,

    /// Speed of the test double for each document; 0 is at once
    #[arg(long, value_name = "N", default_value_t = 0.0, env = "LONGHAND_MOCK_TOKENS_PER_SECOND", hide = true)]
    pub(crate) mock_tokens_per_second: f64,

    /// Tasks after which the test double dies as a lost device does
    #[arg(long, value_name = "N", env = "LONGHAND_MOCK_DIE_AFTER", hide = true)]
    pub(crate) mock_die_after: Option<u32>,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,

    /// Memory for keys and values, such as 512MiB or 2GiB [default: on the processor what the documents in work need, at
    /// most a quarter of the memory available; on a GPU what --gpu-memory-utilization leaves]
    #[arg(long, value_name = "SIZE", env = "LONGHAND_KV_MEMORY")]
    pub(crate) kv_memory: Option<Bytes>,

    /// Documents written at the same time [default: as many as the memory for keys and values holds, at most 16 on the processor and 256 on
    /// a GPU]
    #[arg(long, value_name = "N", env = "LONGHAND_MAX_SEQUENCES", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) max_sequences: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_help = VALIDATE_HELP)]
pub(crate) struct ValidateArgs {
    /// File of instructions
    pub(crate) input: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What writes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineKind {
    /// The model given by --model, on this machine
    Local,
    /// A server that speaks OpenAI's protocol, given by --base-url: vLLM, SGLang, llama.cpp and others
    #[value(name = "openai")]
    OpenAi,
    /// A test double: deterministic filler words at once, without a model. Its corpus is worth nothing
    Mock,
}

/// A size in bytes as people write it: `1073741824`, `512MiB`, `2G`, `1.5 GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(format!("{text:?} is not a size: want a number and a unit such as 512MiB or 2GiB")),
        };
        match number.parse::<f64>() {
            Ok(number) if number > 0.0 && number * (scale as f64) < 2f64.powi(60) => {
                Ok(Self((number * scale as f64) as u64))
            }
            _ => Err(format!("{text:?} is not a size: want a number above 0 and a unit, such as 512MiB or 2GiB")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("1073741824", 1 << 30),
            ("512MiB", 512 << 20),
            ("2G", 2 << 30),
            ("2g", 2 << 30),
            ("1.5 GiB", 3 << 29),
            ("1GB", 1_000_000_000),
            ("64k", 64 << 10),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for bad in ["", "0", "GiB", "-1", "1.2.3M", "2 parsecs", "1e99", "99999999T", "nan"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn quiet_and_json_exclude_each_other() {
        let parse = |more: &[&str]| Cli::try_parse_from(["longhand", "run", "in", "-o", "out"].iter().chain(more));
        assert!(parse(&["--json"]).is_ok());
        assert!(parse(&["--json", "--quiet"]).is_err());
        assert!(parse(&["--limit", "0"]).is_err());
        assert!(parse(&["--candidates", "0"]).is_err());
        assert!(parse(&["--run-id", "a/b"]).is_err());
    }
}

//! The command line: subcommands and their help.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use longhand_bench::Bench;
use longhand_command::exit::{Code, Result};

use crate::args::log_format::LogFormat;
use crate::data::compose::{self, ComposeArgs};
use crate::data::filter::{self, FilterArgs};
use crate::data::import::{self, ImportArgs};
use crate::data::push::{self, PushArgs};
use crate::data::report::{self, ReportArgs};
use crate::data::select::{self, SelectArgs};
use crate::data::serve::{self, ServeArgs};
use crate::data::validate::{self, ValidateArgs};
use crate::doctor::{self, DoctorArgs};
use crate::eval::Eval;
use crate::model::Model;
use crate::operate::Operate;
use crate::package::{self, PackageArgs};
use crate::plan_capacity::{self, CapacityArgs};
use crate::preview::{self, PreviewArgs};
use crate::run;
use crate::run::args::RunArgs;
use crate::selftest::SelftestArgs;
use crate::serve::coordinator::{self, CoordinatorArgs};
use crate::serve::health::{self, HealthArgs};
use crate::serve::worker::{self, WorkerArgs};
use crate::version;

const ABOUT: &str = "Generate long documents with a language model and filter them into a training corpus";

const LONG_ABOUT: &str = "\
Generate long documents with a language model and filter them into a training corpus.

Each instruction of the input becomes a plan, the plan becomes sections written one after the other, the sections \
become one document of 2,000 words or more, and the documents that pass the filters become a corpus.";

const EXAMPLES: &str = "\
Examples:
  longhand validate instructions.jsonl
  longhand preview \"Write a 1,000-word story about a lighthouse.\" \\
    --model model.gguf
  longhand run instructions.jsonl -o corpus --model model.gguf
  longhand run instructions.jsonl -o corpus --model model.gguf \\
    --recipe recipe.toml --limit 5

Run `longhand COMMAND --help` for the options of a command.";

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

    /// Format of the log lines on stderr: text, or one JSON object per line with the ids of run, document and trace
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "LONGHAND_LOG_FORMAT",
          hide_short_help = true)]
    pub(crate) log_format: LogFormat,

    /// File with values of options (TOML) [default: longhand.toml in this folder, if it is there]
    // The file is read before the command line, by `config`.
    #[arg(long, global = true, value_name = "FILE", env = "LONGHAND_CONFIG", hide_short_help = true)]
    pub(crate) config: Option<PathBuf>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Generate a corpus from a file of instructions
    Run(Box<RunArgs>),
    /// Write one document and show what each filter says of it
    Preview(Box<PreviewArgs>),
    /// Make a file of instructions from tables of forms and subjects
    Compose(Box<ComposeArgs>),
    /// Check a file of instructions: bad rows, languages, lengths
    Validate(ValidateArgs),
    /// Turn a data set of conversations or prompts into instructions
    Import(ImportArgs),
    /// Select instructions by language, length, duplicates and quotas
    Select(Box<SelectArgs>),
    /// Write a page that shows what each filter says of a corpus
    Report(ReportArgs),
    /// Judge the texts of a corpus anew, with another recipe's filters
    Filter(FilterArgs),
    /// Show a finished corpus in the browser, read-only
    Serve(ServeArgs),
    /// Upload a corpus to the Hugging Face hub, as a data set
    Push(PushArgs),
    /// Assign tasks to workers and keep the state of all runs
    Coordinator(Box<CoordinatorArgs>),
    /// Generate documents for a coordinator
    Worker(Box<WorkerArgs>),
    /// Check this machine: GPU, libraries, disk, ports, store, model
    Doctor(DoctorArgs),
    /// Test the compute device: driver, kernels, whole models, speed
    Selftest(SelftestArgs),
    /// Run benchmarks
    #[command(subcommand)]
    Bench(Bench),
    /// Check whether a coordinator or a worker is ready
    Health(HealthArgs),
    /// Download models, and print what they are
    #[command(subcommand)]
    Model(Model),
    /// Estimate the GPUs, time and memory that a corpus takes
    PlanCapacity(CapacityArgs),
    /// Measure how well a model keeps to a length, and how it writes
    #[command(subcommand)]
    Eval(Eval),
    #[command(flatten)]
    Operate(Operate),
    /// Write shell completions and man pages into a folder, for a package of the program
    #[command(hide = true)]
    PackageFiles(PackageArgs),
}

impl Command {
    /// True if stdout is for programs.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Run(args) => args.json,
            Self::Preview(_) => false,
            Self::Compose(args) => args.json,
            Self::Validate(args) => args.json,
            Self::Import(args) => args.json,
            Self::Select(args) => args.json,
            Self::Report(args) => args.json,
            Self::Filter(args) => args.json,
            Self::Serve(_) => false,
            Self::Push(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::Coordinator(args) => args.json,
            Self::Worker(args) => args.json,
            Self::Selftest(args) => args.json,
            Self::Bench(command) => command.json(),
            Self::Health(_) => false,
            Self::Model(command) => command.json(),
            Self::PlanCapacity(args) => args.json,
            Self::Eval(command) => command.json(),
            Self::Operate(command) => command.json(),
            Self::PackageFiles(_) => false,
        }
    }

    /// The name under which a trace collector shows the process.
    pub(crate) fn service_name(&self) -> &'static str {
        if matches!(self, Self::Coordinator(_)) {
            "longhand-coordinator"
        } else if matches!(self, Self::Worker(_)) {
            "longhand-worker"
        } else {
            "longhand"
        }
    }

    /// Runs the subcommand.
    pub(crate) async fn run(self) -> Result<Code> {
        match self {
            Self::Run(args) => run::run(&args).await,
            Self::Preview(args) => preview::preview(&args).await,
            Self::Compose(args) => compose::compose(&args).await,
            Self::Validate(args) => validate::validate(&args),
            Self::Import(args) => import::import(&args),
            Self::Select(args) => select::select(&args).await,
            Self::Report(args) => report::report(&args),
            Self::Filter(args) => filter::filter(&args).await,
            Self::Serve(args) => serve::serve(&args).await,
            Self::Push(args) => push::push(&args).await,
            Self::Doctor(args) => doctor::doctor(&args).await,
            Self::Coordinator(args) => coordinator::coordinator(&args).await,
            Self::Worker(args) => worker::worker(&args).await,
            Self::Selftest(args) => args.run().await,
            Self::Bench(command) => command.run().await,
            Self::Health(args) => health::health(&args).await,
            Self::Model(command) => command.run().await,
            Self::PlanCapacity(args) => plan_capacity::plan(&args),
            Self::Eval(command) => command.run().await,
            Self::Operate(command) => command.run().await,
            Self::PackageFiles(args) => package::write(&args, Cli::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn invalid_arguments_of_run_are_rejected() {
        let parse = |more: &[&str]| Cli::try_parse_from(["longhand", "run", "in", "-o", "out"].iter().chain(more));
        assert!(parse(&["--json"]).is_ok());
        assert!(parse(&["--json", "--quiet"]).is_err());
        assert!(parse(&["--limit", "0"]).is_err());
        assert!(parse(&["--candidates", "0"]).is_err());
        assert!(parse(&["--run-id", "a/b"]).is_err());
    }
}

//! `longhand bench`: benchmarks of the engine, the coordinator and the store, as commands.

mod agentwrite;
mod background_load;
mod compare;
mod contender;
mod dashboard;
mod dedup;
mod dry;
mod engine;
mod instructions;
mod llama_cpp;
mod longhand_engine;
mod machine;
mod process;
mod queue;
mod random_model;
mod redis_server;
mod results;
mod shape;
mod statistics;
mod store;
mod trace;

use clap::Subcommand;
use longhand_command::exit::{Code, Result};

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Tokens per second of the engine, alone or compared with llama.cpp
    Engine(engine::EngineBench),
    /// Documents per hour, written section by section, alone or compared with llama.cpp's server
    #[command(name = "agentwrite")]
    AgentWrite(agentwrite::AgentWriteBench),
    /// Response times of the dashboard's pages for a large run
    Dashboard(dashboard::DashboardBench),
    /// Overhead of tracing
    Trace(trace::TraceBench),
    /// Time and memory of near-duplicate detection, alone or compared with Python libraries
    Dedup(dedup::DedupBench),
    /// Time that the DRY penalty adds to a step of the engine
    Dry(dry::DryBench),
    /// Tasks per second that a coordinator leases and completes, compared with the raw Redis scripts
    Queue(queue::QueueBench),
    /// Time of each store operation, for increasing numbers of documents
    Store(store::StoreBench),
    /// Make a model with random weights in the shape of a real one
    RandomModel(random_model::RandomModel),
}

impl Bench {
    /// True if stdout is for programs.
    pub fn json(&self) -> bool {
        match self {
            Self::Engine(args) => args.json,
            Self::AgentWrite(args) => args.json,
            Self::Dashboard(args) => args.json,
            Self::Trace(args) => args.json,
            Self::Dedup(args) => args.json,
            Self::Dry(args) => args.json,
            Self::Queue(args) => args.json,
            Self::Store(args) => args.json,
            Self::RandomModel(_) => false,
        }
    }

    /// Runs the benchmark.
    ///
    /// # Errors
    /// It cannot be started, or a measurement fails.
    pub async fn run(self) -> Result<Code> {
        match self {
            Self::Engine(args) => args.run().await,
            Self::AgentWrite(args) => args.run().await,
            Self::Dashboard(args) => args.run().await,
            Self::Trace(args) => args.run().await,
            Self::Dedup(args) => args.run(),
            Self::Dry(args) => args.run(),
            Self::Queue(args) => args.run().await,
            Self::Store(args) => args.run().await,
            Self::RandomModel(args) => args.run(),
        }
    }
}

//! `longhand bench`: measurements, as commands.

mod agentwrite;
mod compare;
mod cost;
mod dashboard;
mod dedup;
mod engine;
mod machine;
mod peer;
mod queue;
mod random;
mod redis;
mod shape;
mod trace;

use clap::Subcommand;

use crate::exit::{Code, Result};

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Tokens per second of the engine, alone or against llama.cpp
    Engine(engine::EngineBench),
    /// Documents per hour, written section by section, alone or against llama.cpp's server
    #[command(name = "agentwrite")]
    AgentWrite(agentwrite::AgentWriteBench),
    /// Milliseconds of the dashboard's pages over a large run
    Dashboard(dashboard::DashboardBench),
    /// What tracing costs
    Trace(trace::TraceBench),
    /// Near duplicates among a million instructions: time and memory, alone or against libraries of PyPI
    Dedup(dedup::DedupBench),
    /// Tasks per second that a coordinator gives out and takes back, against the bare scripts
    Queue(queue::QueueBench),
    /// Cost of each call to a store, for more and more documents
    Store(cost::StoreBench),
    /// Make a model of random weights in the shape of a real one
    RandomModel(random::RandomModel),
}

impl Bench {
    /// Whether stdout is for programs.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Engine(args) => args.json,
            Self::AgentWrite(args) => args.json,
            Self::Dashboard(args) => args.json,
            Self::Trace(args) => args.json,
            Self::Dedup(args) => args.json,
            Self::Queue(args) => args.json,
            Self::Store(args) => args.json,
            Self::RandomModel(_) => false,
        }
    }

    pub(crate) async fn run(self) -> Result<Code> {
        match self {
            Self::Engine(args) => args.run().await,
            Self::AgentWrite(args) => args.run().await,
            Self::Dashboard(args) => args.run().await,
            Self::Trace(args) => args.run().await,
            Self::Dedup(args) => args.run(),
            Self::Queue(args) => args.run().await,
            Self::Store(args) => args.run().await,
            Self::RandomModel(args) => args.run(),
        }
    }
}

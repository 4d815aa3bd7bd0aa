//! `longhand bench`: measurements, as commands.

mod compare;
mod engine;
mod machine;
mod peer;
mod shape;

use clap::Subcommand;

use crate::exit::Code;
use crate::exit::Result;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Tokens per second of the engine, alone or against llama.cpp
    Engine(engine::EngineBench),
}

impl Bench {
    /// Whether stdout is for programs.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Engine(args) => args.json,
        }
    }

    pub(crate) async fn run(self) -> Result<Code> {
        match self {
            Self::Engine(args) => args.run().await,
        }
    }
}

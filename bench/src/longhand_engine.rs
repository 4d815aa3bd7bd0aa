//! The engine of this program, measured by `longhand bench engine`.

use std::path::{Path, PathBuf};
use std::process::Command;

use longhand_command::exit::{Failure, Result};

use crate::contender::{Contender, Speed};
use crate::shape::Shape;

/// This program, with a model on the CPU.
#[derive(Debug)]
pub(crate) struct LonghandEngine {
    program: PathBuf,
    model: PathBuf,
    threads: usize,
}

impl LonghandEngine {
    /// This program with a model, on `threads` threads.
    pub(crate) fn new(model: &Path, threads: usize) -> Result<Self> {
        Ok(Self { program: this_program()?, model: model.to_owned(), threads })
    }
}

/// The path of this program.
pub(crate) fn this_program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|e| Failure::refused(format!("the path of this program cannot be determined: {e}")))
}

impl Contender for LonghandEngine {
    fn name(&self) -> &'static str {
        "longhand"
    }

    fn command(&self, shape: Shape) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["bench", "engine", "--json", "--device", "cpu", "--threads", &self.threads.to_string()]);
        command.arg("--shape").arg(shape.to_string()).arg("--model").arg(&self.model);
        command
    }

    fn parse(&self, output: &str) -> Option<Speed> {
        serde_json::from_str(output.lines().last()?).ok()
    }
}

//! The engine of llama.cpp, measured by its own benchmark program.

use std::path::{Path, PathBuf};
use std::process::Command;

use longhand_command::exit::{Failure, Result};
use serde::Deserialize;

use crate::contender::{Contender, Speed};
use crate::shape::Shape;

const PROGRAM: &str = "llama-batched-bench";

/// llama.cpp, with a model.
#[derive(Debug)]
pub(crate) struct LlamaCpp {
    program: PathBuf,
    model: PathBuf,
    threads: usize,
}

/// The fields of interest of a line of its report.
#[derive(Debug, Deserialize)]
struct Line {
    speed_pp: f64,
    speed_tg: f64,
}

impl LlamaCpp {
    /// Checks that the program and the model exist.
    pub(crate) fn find(folder: &Path, model: &Path, threads: usize) -> Result<Self> {
        let program = folder.join(PROGRAM);
        for (path, help) in
            [(program.as_path(), "run `make bench` to build it"), (model, "choose another --peer-model")]
        {
            if !path.is_file() {
                return Err(Failure::refused(format!("{} does not exist; {help}", path.display())));
            }
        }
        Ok(Self { program, model: model.to_owned(), threads })
    }
}

impl Contender for LlamaCpp {
    fn name(&self) -> &'static str {
        "llama.cpp"
    }

    fn command(&self, shape: Shape) -> Command {
        let mut command = Command::new(&self.program);
        let threads = self.threads.to_string();
        command.arg("-m").arg(&self.model).args(["-t", &threads, "-tb", &threads, "--output-format", "jsonl"]);
        for (name, number) in
            [("-c", shape.all_tokens()), ("-npp", shape.prompt), ("-ntg", shape.tokens), ("-npl", shape.streams)]
        {
            command.arg(name).arg(number.to_string());
        }
        command
    }

    fn parse(&self, output: &str) -> Option<Speed> {
        let line = output.lines().rev().find_map(|line| serde_json::from_str::<Line>(line).ok())?;
        Some(Speed { prefill: line.speed_pp, decode: line.speed_tg })
    }
}

//! llama.cpp, measured by its own program.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::compare::Contender;
use super::engine::Speed;
use super::shape::Shape;
use crate::exit::{Failure, Result};

const PROGRAM: &str = "llama-batched-bench";

#[derive(Debug)]
pub(crate) struct Peer {
    program: PathBuf,
    model: PathBuf,
    threads: usize,
}

/// A line of its report, as far as it is of interest.
#[derive(Debug, Deserialize)]
struct Line {
    speed_pp: f64,
    speed_tg: f64,
}

impl Peer {
    pub(crate) fn find(folder: &Path, model: &Path, threads: usize) -> Result<Self> {
        let program = folder.join(PROGRAM);
        for (path, help) in [(program.as_path(), "`make bench` builds it"), (model, "give another --peer-model")] {
            if !path.is_file() {
                return Err(Failure::refused(format!("{} is not there; {help}", path.display())));
            }
        }
        Ok(Self { program, model: model.to_owned(), threads })
    }
}

impl Contender for Peer {
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

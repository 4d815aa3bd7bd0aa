//! The program under test.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The built program, without the variables of the tests' own environment that it would read.
pub(crate) fn longhand() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["LONGHAND_", "OTEL_", "RUST_LOG", "REDIS_URL"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    // The same texts on machines with a GPU and without.
    command.env("LONGHAND_DEVICE", "cpu").stdin(Stdio::null());
    command
}

/// Exit code and output of the program.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// Runs the program to its end.
pub(crate) fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ended {
    longhand().args(args).output().unwrap().into()
}

/// Number of records of each instruction in the exported corpus.
pub(crate) fn accepted(out: &Path) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for entry in fs::read_dir(out.join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            for line in fs::read_to_string(path).unwrap().lines() {
                let record: Value = serde_json::from_str(line).unwrap();
                *ids.entry(record["id"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
    ids
}

/// Instructions whose documents a filter rejected.
pub(crate) fn rejected(out: &Path) -> Vec<String> {
    let text = fs::read_to_string(out.join("rejected.jsonl")).unwrap();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    text.lines().map(id).collect()
}

/// The folder that `make` downloads into.
pub(crate) fn cache() -> PathBuf {
    std::env::var_os("LONGHAND_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache").join("longhand"))
}

/// The real model, downloaded by `make model`.
pub(crate) fn model() -> PathBuf {
    let path = match std::env::var_os("LONGHAND_TEST_MODEL") {
        Some(path) => PathBuf::from(path),
        None => cache().join("models").join("SmolLM2-135M-Instruct.Q4_1.gguf"),
    };
    assert!(path.exists(), "{} is missing: run `make model`", path.display());
    path
}

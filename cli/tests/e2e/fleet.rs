//! Coordinators and workers as processes, and commands that talk to them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Ended, longhand};

/// A process without an event for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `longhand` process that is killed when the test ends.
pub(crate) struct Process {
    child: Child,
    events: mpsc::Receiver<Value>,
}

impl Process {
    /// Starts a command with `--json`.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(args, &[])
    }

    /// The same with environment variables.
    pub(crate) fn start_in(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = longhand();
        command.args(args).arg("--json").envs(environment.iter().copied());
        Self::of(command)
    }

    /// A command whose events are read as they come.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, events) = mpsc::sync_channel(1_024);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    break;
                }
            }
        });
        Self { child, events }
    }

    /// Waits for an event.
    pub(crate) fn event(&self, name: &str) -> Value {
        loop {
            let event = self.events.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no event {name}"));
            if event["event"] == name {
                return event;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A coordinator over an SQLite file, in a folder of its own.
pub(crate) struct Fleet {
    pub(crate) dir: TempDir,
    pub(crate) coordinator: Process,
    pub(crate) url: String,
    /// Address of its HTTP port.
    pub(crate) dashboard: String,
}

impl Fleet {
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::start_in(more, &[])
    }

    /// The same with environment variables.
    pub(crate) fn start_in(more: &[&str], environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", dir.path().join("store.sqlite").display());
        Self::over(&store, dir, more, environment)
    }

    /// Over the given store, with these variables in the coordinator's environment.
    pub(crate) fn over(store: &str, dir: TempDir, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut args = vec!["coordinator", "--store", store, "--listen", "127.0.0.1:0"];
        args.extend(more);
        // The pages of tests are asked for without a token.
        if !more.iter().any(|arg| ["--token-file", "--insecure"].contains(arg)) {
            args.push("--insecure");
        }
        let coordinator = Process::start_in(&args, environment);
        let listening = coordinator.event("listening");
        let url = listening["url"].as_str().unwrap().to_owned();
        let dashboard = listening["dashboard"].as_str().unwrap_or_default().to_owned();
        Self { dir, coordinator, url, dashboard }
    }

    /// A file of that many instructions.
    pub(crate) fn input(&self, rows: usize) -> PathBuf {
        let path = self.dir.path().join(format!("rows-{rows}.jsonl"));
        let row = |n| format!("{{\"id\": \"row-{n}\", \"prompt\": \"Describe ship number {n}.\", \"length\": 1000}}");
        fs::write(&path, (0..rows).map(row).collect::<Vec<_>>().join("\n")).unwrap();
        path
    }

    /// Runs a command on this coordinator to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        longhand().args(args).args(["--coordinator", &self.url]).output().unwrap().into()
    }

    /// The same for a command that must succeed; returns its JSON output, one value per line.
    pub(crate) fn ask(&self, args: &[&str]) -> Vec<Value> {
        let ended = self.run(&[args, &["--json"]].concat());
        assert!(matches!(ended.code, Some(0 | 3)), "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The error message of a command that must be rejected with exit code 2.
    pub(crate) fn rejected(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended.stderr
    }

    pub(crate) fn submit(&self, run: &str, rows: usize) {
        let input = self.input(rows);
        self.ask(&["submit", input.to_str().unwrap(), "--run-id", run]);
    }

    pub(crate) fn worker(&self, more: &[&str]) -> Process {
        let worker = Process::start(&[&["worker", "--engine", "mock", "--coordinator", &self.url], more].concat());
        worker.event("started");
        worker
    }
}

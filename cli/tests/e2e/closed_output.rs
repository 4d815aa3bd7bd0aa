//! Nobody reads what the program writes: the reader of a pipe is gone, or the disk is full.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, pipe};
use std::process::{Child, Command, Stdio};

use crate::fleet::Fleet;
use crate::program::{longhand, run};

/// The recipe that `{RECIPE}` stands for.
const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/recipes/longwriter.toml");

/// Every subcommand, with arguments with which it says something and ends by itself. `{NEW}` is a path that does not exist.
const COMMANDS: &[&str] = &[
    "--version",
    "--help",
    "help run",
    "run {INPUT} -o {NEW} --engine mock --http off",
    "run {INPUT} -o {NEW} --engine mock --http off --json",
    "run {INPUT} -o {NEW} --engine mock --http off --log-format json",
    "run {INPUT} -o {NEW} --model {NEW}",
    "run {INPUT} -o {NEW} --config {NEW}",
    "validate {INPUT}",
    "preview {INPUT} --engine mock",
    "validate {NEW}",
    "compose -o {NEW} --count 20",
    "compose -o {NEW} --count 4 --engine mock",
    "compose --write-seeds {NEW}",
    "import {INPUT} -o {NEW}",
    "select {INPUT} -o {NEW}",
    "select {INPUT} -o {NEW} --ask --engine mock",
    "report {CORPUS} -o {NEW}",
    "filter {CORPUS} --recipe {RECIPE}",
    "filter {CORPUS} --recipe {RECIPE} -o {NEW}",
    "serve {NEW}",
    "push {NEW} org/texts",
    "documents {CORPUS}",
    "package-files {NEW}",
    "coordinator --store sqlite:{NEW}/store.sqlite",
    "worker --engine mock --coordinator {URL} --exit-idle 1",
    "worker --engine mock --coordinator {URL} --exit-idle 1 --json",
    "doctor",
    "selftest --quick",
    "bench dedup --rows 100",
    "health --http http://127.0.0.1:1",
    "model pull http://127.0.0.1:1/x.gguf -o {NEW}",
    "model inspect {NEW}",
    "model families",
    "plan-capacity --documents 10 --model llama-3.1-8b --gpu h100",
    "eval ruler --engine mock --prompts {INPUT} -o {NEW}",
    "submit {INPUT} --run-id one --coordinator {URL}",
    "status --coordinator {URL}",
    "status one --json --coordinator {URL}",
    "watch one --coordinator {URL}",
    "documents one --coordinator {URL}",
    "documents one --limit 1 --coordinator {URL}",
    "show one {DOCUMENT} --coordinator {URL}",
    "show one {DOCUMENT} --text --coordinator {URL}",
    "requeue one --failed --coordinator {URL}",
    "cancel one --coordinator {URL}",
    "export one -o {NEW} --coordinator {URL}",
    "pause one --coordinator {URL}",
    "resume one --coordinator {URL}",
    "archive one --to {NEW} --keep --coordinator {URL}",
    "restore one --from {NEW} --coordinator {URL}",
    "delete one --coordinator {URL}",
];

/// Where stdout and stderr go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lost {
    /// `2>&1 | head -1`
    AfterOneLine,
    /// `2>/dev/full`
    Stderr,
    /// `>/dev/full`
    Stdout,
}

impl Lost {
    /// Runs a command to its end.
    fn run(self, mut command: Command) -> Option<i32> {
        let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
        match self {
            Self::AfterOneLine => {
                let (mut child, mut reader) = piped(command);
                reader.read_line(&mut String::new()).unwrap();
                drop(reader);
                return child.wait().unwrap().code();
            }
            Self::Stderr => command.stdout(Stdio::null()).stderr(full()),
            Self::Stdout => command.stdout(full()).stderr(Stdio::null()),
        };
        command.status().unwrap().code()
    }
}

/// Starts a command whose stdout and stderr are one pipe.
fn piped(mut command: Command) -> (Child, BufReader<PipeReader>) {
    let (reader, writer) = pipe().unwrap();
    let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    (child, BufReader::new(reader))
}

#[test]
fn no_command_panics_when_nobody_reads_its_output() {
    let listed = run(["--help"]).stdout;
    let names = listed.lines().take_while(|line| *line != "Options:").filter_map(|line| line.strip_prefix("  "));
    for name in names.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next()) {
        assert!(COMMANDS.iter().any(|command| command.split(' ').next() == Some(name)), "{name} is not in the table");
    }

    let fleet = Fleet::start(&[]);
    fleet.submit("one", 2);
    let _worker = fleet.worker(&[]);
    fleet.ask(&["watch", "one"]);
    let input = fleet.input(2).display().to_string();
    let corpus = fleet.dir.path().join("corpus").display().to_string();
    assert!(matches!(run(["export", "one", "-o", &corpus, "--coordinator", &fleet.url]).code, Some(0 | 3)));
    let document = fleet.ask(&["documents", "one"])[0]["document"].as_str().unwrap().to_owned();

    let mut number = 0;
    let mut command = |words: &str| {
        number += 1;
        let new = fleet.dir.path().join(format!("new-{number}")).display().to_string();
        let mut command = longhand();
        command.env("RUST_LOG", "debug").args(words.split(' ').map(|word| {
            let word = word.replace("{INPUT}", &input).replace("{CORPUS}", &corpus).replace("{NEW}", &new);
            word.replace("{URL}", &fleet.url).replace("{RECIPE}", RECIPE).replace("{DOCUMENT}", &document)
        }));
        command
    };
    for words in COMMANDS {
        let heard = command(words).output().unwrap().status.code();
        assert!(matches!(heard, Some(0..=3)), "{words}: {heard:?}");
        for lost in [Lost::AfterOneLine, Lost::Stderr, Lost::Stdout] {
            let code = lost.run(command(words));
            // Results that cannot be written are an error; a reader that has enough and a lost message are none.
            let expected = code == heard || lost == Lost::Stdout && code == Some(1);
            assert!(expected, "{words}, {lost:?}: {code:?} instead of {heard:?}");
        }
    }
}

/// Ctrl-C ends `tee` at the same time.
#[test]
fn ctrl_c_hands_the_leases_back_though_the_reader_is_gone() {
    let fleet = Fleet::start(&[]);
    fleet.submit("one", 4);
    for (format, started) in [(None, "worker "), (Some("--json"), "\"started\"")] {
        let mut command = longhand();
        command.args(["worker", "--engine", "mock", "--mock-tokens-per-second", "50", "--coordinator", &fleet.url]);
        command.args(format);
        let (mut worker, mut reader) = piped(command);
        let mut line = String::new();
        while !line.contains(started) {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the worker ended: {:?}", worker.wait());
        }
        while leased(&fleet) == 0 {}
        drop(reader);
        interrupt(&worker);
        assert_eq!(worker.wait().unwrap().code(), Some(0), "{format:?}");
        assert_eq!(leased(&fleet), 0, "{format:?}");
    }
}

#[test]
fn ctrl_c_stops_a_run_in_order_though_the_reader_is_gone() {
    let fleet = Fleet::start(&[]);
    let out = fleet.dir.path().join("out");
    let command = |more: &[&str]| {
        let mut command = longhand();
        command
            .arg("run")
            .arg(fleet.input(4))
            .arg("-o")
            .arg(&out)
            .args(["--engine", "mock", "--http", "off"])
            .args(more);
        command
    };
    for format in [None, Some("--json")] {
        let (mut child, mut reader) =
            piped(command(&[&["--mock-tokens-per-second", "50"], format.as_slice()].concat()));
        let mut line = String::new();
        while !line.contains("in progress") && !line.contains("\"progress\"") {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the run ended: {:?}", child.wait());
        }
        drop(reader);
        interrupt(&child);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{format:?}");
    }
    assert_eq!(command(&["--quiet"]).status().unwrap().code(), Some(0));
    assert_eq!(crate::program::accepted(&out).len(), 4);
}

fn leased(fleet: &Fleet) -> u64 {
    fleet.ask(&["status", "one"])[0]["counts"]["leased"].as_u64().unwrap()
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
}

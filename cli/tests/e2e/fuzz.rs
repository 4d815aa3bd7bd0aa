//! Random command lines and input files: whatever they hold, the program ends with one of its exit codes and does not panic.
//! A seed gives the same case again; `LONGHAND_FUZZ_CASES` and `LONGHAND_FUZZ_SEED` set how many, and which is the first.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use longhand_proto::{clock, rng};
use longhand_tests::spoil::{pick, seeds, spoiled};

use crate::program::longhand;

/// Cases of each kind, as the test suite replays them.
const CASES: u64 = 60;
/// A command that goes on for so long serves or waits: it is stopped.
const PATIENCE: Duration = Duration::from_secs(2);
/// Subcommands that are left out: they compute for minutes, or write where they are told to.
const LEFT_OUT: [&str; 4] = ["bench", "selftest", "help", "model"];
/// Values of options. No absolute path, as the tests may run with every right.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "2.5",
    "1e999",
    "NaN",
    "99999999999999999999",
    "18446744073709551615",
    "-9223372036854775808",
    "5GiB",
    "auto",
    "=",
    "--",
    "-",
    "a/b",
    "in.jsonl",
    "out",
    "missing/deep/file.toml",
    "港",
    "\u{202e}\u{1b}[31m",
    "http://[",
    "http://127.0.0.1:1",
    "redis://",
    "redis://127.0.0.1:1/x",
    "sqlite:",
    "s3://",
    "ftp://x/y",
    "127.0.0.1:0",
    "127.0.0.1:99999",
    "mock",
    "records",
    "dpo",
    "json",
    "off",
    "00000000000000000000000000000000",
];
/// Parts of rows that others got wrong.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "null",
    "NaN",
    "1e999",
    "-0",
    "\\ud83d",
    "\\u0000",
    "\u{feff}",
    "\u{fffd}",
    "\u{f8f0}",
    "\r",
    "\n",
    "\"prompt\":",
    "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]",
    "\"conversations\":[{\"from\":\"human\",\"value\":\"x\"}]",
    "\"length\":\"三千\"",
    "\"length\":-1",
    "\"context\":[[]]",
    "\"language\":\"zz\"",
    "\"id\":123456789012345678901234567890",
    "几百字",
    "写一篇12000字的文章",
    "{{ x }}{% for %}",
];
const ROWS: &str = "\
{\"id\": \"one\", \"prompt\": \"Write about tea in 300 words.\", \"length\": 300}
{\"messages\": [{\"role\": \"system\", \"content\": \"Be kind.\"}, {\"role\": \"user\", \"content\": \"写一篇三百字的散文。\"}]}
{\"conversations\": [{\"from\": \"human\", \"value\": \"Write 200 words.\"}], \"metadata\": {\"a\": [1, 2.5, null]}}
{\"instruction\": \"Write a report.\", \"input\": \"On salt.\", \"output\": \"Long.\"}
";

/// Runs a command to its end, or for [`PATIENCE`].
fn expect_no_panic(mut command: Command, dir: &Path, case: &str) {
    let errors = dir.join("stderr");
    command.current_dir(dir).stdout(Stdio::null()).stderr(fs::File::create(&errors).unwrap());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{case}: {error}"));
    let begin = clock::now();
    let code = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break Some(ended.code());
        }
        if begin.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let said = String::from_utf8_lossy(&fs::read(errors).unwrap()).into_owned();
    assert!(!said.contains("panicked"), "{case}:\n{said}");
    assert!(matches!(code, None | Some(Some(0..=3))), "{case} ended with {code:?}:\n{said}");
}

fn help(words: &[&str]) -> String {
    String::from_utf8(longhand().args(words).arg("--help").output().unwrap().stdout).unwrap()
}

/// Names of the subcommands that a help text lists, in whichever group.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().take_while(|line| *line != "Options:").filter_map(|line| line.strip_prefix("  "));
    let names = listed.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| !LEFT_OUT.contains(name)).map(str::to_owned).collect()
}

/// The options that a help text lists.
fn options(help: &str) -> Vec<String> {
    let words = help.split(|c: char| c.is_whitespace() || ",[]=".contains(c));
    let mut options: Vec<String> =
        words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect();
    options.sort_unstable();
    options.dedup();
    options
}

#[test]
fn no_command_line_panics() {
    let commands: Vec<(String, Vec<String>)> = (subcommands(&help(&[])).into_iter())
        .map(|name| {
            let options = options(&help(&[&name]));
            (name, options)
        })
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    for seed in seeds(CASES) {
        rng::seed(seed);
        let (name, options) = &commands[rng::below(commands.len() as u64) as usize];
        let mut arguments = vec![name.clone()];
        for _ in 0..rng::below(6) {
            match rng::below(4) {
                0 => arguments.push(pick(VALUES).to_owned()),
                1 if !options.is_empty() => arguments.push(options[rng::below(options.len() as u64) as usize].clone()),
                _ if !options.is_empty() => {
                    arguments.push(options[rng::below(options.len() as u64) as usize].clone());
                    arguments.push(pick(VALUES).to_owned());
                }
                _ => {}
            }
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("in.jsonl"), ROWS).unwrap();
        let mut command = longhand();
        command.args(&arguments);
        expect_no_panic(command, dir.path(), &format!("seed {seed}: longhand {arguments:?}"));
    }
}

#[test]
fn no_input_file_panics() {
    const NAMES: [&str; 8] =
        ["in.jsonl", "in.json", "in.csv", "in.parquet", "in.jsonl.gz", "in.jsonl.zst", "in.txt", "in"];
    for seed in seeds(CASES) {
        rng::seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let (name, bytes) = (pick(&NAMES), spoiled(ROWS.as_bytes(), PIECES));
        fs::write(dir.path().join(name), &bytes).unwrap();
        fs::write(dir.path().join("recipe.toml"), spoiled(ROWS.as_bytes(), PIECES)).unwrap();
        let words: &[&str] = match rng::below(6) {
            0 => &["validate"],
            1 => &["import", "-o", "out.jsonl"],
            2 => &["select", "-o", "out.jsonl"],
            3 => &["run", "-o", "out", "--engine", "mock", "--http", "off", "--limit", "2"],
            4 => &["preview", "--engine", "mock"],
            _ => &["run", "-o", "out", "--engine", "mock", "--http", "off", "--recipe", "recipe.toml"],
        };
        let mut command = longhand();
        command.arg(words[0]).arg(name).args(&words[1..]);
        let text = String::from_utf8_lossy(&bytes);
        expect_no_panic(command, dir.path(), &format!("seed {seed}: {words:?} {name}:\n{text}\n"));
    }
}

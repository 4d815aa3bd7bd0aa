//! The documentation against the program: links lead somewhere, commands run, options exist, tables agree with the code.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::domain::rule::{Bound, Rule};
use longhand_coordinator::text::filter;

/// Info string of a fenced block that is run.
const RUNNABLE: &str = "sh test";

/// Line 1 of a page's script. An error is reported with page and line; whatever runs in the background ends with the page.
const PRELUDE: &str = r#"set -Eeuo pipefail; trap 'echo "$0:$LINENO: exit code $?" >&2' ERR; trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"#;

/// Bound on one page's commands, in seconds. They take a few.
const PAGE_SECONDS: &str = "300";

/// Lines of README.md: the first screen and the first ten minutes.
const README_LINES: usize = 150;

#[test]
fn every_relative_link_and_anchor_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        for (number, line) in page.prose() {
            for target in targets(line).filter(|target| !target.contains("://")) {
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let file = if path.is_empty() { page.file() } else { page.file().parent().unwrap().join(path) };
                if !file.exists() {
                    broken.push(format!("{}:{number}: {target}: no such file", page.path));
                } else if !anchor.is_empty() && !Page::read(&file).anchors().contains(&anchor.to_owned()) {
                    broken.push(format!("{}:{number}: {target}: no such heading", page.path));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_command_marked_as_runnable_succeeds() {
    let scripts: Vec<(String, String)> =
        pages().iter().filter_map(|page| Some((page.path.clone(), page.script()?))).collect();
    assert!(scripts.len() >= 10, "{} pages with commands", scripts.len());
    let failed: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = scripts.iter().map(|(path, script)| scope.spawn(move || run(path, script))).collect();
        runs.into_iter().filter_map(|run| run.join().unwrap().err()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_option_of_a_command_that_is_shown_exists() {
    let mut unknown = Vec::new();
    for page in pages() {
        for (number, command) in page.commands() {
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            let names: Vec<&str> = words.iter().copied().take_while(|word| is_name(word)).take(2).collect();
            if names.is_empty() {
                continue;
            }
            let help = longhand().args(&names).arg("--help").output().unwrap();
            let text = String::from_utf8_lossy(&help.stdout);
            let known: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
            if !help.status.success() {
                unknown.push(format!("{}:{number}: `{command}`: no such command", page.path));
            }
            for option in words.iter().filter(|word| word.starts_with("--")) {
                let option = option.split('=').next().unwrap();
                if !known.contains(&option) {
                    unknown.push(format!("{}:{number}: `{command}`: no option {option}", page.path));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn the_table_of_filters_agrees_with_the_rules() {
    let page = Page::read(&root().join("docs/filters.md"));
    let rows: Vec<Vec<&str>> = page
        .text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let rules: Vec<&Rule> = filter::all().collect();
    let names = |rows: &[Vec<&str>]| rows.iter().map(|row| row[0].to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&rows), rules.iter().map(|rule| rule.name).collect::<Vec<_>>());
    let builtin: toml::Table = toml::from_str(&Recipe::builtin().to_toml()).unwrap();
    for (row, rule) in rows.iter().zip(rules) {
        let [name, key, default, bound, range, _] = row[..] else { panic!("six columns in {row:?}") };
        assert_eq!(key, rule.key, "{name}");
        let in_code = &builtin["filters"][key];
        if in_code.is_bool() {
            assert_eq!((bound, range, default), ("on or off", "true, false", &*in_code.to_string()), "{name}");
            continue;
        }
        let expected = match rule.bound {
            Bound::AtLeast => "at least",
            Bound::AtMost => "at most",
        };
        assert_eq!(bound, expected, "{name}");
        assert_eq!(default.parse(), Ok(number(in_code)), "{name}");
        let (least, most) = range.split_once(" to ").unwrap();
        let (least, most): (f64, f64) = (least.parse().unwrap(), most.parse().unwrap());
        let step = if in_code.is_integer() { 1.0 } else { 0.01 };
        let taken = |value: f64| {
            let value = if in_code.is_integer() { format!("{value}") } else { format!("{value:?}") };
            Recipe::from_toml(&format!("[filters]\n{key} = {value}\n")).is_ok()
        };
        let ends = [least - step, least, most, most + step].map(taken);
        assert_eq!(ends, [false, true, true, false], "{name}: the range is not {range}");
    }
}

#[test]
fn the_table_of_models_is_the_engines_own() {
    let made = Command::new(env!("CARGO_BIN_EXE_longhand")).args(["model", "families"]).output().unwrap();
    let table = String::from_utf8(made.stdout).unwrap();
    let page = Page::read(&root().join("docs/models.md")).text;
    assert!(page.contains(&table), "docs/models.md does not hold what `longhand model families` prints:\n{table}");
}

#[test]
fn the_first_page_stays_short() {
    let lines = Page::read(&root().join("README.md")).text.lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines: move what is beyond the first ten minutes to docs/");
}

/// One file of the documentation.
struct Page {
    /// Below the repository's root.
    path: String,
    text: String,
}

impl Page {
    fn read(file: &Path) -> Self {
        let path = file.strip_prefix(root()).unwrap_or(file).display().to_string();
        Self { path, text: fs::read_to_string(file).unwrap() }
    }

    fn file(&self) -> PathBuf {
        root().join(&self.path)
    }

    /// All lines with their numbers from 1, and the info string of the fenced block that they stand in. Fences are left out.
    fn lines(&self) -> Vec<(usize, Option<&str>, &str)> {
        let mut fence = None;
        let mut lines = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            match line.strip_prefix("```") {
                Some(info) => fence = if fence.is_none() { Some(info) } else { None },
                None => lines.push((index + 1, fence, line)),
            }
        }
        assert!(fence.is_none(), "{}: a fenced block is not closed", self.path);
        lines
    }

    /// The lines outside of fenced blocks.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().into_iter().filter(|(_, fence, _)| fence.is_none()).map(|(number, _, line)| (number, line))
    }

    /// What links to the page's headings say behind `#`.
    fn anchors(&self) -> Vec<String> {
        let headings = self
            .prose()
            .filter_map(|(_, line)| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
        headings
            .map(|heading| {
                let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                kept.collect::<String>().to_lowercase().replace(' ', "-")
            })
            .collect()
    }

    /// The page with everything blank but its runnable blocks, so that the shell's line numbers are the page's. None if
    /// nothing is to be run.
    fn script(&self) -> Option<String> {
        let mut script = vec![""; self.text.lines().count()];
        script[0] = PRELUDE;
        let mut any = false;
        for (number, _, line) in self.lines().into_iter().filter(|(_, fence, _)| *fence == Some(RUNNABLE)) {
            assert!(number > 1, "{}: a title comes first", self.path);
            script[number - 1] = line;
            any = true;
        }
        any.then(|| script.join("\n"))
    }

    /// Every `longhand ...` of shell blocks and code spans, with the number of its first line.
    fn commands(&self) -> Vec<(usize, String)> {
        let mut commands: Vec<(usize, String)> = Vec::new();
        let mut continued = false;
        for (number, fence, line) in self.lines() {
            match fence {
                Some(info) if info.starts_with("sh") => {
                    let text = line.trim_end_matches('\\').split(['|', '&', '>', ')']).next().unwrap();
                    match commands.last_mut().filter(|_| continued) {
                        Some((_, command)) => command.push_str(text),
                        None => commands.push((number, text.to_owned())),
                    }
                    continued = line.ends_with('\\');
                }
                Some(_) => {}
                None => commands.extend(line.split('`').skip(1).step_by(2).map(|span| (number, span.to_owned()))),
            }
        }
        commands.retain(|(_, command)| command.starts_with("longhand "));
        commands
    }
}

/// The pages that are checked.
fn pages() -> Vec<Page> {
    let mut files: Vec<PathBuf> = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "METRICS.md",
        "coordinator/BENCHMARKS.md",
        "worker/BENCHMARKS.md",
    ]
    .map(|name| root().join(name))
    .into();
    let mut folders = vec![root().join("docs"), root().join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|file| Page::read(file)).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Targets of the links in a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// True for the name of a command, and not for an option, a path or a placeholder.
fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

fn number(value: &toml::Value) -> f64 {
    value.as_float().or(value.as_integer().map(|whole| whole as f64)).unwrap()
}

/// The built program in the environment of the examples: the test double writes, and ports are free ones.
fn longhand() -> Command {
    isolated(env!("CARGO_BIN_EXE_longhand"))
}

/// A program that sees none of the variables by which the tests' own environment would decide.
fn isolated(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["LONGHAND_", "OTEL_", "RUST_LOG", "BASH_ENV"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a page's script in a folder that holds `examples/` and `model.gguf`, a tiny model for its tokenizer.
fn run(path: &str, script: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, script).unwrap();
    copy(&root().join("examples"), &folder.path().join("examples"));
    fs::copy(root().join("worker/tests/fixtures/tiny/q8_0.gguf"), folder.path().join("model.gguf")).unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_longhand")).parent().unwrap();
    let search = std::env::var("PATH").unwrap();
    let [grpc, http] = free_ports();
    let output = isolated("timeout")
        .args(["--kill-after=10", PAGE_SECONDS, "bash", path])
        .current_dir(folder.path())
        .env("PATH", format!("{}:{search}", binaries.display()))
        .env("LONGHAND_ENGINE", "mock")
        .env("LONGHAND_DEVICE", "cpu")
        .env("LONGHAND_LISTEN", format!("127.0.0.1:{grpc}"))
        .env("LONGHAND_COORDINATOR", format!("http://127.0.0.1:{grpc}"))
        .env("LONGHAND_HTTP", format!("127.0.0.1:{http}"))
        .env("LONGHAND_HEALTH", format!("http://127.0.0.1:{http}"))
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{path} ended with {}:\n{said}", output.status))
}

/// Two ports that nobody listens on.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

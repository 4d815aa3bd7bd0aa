//! Bad input of every kind: the message says what is wrong, where, and what to do; nothing is lost; the exit code matches.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::program::{Ended, model, run};

const GOOD: &str = r#"{"id": "good", "prompt": "Write about tea in 2,000 words.", "length": 2000}"#;

/// A folder with an input file of these lines.
struct Case {
    dir: TempDir,
    input: PathBuf,
}

impl Case {
    fn new(input: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.jsonl");
        fs::write(&path, input).unwrap();
        Self { dir, input: path }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// Runs with the mock engine.
    fn run(&self, more: &[&str]) -> Ended {
        let (input, out) = (self.input.to_str().unwrap(), self.out());
        let args = ["run", input, "-o", out.to_str().unwrap(), "--engine", "mock"];
        run(args.iter().copied().chain(more.iter().copied()))
    }

    fn validate(&self) -> Ended {
        run(["validate".as_ref(), self.input.as_os_str()])
    }

    fn read(&self, name: &str) -> String {
        let path = self.out().join(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Ids of the accepted documents.
    fn accepted(&self) -> Vec<String> {
        let data = self.out().join("data");
        let mut ids = Vec::new();
        for entry in fs::read_dir(data).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "jsonl") {
                for line in fs::read_to_string(path).unwrap().lines() {
                    let record: serde_json::Value = serde_json::from_str(line).unwrap();
                    ids.push(record["instruction_id"].as_str().unwrap().to_owned());
                }
            }
        }
        ids
    }
}

#[track_caller]
fn expect(ended: &Ended, code: i32, words: &[&str]) {
    let text = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

#[test]
fn an_empty_or_missing_file_is_rejected_before_anything_starts() {
    let case = Case::new("");
    expect(&case.run(&[]), 2, &["in.jsonl", "no rows", "expected one JSON object"]);
    expect(&case.validate(), 2, &["in.jsonl", "no rows"]);
    assert!(!case.out().exists());
    fs::remove_file(&case.input).unwrap();
    expect(&case.run(&[]), 2, &["in.jsonl", "check the path"]);
    assert!(!case.out().exists());
}

/// Six good rows with a bad one on line 7, and a last good row after it.
fn seven_rows(bad: &[u8]) -> Vec<u8> {
    let mut rows = Vec::new();
    for number in 1..=6 {
        let row = format!(
            "{{\"id\": \"row-{number}\", \"prompt\": \"Write about tea, part {number}.\", \"length\": 2000}}\n"
        );
        rows.extend_from_slice(row.as_bytes());
    }
    rows.extend_from_slice(bad);
    rows.push(b'\n');
    rows.extend_from_slice(GOOD.as_bytes());
    rows
}

#[track_caller]
fn one_bad_row(bad: &[u8], words: &[&str]) {
    let case = Case::new(seven_rows(bad));
    let mut words = words.to_vec();
    words.push("in.jsonl:7");
    expect(&case.validate(), 3, &words);

    let mut strict = words.clone();
    strict.push("--strict");
    expect(&case.run(&["--strict"]), 2, &strict);
    assert!(!case.out().exists(), "--strict must start nothing");

    // Without it the other seven are written, and the bad one is listed and counted.
    expect(&case.run(&[]), 3, &["bad_row"]);
    assert_eq!(case.accepted().len(), 7);
    let failed = case.read("failed.jsonl");
    assert_eq!(failed.lines().count(), 1, "{failed}");
    for word in words {
        assert!(failed.replace("\\\"", "\"").contains(word), "no {word:?} in {failed}");
    }
}

#[test]
fn broken_json_on_line_7() {
    one_bad_row(br#"{"prompt": "Write about "#, &[]);
}

#[test]
fn a_row_without_text() {
    one_bad_row(br#"{"id": "x", "title": "no text here"}"#, &["prompt"]);
}

#[test]
fn an_id_that_was_used_for_another_text() {
    one_bad_row(br#"{"id": "row-2", "prompt": "Write about coffee."}"#, &["`id`", "row-2"]);
}

#[test]
fn bytes_that_are_not_utf8() {
    one_bad_row(b"{\"prompt\": \"caf\xe9\"}", &["UTF-8"]);
}

#[test]
fn an_instruction_of_five_megabytes() {
    let row = format!("{{\"prompt\": \"{}\"}}", "tea ".repeat(5 * 1024 * 1024 / 4));
    one_bad_row(row.as_bytes(), &["prompt"]);
}

#[test]
fn an_unknown_or_invalid_recipe_key_is_reported_with_its_line() {
    let case = Case::new(GOOD);
    let recipe = case.file("r.toml", "name = \"x\"\n\n[section]\nflor = 0.9\n");
    expect(&case.run(&["--recipe", recipe.to_str().unwrap()]), 2, &["r.toml:4", "section.flor", "section.floor"]);
    let recipe = case.file("r.toml", "[plan]\nmax_steps = 0\n");
    expect(&case.run(&["--recipe", recipe.to_str().unwrap()]), 2, &["r.toml:2", "plan.max_steps", "expected"]);
    let recipe = case.file("r.toml", "[filters]\nmin_words = 10\nmax_similarity = 1.5\n");
    let words = ["r.toml:3", "`filters.max_similarity` is 1.5", "expected 0.5 to 1"];
    expect(&case.run(&["--recipe", recipe.to_str().unwrap()]), 2, &words);
    expect(&case.run(&["--recipe", "nowhere.toml"]), 2, &["nowhere.toml"]);
    assert!(!case.out().exists());
}

/// A threshold out of range, or a recipe in another encoding, is refused by the report too, and the page that is there stays.
#[test]
fn a_report_with_an_invalid_recipe_is_rejected() {
    let case = Case::new(GOOD);
    expect(&case.run(&["--quiet"]), 0, &[]);
    let out = case.out();
    let report = |more: &[&str]| run(["report", out.to_str().unwrap()].iter().copied().chain(more.iter().copied()));
    expect(&report(&[]), 0, &["report.html"]);
    let before = case.read("report.html");
    let recipe = case.file("r.toml", "[filters]\nmax_residue = 4000000000\n");
    expect(&report(&["--recipe", recipe.to_str().unwrap()]), 2, &["r.toml:2", "filters.max_residue", "expected 0 to"]);
    fs::write(&recipe, b"name = \"caf\xe9\"\n").unwrap();
    expect(&report(&["--recipe", recipe.to_str().unwrap()]), 2, &["r.toml", "line 1 is not in UTF-8", "iconv"]);
    assert_eq!(case.read("report.html"), before);
}

/// Each column is there but the one that holds the instructions.
#[test]
fn a_parquet_file_without_a_text_column_is_rejected() {
    let case = Case::new(GOOD);
    expect(&case.run(&["--quiet"]), 0, &[]);
    let (corpus, exported) = (case.out(), case.dir.path().join("exported"));
    let args = ["export", "--from", corpus.to_str().unwrap(), "-o", exported.to_str().unwrap(), "--format", "parquet"];
    expect(&run(args), 0, &[]);
    let parquet = exported.join("data/train-00000-of-00001.parquet");
    let other = case.dir.path().join("imported.jsonl");
    let import =
        |field: &str| run(["import", parquet.to_str().unwrap(), "-o", other.to_str().unwrap(), "--field", field]);
    expect(&import("question"), 2, &["train-00000-of-00001.parquet", "no `question` column", "`messages`", "--field"]);
    assert!(!other.exists());
    expect(&import("messages"), 0, &[]);
    assert!(fs::read_to_string(&other).unwrap().contains("Write about tea"));
}

#[test]
fn a_folder_with_another_recipe_or_seed_is_rejected_without_new_run() {
    let case = Case::new(GOOD);
    expect(&case.run(&["--quiet"]), 0, &[]);
    let before = case.accepted();
    let recipe = case.file("r.toml", "name = \"another\"\n");
    let with_recipe = ["--recipe", recipe.to_str().unwrap()];
    let refused = case.run(&with_recipe);
    expect(&refused, 2, &["another recipe", "--new-run"]);
    let hashes = refused.stderr.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64).count();
    assert_eq!(hashes, 2, "both hashes are named: {}", refused.stderr);
    expect(&case.run(&["--seed", "7"]), 2, &["another seed", "--new-run"]);
    assert_eq!(case.accepted(), before, "a refusal changes nothing");
    expect(&case.run(&[with_recipe[0], with_recipe[1], "--new-run"]), 0, &[]);
    assert!(case.out().join("previous-1/data").exists());
}

#[test]
fn a_folder_with_other_files_is_rejected() {
    let case = Case::new(GOOD);
    fs::create_dir(case.out()).unwrap();
    fs::write(case.out().join("README.md"), "my project").unwrap();
    expect(&case.run(&[]), 2, &["README.md", "choose an empty or new output folder"]);
    assert_eq!(case.read("README.md"), "my project");
}

#[test]
fn an_unreachable_store_is_reported_without_its_password() {
    let case = Case::new(GOOD);
    let ended = case.run(&["--store", "redis://me:secret@127.0.0.1:1/0"]);
    expect(&ended, 2, &["127.0.0.1:1"]);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    expect(&case.run(&["--new-run", "--store", "nosuch://place"]), 2, &["nosuch", "redis://"]);
}

#[test]
fn a_missing_or_invalid_model_is_rejected() {
    let case = Case::new(GOOD);
    let with_model = |path: &Path| {
        let args = [
            "run".as_ref(),
            case.input.as_os_str(),
            "-o".as_ref(),
            case.dir.path().join("out").into_os_string().leak(),
        ];
        run(args.into_iter().chain(["--model".as_ref(), path.as_os_str()]))
    };
    let missing = case.dir.path().join("none.gguf");
    expect(&with_model(&missing), 2, &["none.gguf"]);
    expect(&with_model(&case.file("text.gguf", "this is no model, whatever its name says")), 2, &["text.gguf", "GGUF"]);
    expect(&with_model(case.dir.path()), 2, &["config.json"]);
    let unnamed = run(["run".as_ref(), case.input.as_os_str(), "-o".as_ref(), case.out().as_os_str()]);
    expect(&unnamed, 2, &["--model", "LONGHAND_MODEL"]);
    assert!(!case.out().exists());
}

/// The real model with one thing changed.
#[test]
fn a_truncated_or_unsupported_model_is_rejected() {
    let real = fs::read(model()).unwrap();
    let case = Case::new(GOOD);
    let refused = |name: &str, bytes: &[u8], words: &[&str]| {
        let path = case.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let out = case.out();
        let (input, output) = (case.input.as_os_str(), out.as_os_str());
        let ended = run(["run".as_ref(), input, "-o".as_ref(), output, "--model".as_ref(), path.as_os_str()]);
        fs::remove_file(&path).unwrap();
        let mut words = words.to_vec();
        words.push(name);
        expect(&ended, 2, &words);
    };
    refused("cut.gguf", &real[..real.len() / 2], &[]);
    let after = |key: &[u8]| real.windows(key.len()).position(|window| window == key).unwrap() + key.len();

    // A text value follows its key as type (4 bytes), length (8), letters.
    let mut changed = real.clone();
    let at = after(b"general.architecture") + 12;
    assert_eq!(&changed[at..at + 5], b"llama");
    changed[at..at + 5].copy_from_slice(b"lhama");
    refused("family.gguf", &changed, &["lhama"]);

    let mut changed = real.clone();
    let at = after(b"tokenizer.ggml.pre") + 12;
    assert_eq!(&changed[at..at + 6], b"smollm");
    changed[at..at + 6].copy_from_slice(b"smolxx");
    refused("tokenizer.gguf", &changed, &["smolxx"]);

    // A weight's name is followed by its number of dimensions (4), two dimensions (16), and its type.
    let mut changed = real.clone();
    let at = after(b"blk.0.attn_q.weight") + 20;
    changed[at..at + 4].copy_from_slice(&999u32.to_le_bytes());
    refused("quantisation.gguf", &changed, &["999"]);
}

/// With the real model: its context holds 8,192 tokens, and the second instruction alone is longer.
#[test]
fn a_document_that_does_not_fit_the_context_fails_alone() {
    let long = "tea and water ".repeat(4_000);
    let rows = format!(
        "{{\"id\": \"short\", \"prompt\": \"Describe a cup of tea.\", \"length\": 200}}\n{{\"id\": \"long\", \"prompt\": \"{long}\"}}"
    );
    let case = Case::new(rows);
    let recipe = case.file("r.toml", "[plan]\nmax_words = 220\n");
    let (model, out) = (model(), case.out());
    let args = ["run".as_ref(), case.input.as_os_str(), "-o".as_ref(), out.as_os_str(), "--recipe".as_ref()];
    let ended = run(args.into_iter().chain([recipe.as_os_str(), "--model".as_ref(), model.as_os_str()]));
    expect(&ended, 3, &["context_too_small"]);
    let failed = case.read("failed.jsonl");
    assert_eq!(failed.lines().count(), 1, "{failed}");
    assert!(failed.contains("\"instruction_id\":\"long\""), "{failed}");
    // Whatever the filters say of the other one, it was written.
    assert_eq!(case.accepted().len() + case.read("rejected.jsonl").lines().count(), 1);
}

#[test]
fn invalid_usage_and_a_failed_run_have_different_exit_codes() {
    expect(&run(["run"]), 2, &["Usage"]);
    expect(&run(["run", "in.jsonl", "-o", "x", "--candidates", "0"]), 2, &["--candidates"]);
    expect(&run(["nonsense"]), 2, &["nonsense"]);
    expect(&run(["--version"]), 0, &["longhand 0."]);
    expect(&run(["run", "--help"]), 0, &["Exit codes", "OTEL_EXPORTER_OTLP_ENDPOINT", "LONGHAND_MODEL", "130"]);
}

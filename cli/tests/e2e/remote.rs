//! Documents written by a real server with an OpenAI-compatible API: llama.cpp with the small model.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::fleet::Fleet;
use crate::program::{cache, longhand, model};

const KEY: &str = "a key for the test";

struct Llama {
    child: Child,
    /// Open as long as the server is to run.
    _stdin: ChildStdin,
    url: String,
}

impl Llama {
    fn start() -> Self {
        let package = cache().join("llama-server");
        assert!(package.join("xllamacpp").is_dir(), "{} is missing: run `make test-deps`", package.display());
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/llama_server.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(model())
            .arg(KEY)
            .env("PYTHONPATH", package)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.map_while(Result::ok).find(|line| line.starts_with("http")).expect("the server starts");
        Self { _stdin: child.stdin.take().unwrap(), child, url }
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_real_server_writes_a_document_and_rejects_a_wrong_key() {
    let server = Llama::start();
    let fleet = Fleet::start(&[]);
    let at = ["worker", "--engine", "openai", "--base-url", &server.url, "--coordinator", &fleet.url];

    let rejected = |more: &[&str], key: &str| {
        let ended = longhand().args(at).args(more).env("THE_KEY", key).output().unwrap();
        assert_eq!(ended.status.code(), Some(2));
        String::from_utf8(ended.stderr).unwrap()
    };
    let key = ["--api-key-env", "THE_KEY"];
    let error = rejected(&key, "a wrong key");
    assert!(error.contains("API key rejected") && !error.contains("a wrong key"), "{error}");
    let error = rejected(&["--api-key-env", "THE_OTHER_KEY"], KEY);
    assert!(error.contains("THE_OTHER_KEY"), "{error}");
    let error = rejected(&[&key[..], &["--model", "large"]].concat(), KEY);
    assert!(error.contains("available are small"), "{error}");

    let input = fleet.dir.path().join("row.jsonl");
    fs::write(&input, r#"{"prompt": "Describe how a harbour works.", "length": 400}"#).unwrap();
    let recipe = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/recipes/demo.toml");
    fleet.ask(&["submit", input.to_str().unwrap(), "--run-id", "harbour", "--recipe", recipe.to_str().unwrap()]);
    let worker = longhand().args(at).args(key).env("THE_KEY", KEY).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut worker = worker.unwrap();
    fleet.ask(&["watch", "harbour"]);
    worker.kill().unwrap();
    worker.wait().unwrap();

    let document = fleet.ask(&["documents", "harbour"]).remove(0);
    let shown = fleet.ask(&["show", "harbour", document["document"].as_str().unwrap()]).remove(0);
    let attempts = shown["attempts"].as_array().unwrap();
    let plans: Vec<&Value> = attempts.iter().filter(|attempt| attempt["detail"]["kind"] == "plan").collect();
    assert_eq!(plans.len(), 1, "by the grammar the first plan is one: {plans:#?}");
    let sections: Vec<&Value> = attempts.iter().filter(|attempt| attempt["detail"]["kind"] == "section").collect();
    assert!(!sections.is_empty(), "{shown:#}");
    for section in sections {
        let usage = &section["detail"]["usage"];
        assert!(usage["prompt"].as_u64() > Some(100) && usage["generated"].as_u64() > Some(20), "{section:#}");
        assert_eq!(section["detail"]["model"], "small");
    }
}

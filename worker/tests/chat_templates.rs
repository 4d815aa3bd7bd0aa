//! The chat templates that TRL and transformers ship, rendered here and by jinja2 as transformers sets it up.
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test that needs it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use longhand_proto::task::Message;
use longhand_worker::model::Model;
use serde_json::{Value, json};

/// Conversations that a recipe makes: turns of the user, with and without a system prompt.
fn conversations() -> Vec<Vec<Message>> {
    let turn = |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into() };
    [
        &[("user", "Write about the harbour <b>&\"'.")][..],
        &[("system", "  Be kind.  "), ("user", "写一篇散文，题目是老街。\n\n")],
        &[("user", "One."), ("assistant", "Two.\n"), ("user", "Three.")],
        &[
            ("system", "Be brief."),
            ("user", "One."),
            ("assistant", "Two."),
            ("user", "Three."),
            ("assistant", "Four."),
            ("user", "Five."),
        ],
    ]
    .iter()
    .map(|turns| turns.iter().map(turn).collect())
    .collect()
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/longhand");
    std::env::var_os("LONGHAND_CACHE").map_or_else(home, Into::into)
}

/// What transformers gives for each template and conversation; null where the template refuses.
fn of_transformers(trainers: &Path, tokens: &Value) -> BTreeMap<String, Vec<Option<String>>> {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat_templates.py"))
        .arg(trainers)
        .arg(tokens.to_string())
        .arg(serde_json::to_string(&conversations()).unwrap())
        .env("PYTHONPATH", std::env::join_paths([trainers, &cache().join("datasets")]).unwrap())
        .env("HF_HOME", home.path())
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn templates_of_trainers_give_the_bytes_of_transformers_or_are_refused_by_name() {
    let trainers = cache().join("trainers");
    assert!(trainers.is_dir(), "{} is missing: run `make test-deps`", trainers.display());
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/llama");
    let tokens = json!({ "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>" });
    let folder = tempfile::tempdir().unwrap();
    // The names of the fixture's own special tokens.
    let named = folder.path().join("named.jinja");
    std::fs::write(&named, "{{ [bos_token, eos_token, pad_token, unk_token]|tojson }}").unwrap();
    let names = Model::open_with(&model, Some(&named)).unwrap().chat_template().render(&[]).unwrap();
    let names: Vec<Value> = serde_json::from_str(&names).unwrap();
    let tokens: Value = tokens
        .as_object()
        .unwrap()
        .keys()
        .zip(["0", "1", "2", "3"])
        .map(|(key, _)| key.clone())
        .zip(
            // The keys are in alphabetical order, as the template names them.
            names,
        )
        .collect::<serde_json::Map<_, _>>()
        .into();

    let (mut same, mut refused) = (0, Vec::new());
    for (file, expected) in of_transformers(&trainers, &tokens) {
        let opened = match Model::open_with(&model, Some(&trainers.join(&file))) {
            Ok(opened) => opened,
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("--chat-template"), "{file}: the remedy is named: {error}");
                refused.push(format!("{file}: {error}"));
                continue;
            }
        };
        for (messages, expected) in conversations().iter().zip(expected) {
            match (opened.chat_template().render(messages), expected) {
                (Ok(got), Some(expected)) => assert_eq!(got, expected, "{file}"),
                (Err(_), None) => {}
                (got, expected) => panic!("{file}: {got:?} instead of {expected:?}"),
            }
        }
        same += 1;
    }
    println!("{same} templates give the bytes of transformers, {} are refused by name: {refused:#?}", refused.len());
    assert!(same >= 40, "{same} templates give the same bytes; refused: {refused:#?}");
    assert!(refused.len() * 10 <= same, "{refused:#?}");
}

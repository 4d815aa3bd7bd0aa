//! A corpus in the formats of trainers, loaded by the library that they use.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{cache, run};

const TOPICS: [&str; 8] = ["tides", "harbours", "glass", "copper", "orchards", "violins", "deserts", "winters"];

/// A corpus of twenty-four documents: eight instructions in three wordings.
fn corpus(dir: &Path) -> PathBuf {
    let wording = |k: usize, topic: &str| match k {
        0 => format!("Write a 300-word essay on the history of {topic} for young readers of a newspaper."),
        1 => format!("write a 300-word essay on the history of {topic} for young readers of a newspaper"),
        _ => format!("Write a 300-word essay on the history of {topic} for young readers of a newspaper, please."),
    };
    let rows: Vec<String> = (0..3)
        .flat_map(|k| TOPICS.iter().map(move |topic| json!({ "prompt": wording(k, topic) }).to_string()))
        .collect();
    fs::write(dir.join("in.jsonl"), rows.join("\n")).unwrap();
    let out = dir.join("corpus");
    let ended = run([
        "run",
        dir.join("in.jsonl").to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
        "--engine",
        "mock",
        "--http",
        "off",
        "--quiet",
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    out
}

/// What `datasets.load_dataset` makes of a folder.
fn load(folder: &Path) -> Value {
    let package = cache().join("datasets");
    assert!(package.is_dir(), "{} is missing: run `make test-deps`", package.display());
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("python3")
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/load_dataset.py"))
        .arg(folder)
        .env("PYTHONPATH", package)
        .env("HF_HOME", home.path())
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_format_is_loaded_by_datasets_with_the_same_texts_and_clusters_are_not_split() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = corpus(dir.path());
    let turn = |row: &Value, k: usize| row["messages"][k]["content"].as_str().unwrap().to_owned();
    let rows = |loaded: &Value, split: &str| loaded[split]["rows"].as_array().unwrap().clone();
    let whole = load(&corpus);
    let texts: BTreeSet<(String, String)> =
        rows(&whole, "train").iter().map(|row| (turn(row, 0), turn(row, 1))).collect();
    assert_eq!(texts.len(), 24);
    assert_eq!(whole["train"]["columns"]["length"], "Value('uint32')");

    for (format, asked, written) in [
        ("parquet", "/messages/0/content", "/messages/1/content"),
        ("messages", "/messages/0/content", "/messages/1/content"),
        ("openai", "/messages/0/content", "/messages/1/content"),
        ("sharegpt", "/conversations/0/value", "/conversations/1/value"),
        ("alpaca", "/instruction", "/output"),
    ] {
        let out = dir.path().join(format);
        let (from, to) = (corpus.to_str().unwrap(), out.to_str().unwrap());
        let ended = run(["export", "--from", from, "-o", to, "--format", format, "--validation", "0.25", "--json"]);
        assert_eq!(ended.code, Some(0), "{format}: {}", ended.stderr);
        let said: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(said["stats"]["splits"], json!({ "train": 18, "validation": 6 }), "{format}");
        let loaded = load(&out);
        let pairs = |split: &str| -> BTreeSet<(String, String)> {
            let text = |row: &Value, at: &str| row.pointer(at).unwrap().as_str().unwrap().to_owned();
            rows(&loaded, split).iter().map(|row| (text(row, asked), text(row, written))).collect()
        };
        let (train, validation) = (pairs("train"), pairs("validation"));
        assert_eq!((train.len(), validation.len()), (18, 6), "{format}");
        assert_eq!(train.union(&validation).cloned().collect::<BTreeSet<_>>(), texts, "{format}");
        for topic in TOPICS {
            let here = |split: &BTreeSet<(String, String)>| split.iter().any(|(asked, _)| asked.contains(topic));
            assert_ne!(here(&train), here(&validation), "{format}: {topic}");
        }
        let info: Value = serde_json::from_slice(&fs::read(out.join("dataset_info.json")).unwrap()).unwrap();
        let entries =
            info.as_object().unwrap().iter().map(|(name, entry)| (name.as_str(), entry["split"].as_str().unwrap()));
        let expected = [("corpus", "train"), ("corpus-validation", "validation")];
        assert_eq!(entries.collect::<BTreeSet<_>>(), BTreeSet::from(expected), "{format}");
    }
}

/// Rows of which most have no earlier turns, or of which no validation split can be drawn.
#[test]
fn small_exports_are_loaded_by_datasets_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    let rows = [
        json!({ "id": "a", "prompt": "Write about the moon and the tides of the sea." }),
        json!({ "id": "b", "messages": [{ "role": "user", "content": "Name a port." },
                { "role": "assistant", "content": "Lima." }, { "role": "user", "content": "Write a history of it." }] }),
        json!({ "id": "c", "prompt": "Write about a bakery in winter and its baker." }),
        json!({ "id": "d", "prompt": "Write about the mill and the miller's daughter." }),
    ];
    fs::write(&input, rows.map(|row| row.to_string()).join("\n")).unwrap();
    let corpus = dir.path().join("corpus");
    let (input, from) = (input.to_str().unwrap(), corpus.to_str().unwrap());
    let run_args = ["run", input, "-o", from, "--engine", "mock", "--http", "off", "--quiet", "--candidates", "2"];
    assert_eq!(run(run_args).code, Some(0));
    for (format, validation) in ["records", "parquet", "messages", "openai", "sharegpt", "alpaca", "dpo-length"]
        .into_iter()
        .flat_map(|format| [(format, "0.05"), (format, "0.25"), (format, "0.5")])
    {
        let out = dir.path().join(format!("{format}-{validation}"));
        let ended = run([
            "export",
            "--from",
            from,
            "-o",
            out.to_str().unwrap(),
            "--format",
            format,
            "--validation",
            validation,
        ]);
        if ended.code == Some(3) {
            continue;
        }
        assert_eq!(ended.code, Some(0), "{format}: {}", ended.stderr);
        let loaded = load(&out);
        let splits = loaded.as_object().unwrap();
        assert!(splits.values().all(|split| !split["rows"].as_array().unwrap().is_empty()), "{format} {validation}");
        assert_eq!(splits.len() == 1, ended.stderr.contains("no validation split"), "{format}: {}", ended.stderr);
        if format == "alpaca" {
            assert!(splits["train"]["columns"]["history"].as_str().unwrap().contains("string"), "{loaded}");
        }
    }
}

/// What a trainer makes of a folder: the rows that it would train on.
fn train(trainer: &str, folder: &Path, more: &[&Path]) -> Vec<Value> {
    let package = cache().join("trainers");
    assert!(package.is_dir(), "{} is missing: run `make test-deps`", package.display());
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("python3")
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/trainers.py"))
        .arg(trainer)
        .arg(folder)
        .args(more)
        .env("PYTHONPATH", std::env::join_paths([package, cache().join("datasets")]).unwrap())
        .env("HF_HOME", home.path())
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(output.stdout.trim_ascii().rsplit(|byte| *byte == b'\n').next().unwrap()).unwrap()
}

// Long because all formats are checked against one corpus, which takes seconds to make.
#[test]
fn trainers_read_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    let rows = [
        json!({ "prompt": "Write a 300-word essay on tides." }),
        json!({ "messages": [{ "role": "system", "content": "Be kind." }, { "role": "user", "content": "写一篇三百字的散文，题目是老街。" }] }),
        json!({ "messages": [{ "role": "user", "content": "Hello." }, { "role": "assistant", "content": "Good day." },
                             { "role": "user", "content": "Write a 300-word essay on glass." }] }),
    ];
    fs::write(&input, rows.map(|row| row.to_string()).join("\n")).unwrap();
    fs::write(dir.path().join("recipe.toml"), "[judge]\nvotes = 1\n").unwrap();
    let (corpus, recipe) = (dir.path().join("corpus"), dir.path().join("recipe.toml"));
    let paths = [&input, &corpus, &recipe].map(|path| path.to_str().unwrap());
    let ended = run([
        "run",
        paths[0],
        "-o",
        paths[1],
        "--recipe",
        paths[2],
        "--candidates",
        "3",
        "--engine",
        "mock",
        "--http",
        "off",
        "-q",
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let export = |format: &str| {
        let out = dir.path().join(format);
        let ended = run(["export", "--from", paths[1], "-o", out.to_str().unwrap(), "--format", format]);
        assert_eq!(ended.code, Some(0), "{format}: {}", ended.stderr);
        out
    };
    let lines = |folder: &Path| -> Vec<Value> {
        let text = fs::read_to_string(folder.join("data/train-00000-of-00001.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let records = lines(&corpus);
    assert_eq!(records.len(), 9);
    let turns = |row: &Value| -> Vec<(String, String)> {
        let turn = |turn: &Value| ["role", "content"].map(|key| turn[key].as_str().unwrap().to_owned()).into();
        row.as_array().unwrap().iter().map(turn).collect()
    };

    // What a template of TRL's makes of a conversation.
    let rendered =
        |turns: &[(String, String)]| turns.iter().map(|(role, text)| format!("<{role}>{text}</>")).collect::<String>();
    let tokenizer =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../worker/tests/fixtures/tiny/llama/tokenizer.json");
    let want: BTreeSet<String> = records.iter().map(|record| rendered(&turns(&record["messages"]))).collect();
    for format in ["parquet", "messages", "openai"] {
        let read = train("trl", &export(format), &[&tokenizer]);
        let texts: BTreeSet<String> = read.iter().map(|row| row["text"].as_str().unwrap().to_owned()).collect();
        assert_eq!(texts, want, "{format}");
    }
    let pairs = export("dpo");
    let read = train("trl", &pairs, &[&tokenizer]);
    let written = lines(&pairs);
    assert!(!written.is_empty() && read.len() == written.len(), "{} of {}", read.len(), written.len());
    for (read, pair) in read.iter().zip(&written) {
        let asked = rendered(&turns(&pair["prompt"])) + "<assistant>";
        assert_eq!(read["prompt"].as_str(), Some(asked.as_str()));
        for side in ["chosen", "rejected"] {
            let text = pair[side][0]["content"].as_str().unwrap();
            assert_eq!(read[side].as_str(), Some(format!("{text}</>").as_str()), "{side}");
        }
    }

    // LLaMA-Factory keeps the rules apart from the conversation.
    let want: BTreeSet<Vec<(String, String)>> = records
        .iter()
        .map(|record| turns(&record["messages"]).into_iter().filter(|(role, _)| role != "system").collect())
        .collect();
    for format in ["records", "parquet", "messages", "openai", "sharegpt", "alpaca"] {
        let read = train("llama_factory", &export(format), &[]);
        let texts: BTreeSet<Vec<(String, String)>> =
            read.iter().map(|row| [turns(&row["prompt"]), turns(&row["response"])].concat()).collect();
        assert_eq!(texts, want, "{format}");
    }
}

#[test]
fn tokens_are_counted_with_the_given_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = corpus(dir.path());
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../worker/tests/fixtures/tiny");
    for tokenizer in ["q8_0.gguf", "llama", "llama/tokenizer.json"] {
        let out = dir.path().join("out");
        let ended = run([
            "export",
            "--from",
            corpus.to_str().unwrap(),
            "-o",
            out.to_str().unwrap(),
            "--tokenizer",
            fixtures.join(tokenizer).to_str().unwrap(),
        ]);
        assert_eq!(ended.code, Some(0), "{tokenizer}: {}", ended.stderr);
        let stats: Value = serde_json::from_slice(&fs::read(out.join("stats.json")).unwrap()).unwrap();
        let packing = &stats["packing"];
        assert_eq!((&packing["records"], &packing["window"]), (&json!(24), &json!(32_768)), "{packing}");
        // A text of 300 words has more tokens than words, and fewer than letters.
        let mean = packing["mean"].as_f64().unwrap();
        assert!((300.0..2_500.0).contains(&mean), "{tokenizer}: {mean}");
        let card = fs::read_to_string(out.join("README.md")).unwrap();
        assert!(card.contains("Packed into windows of 32,768 tokens"), "{card}");
    }
}

#[test]
fn an_invalid_export_is_rejected_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = corpus(dir.path());
    let (from, out) = (corpus.to_str().unwrap(), dir.path().join("out"));
    let nowhere = dir.path().join("nowhere.json");
    fs::write(dir.path().join("bad.json"), "{}").unwrap();
    for (from, more, word) in [
        (from, &["--format", "excel"][..], "expected one of records, parquet, messages, openai, sharegpt, alpaca"),
        (from, &["--validation", "0.9"], "expected a number from 0 to 0.5"),
        (from, &["--tokenizer", nowhere.to_str().unwrap()], "expected the tokenizer.json of a model"),
        (
            from,
            &["--tokenizer", dir.path().join("bad.json").to_str().unwrap()],
            "expected the tokenizer.json of a model",
        ),
        (from, &["--tokenizer", dir.path().to_str().unwrap()], "no config.json"),
        (dir.path().to_str().unwrap(), &[], "expected the output folder of `longhand run`"),
    ] {
        let args = ["export", "--from", from, "-o", out.to_str().unwrap()];
        let ended = run(args.iter().chain(more));
        assert_eq!(ended.code, Some(2), "{more:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(word), "{more:?}: {}", ended.stderr);
        assert!(!out.exists(), "{more:?}");
    }
    let before = fs::read(corpus.join("stats.json")).unwrap();
    let ended = run(["export", "--from", from, "-o", from, "--format", "alpaca"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("choose another output folder"), "{}", ended.stderr);
    assert_eq!(fs::read(corpus.join("stats.json")).unwrap(), before);

    // An export is no run: its texts are where they were exported from.
    let exported = ["export", "--from", from, "-o", out.to_str().unwrap(), "--format", "openai"];
    assert_eq!(run(exported).code, Some(0));
    let again = dir.path().join("again");
    let ended = run(["export", "--from", out.to_str().unwrap(), "-o", again.to_str().unwrap()]);
    assert!(ended.code == Some(2) && ended.stderr.contains("was exported from"), "{}", ended.stderr);
}

#[test]
fn the_report_of_a_corpus_matches_the_run_and_accepts_another_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = corpus(dir.path());
    let ended = run(["report", corpus.to_str().unwrap(), "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&said["summary"]["documents"], &said["summary"]["kept"]), (&json!(24), &json!(24)), "{said}");
    let page = fs::read_to_string(corpus.join("report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>"));

    let recipe = dir.path().join("strict.toml");
    fs::write(&recipe, "[filters]\nmin_words = 10000\n").unwrap();
    let elsewhere = dir.path().join("strict.html");
    let args =
        ["report", corpus.to_str().unwrap(), "--recipe", recipe.to_str().unwrap(), "-o", elsewhere.to_str().unwrap()];
    let ended = run(args);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("24 documents, 0 kept") && elsewhere.is_file(), "{}", ended.stdout);
    assert!(ended.stdout.contains("strict.html"), "{}", ended.stdout);

    // What holds no records has no values.
    let openai = dir.path().join("openai");
    let args = ["export", "--from", corpus.to_str().unwrap(), "-o", openai.to_str().unwrap(), "--format", "openai"];
    assert_eq!(run(args).code, Some(0));
    for (folder, word) in [(openai.as_path(), "--format records"), (dir.path(), "expected a complete output folder")] {
        let ended = run(["report", folder.to_str().unwrap()]);
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains(word) && !folder.join("report.html").exists(), "{}", ended.stderr);
    }
}

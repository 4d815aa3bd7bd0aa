//! Contents of the exported folder.

use std::fs::{self, File};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use longhand_proto::LeaseId;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::super::dataset::Limits;
use super::super::{Corpus, Options, Record, RunTiming, Stats};
use super::memory_source::MemorySource;
use super::{document, run_id};
use crate::dataset::input;
use crate::domain::document::{Document, Progress, Verdict};
use crate::domain::language::Language;
use crate::domain::state::State;
use crate::store::{Attempt, AttemptEnd};

async fn export(source: &MemorySource, dir: &Path, options: &Options) -> Stats {
    Corpus::open(dir, &run_id(), source).await.unwrap().export_to(source, dir, options).await.unwrap()
}

fn mixed(count: u32) -> Vec<Document> {
    (0..count)
        .map(|number| document(number, if number % 2 == 0 { Language::En } else { Language::Zh }, 1 + number % 3))
        .collect()
}

fn reject(document: &mut Document, name: &str) {
    let Progress::Finished { verdict, .. } = &mut document.progress else { unreachable!() };
    *verdict = Verdict::Rejected { rule: name.into(), value: 61.5, threshold: 80.0, detail: "18 words".into() };
}

fn fail(document: &mut Document, class: &str) {
    let sections = document.sections().to_vec();
    document.progress = Progress::Failed { class: class.into(), message: "why it failed".into(), plan: None, sections };
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for folder in [dir.to_owned(), dir.join("data")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.push((path.strip_prefix(dir).unwrap().display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn rows(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn parquet(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.map(|batch| batch.unwrap()).collect()
}

#[tokio::test]
async fn parquet_holds_what_the_json_lines_hold() {
    let dir = tempfile::tempdir().unwrap();
    let documents = mixed(75);
    export(&MemorySource::of(&documents), dir.path(), &Options::default()).await;
    let lines = rows(&dir.path().join("data/train-00000-of-00001.jsonl"));
    assert_eq!(lines.len(), 75);
    let mut number = 0;
    for batch in parquet(&dir.path().join("data/train-00000-of-00001.parquet")) {
        let text = |name: &str, row: usize| batch[name].as_string::<i32>().value(row).to_owned();
        for row in 0..batch.num_rows() {
            let (line, document) = (&lines[number], &documents[number]);
            let record: Record = serde_json::from_value(line.clone()).unwrap();
            assert_eq!(record.id, document.id, "order of submission");
            assert_eq!(text("id", row), record.id.to_string());
            assert_eq!(serde_json::from_str::<Value>(&text("metadata", row)).unwrap(), line["metadata"]);
            let messages = batch["messages"].as_list::<i32>().value(row);
            let contents = messages.as_struct()["content"].as_string::<i32>().clone();
            let Progress::Finished { text: answer, .. } = &document.progress else { unreachable!() };
            assert_eq!((contents.len(), contents.value(1)), (2, answer.as_str()));
            assert_eq!(record.messages[1].content, *answer);
            let sections = batch["sections"].as_list::<i32>().value(row);
            let sections = sections.as_struct();
            assert_eq!(sections.len(), record.sections.len());
            for (k, section) in record.sections.iter().enumerate() {
                assert_eq!(sections["text"].as_string::<i32>().value(k), section.text);
                assert_eq!(sections["seed"].as_string::<i32>().value(k), section.seed);
                let tokens = sections["tokens"].as_struct();
                assert_eq!(tokens["prompt"].as_primitive::<UInt32Type>().value(k), section.tokens.prompt);
            }
            let length = batch["length"].as_primitive::<UInt32Type>();
            assert_eq!(length.is_valid(row).then(|| length.value(row)), record.length);
            let score = batch["score_length"].as_primitive::<Float64Type>();
            assert_eq!(score.is_valid(row).then(|| score.value(row)), record.score_length);
            let licence = batch["provenance"].as_struct()["licence"].as_string::<i32>().value(row).to_owned();
            assert_eq!(licence, "apache-2.0");
            number += 1;
        }
    }
    assert_eq!(number, 75);
    // The export can be the input of another run.
    let again = input::read(dir.path().join("data/train-00000-of-00001.parquet")).unwrap();
    let again: Vec<_> = again.map(|row| row.unwrap()).collect();
    assert_eq!(again.len(), 75);
    for (row, document) in again.iter().zip(&documents) {
        assert_eq!(row.messages, document.instruction.messages);
        assert_eq!(row.metadata, document.instruction.metadata);
        assert_eq!(row.required_words, document.instruction.required_words);
    }
}

#[tokio::test]
async fn the_same_corpus_gives_the_same_bytes_in_any_order_of_flushes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let documents = mixed(40);
    let source = MemorySource::of(&documents);
    export(&source, one.path(), &Options::default()).await;

    // The second run accepts its documents from the last to the first.
    let late = MemorySource::default();
    for document in &documents {
        let waiting = Document { progress: Progress::Planning { repair: None }, ..document.clone() };
        late.put(&waiting);
    }
    let mut corpus = Corpus::open(two.path(), &run_id(), &late).await.unwrap();
    for document in documents.iter().rev() {
        late.put(document);
        corpus.flush(&late).await.unwrap();
    }
    corpus.export(&late).await.unwrap();
    let files = (files(one.path()), files(two.path()));
    assert!(files.0 == files.1, "{:?}", files.0.iter().map(|(name, _)| name).collect::<Vec<_>>());

    let again = export(&source, one.path(), &Options::default()).await;
    assert_eq!(again.documents.accepted, 40);
    assert!(self::files(one.path()) == files.0);
}

#[tokio::test]
async fn large_corpora_are_split_and_files_of_the_earlier_export_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let source = MemorySource::of(&mixed(25));
    let limits = Limits { records: 10, bytes: u64::MAX };
    export(&source, dir.path(), &Options { limits, ..Options::default() }).await;
    let names = || files(dir.path()).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(
        names(),
        [
            "README.md",
            "data/train-00000-of-00003.jsonl",
            "data/train-00000-of-00003.parquet",
            "data/train-00001-of-00003.jsonl",
            "data/train-00001-of-00003.parquet",
            "data/train-00002-of-00003.jsonl",
            "data/train-00002-of-00003.parquet",
            "dataset_info.json",
            "failed.jsonl",
            "recipe.toml",
            "rejected.jsonl",
            "stats.json",
        ]
    );
    let limits = Limits { records: u64::MAX, bytes: 10_000 };
    export(&source, dir.path(), &Options { limits, ..Options::default() }).await;
    let count = names().len();
    for (name, content) in files(dir.path()) {
        assert!(!name.starts_with("data/") || !name.ends_with("jsonl") || content.len() <= 10_000, "{name}");
    }
    assert!(count > 9);
    export(&source, dir.path(), &Options::default()).await;
    assert_eq!(names().len(), 8);
}

#[tokio::test]
async fn an_empty_corpus_is_a_complete_folder() {
    let dir = tempfile::tempdir().unwrap();
    let stats = export(&MemorySource::default(), dir.path(), &Options::default()).await;
    assert_eq!(stats.documents.total(), 0);
    assert!(files(dir.path()).iter().all(|(name, _)| !name.starts_with("data/")), "no file without a row");
    let card = fs::read_to_string(dir.path().join("README.md")).unwrap();
    assert!(card.contains("n<1K") && card.contains("data_files: []") && !card.contains("split:"), "{card}");
    assert_eq!(rows(&dir.path().join("dataset_info.json")).len(), 1, "{{}}");
}

/// `datasets` refuses a split without rows.
#[tokio::test]
async fn a_split_without_rows_is_in_no_file_and_not_in_the_card() {
    let dir = tempfile::tempdir().unwrap();
    let mut documents = mixed(4);
    for pair in documents.chunks_mut(2) {
        pair[1].instruction = pair[0].instruction.clone();
    }
    // Two instructions of two documents each: a twentieth of four has room for neither.
    let options = |name: &str| Options { format: name.parse().unwrap(), validation: 0.05, ..Options::default() };
    for name in ["records", "alpaca", "dpo-length"] {
        let stats = export(&MemorySource::of(&documents), dir.path(), &options(name)).await;
        assert!(!stats.splits.contains_key("validation"), "{name}: {:?}", stats.splits);
        assert!(stats.splits.values().all(|rows| *rows > 0), "{name}: {:?}", stats.splits);
        let card = fs::read_to_string(dir.path().join("README.md")).unwrap();
        assert!(!card.contains("validation"), "{name}: {card}");
        for (file, content) in files(dir.path()).iter().filter(|(file, _)| file.starts_with("data/")) {
            assert!(file.starts_with("data/train-") && !content.is_empty(), "{name}: {file}");
        }
    }
}

/// A reader that infers types from rows takes an empty list for another type than a full one.
#[tokio::test]
async fn the_card_states_the_columns_of_every_format() {
    let dir = tempfile::tempdir().unwrap();
    for (name, part) in [
        ("records", "  - name: length\n    dtype: uint32\n"),
        ("records", "  - name: context\n      list:\n        dtype: string\n"),
        ("messages", "  - name: messages\n    list:\n    - name: role\n      dtype: string\n"),
        ("openai", "  features:\n  - name: messages\n    list:\n"),
        ("sharegpt", "  - name: conversations\n    list:\n    - name: from\n      dtype: string\n"),
        ("alpaca", "  - name: history\n    list:\n      list:\n        dtype: string\n"),
    ] {
        let options = Options { format: name.parse().unwrap(), ..Options::default() };
        export(&MemorySource::of(&mixed(3)), dir.path(), &options).await;
        let card = fs::read_to_string(dir.path().join("README.md")).unwrap();
        assert!(card.contains(part), "{name}: {card}");
    }
}

// Longer than 60 lines: one export, and each of its files checked.
#[tokio::test]
async fn rejected_and_failed_documents_are_listed_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut documents = mixed(6);
    reject(&mut documents[1], "score_length");
    reject(&mut documents[2], "refusal");
    fail(&mut documents[3], "context_too_small");
    documents[4].progress = Progress::Cancelled { plan: None, sections: Vec::new() };
    let source = MemorySource::of(&documents);
    // Only the store knows of a document that failed by lost leases.
    {
        let mut records = source.records.lock().unwrap();
        let body = Document { progress: Progress::Planning { repair: None }, ..documents[5].clone() };
        records[5].state = State::Failed;
        records[5].reason = "poison".into();
        records[5].body = serde_json::to_string(&body).unwrap();
    }
    let attempt = |end, detail| Attempt {
        lease: LeaseId::mint(),
        worker: "worker-2".parse().unwrap(),
        granted_ms: 1,
        ended_ms: 2,
        end,
        detail,
    };
    source.attempts.lock().unwrap().extend([
        (documents[3].id, attempt(AttemptEnd::Completed, json!({ "kind": "plan" }))),
        (documents[3].id, attempt(AttemptEnd::Error, json!({ "usage": { "generated": 11 } }))),
        (
            documents[3].id,
            attempt(
                AttemptEnd::Completed,
                json!({ "usage": { "generated": 30 }, "rejected": { "rule": "repetition_inside" } }),
            ),
        ),
        (documents[5].id, attempt(AttemptEnd::Lost, json!({}))),
    ]);

    let timing = RunTiming { started_ms: 1_000, ended_ms: 3_000, tokens_per_second: Some(120.0) };
    let stats = export(&source, dir.path(), &Options::with_timing(timing)).await;

    let rejected = rows(&dir.path().join("rejected.jsonl"));
    assert_eq!(rejected.len(), 2);
    assert_eq!(rejected[0]["id"], documents[1].id.to_string());
    assert_eq!((&rejected[0]["rule"], &rejected[0]["value"]), (&json!("score_length"), &json!(61.5)));
    assert_eq!(rejected[0]["threshold"], 80.0);
    assert_eq!(rejected[0]["line"], 2);
    assert!(rejected[0]["instruction"].as_str().unwrap().contains("ship 1"));
    assert_eq!(rejected[0]["sections"].as_array().unwrap().len(), 2);
    let failed = rows(&dir.path().join("failed.jsonl"));
    assert_eq!((&failed[0]["class"], &failed[0]["message"]), (&json!("context_too_small"), &json!("why it failed")));
    assert_eq!((&failed[0]["line"], failed[0]["attempts"].as_array().unwrap().len()), (&json!(4), 3));
    assert_eq!(failed[1]["class"], "poison");
    assert!(failed[1]["message"].as_str().unwrap().starts_with("lease expired 1 time:"));

    let written: Stats = serde_json::from_str(&fs::read_to_string(dir.path().join("stats.json")).unwrap()).unwrap();
    assert_eq!(written.documents, stats.documents);
    let counts = stats.documents;
    assert_eq!((counts.accepted, counts.rejected, counts.failed, counts.cancelled), (1, 2, 2, 1));
    assert_eq!(stats.rejected.keys().collect::<Vec<_>>(), ["refusal", "score_length"]);
    assert_eq!((stats.attempts.completed, stats.attempts.error, stats.attempts.lost), (2, 1, 1));
    assert_eq!((stats.tokens.generated, stats.tokens.wasted, stats.tokens.dropped), (240, 41, 160));
    assert_eq!(stats.wasted, [("error".to_owned(), 11), ("repetition_inside".to_owned(), 30)].into());
    assert_eq!(stats.tokens_per_word, Some(240.0 / stats.words.sum as f64));
    assert_eq!(stats.prefix_reuse, Some(0.8));
    assert_eq!(stats.timing, Some(timing));
    assert_eq!((stats.words.min, stats.words.max), (stats.words.sum as u32, stats.words.sum as u32));
    assert_eq!(stats.words.bins.iter().map(|bin| bin.count).sum::<u64>(), 1);
    let card = fs::read_to_string(dir.path().join("README.md")).unwrap();
    assert!(
        card.starts_with("---\nlicense: other\n")
            && card.contains("| refusal | sections that begin with a refusal | at most 0 | 1 |")
            && card.contains("load_dataset(")
            && card.contains("\n## Sample\n\n> ")
            && !card.contains("Not for training"),
        "{card}"
    );
    assert!(fs::read_to_string(dir.path().join("recipe.toml")).unwrap().contains("[filters]"));
}

/// Replicas judge documents in any order, so near duplicates are decided at the export, in order of submission.
#[tokio::test]
async fn of_two_near_duplicates_the_one_submitted_first_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut documents = mixed(6);
    let duplicate = documents[4].progress.clone();
    documents[2].progress = duplicate;
    // Flushed and exported while the earlier one is unfinished.
    let late = Document { progress: Progress::Planning { repair: None }, ..documents[2].clone() };
    let source = MemorySource::of(&documents);
    source.put(&late);
    let stats = export(&source, dir.path(), &Options::default()).await;
    assert_eq!((stats.documents.accepted, stats.documents.rejected), (5, 0));
    source.put(&documents[2]);
    for _ in 0..2 {
        let stats = export(&source, dir.path(), &Options::default()).await;
        assert_eq!((stats.documents.accepted, stats.rejected["near_duplicate"]), (5, 1));
        assert_eq!(stats.splits["train"], 5);
        let rejected = rows(&dir.path().join("rejected.jsonl"));
        assert_eq!(rejected[0]["id"], documents[4].id.to_string());
        assert_eq!((&rejected[0]["value"], &rejected[0]["threshold"]), (&json!(1.0), &json!(0.8)));
        assert_eq!(rejected[0]["detail"], format!("like document {}", documents[2].id));
        let kept = rows(&dir.path().join("data/train-00000-of-00001.jsonl"));
        assert!(kept.iter().all(|row| row["id"] != documents[4].id.to_string()));
    }
}

#[tokio::test]
async fn documents_that_cannot_be_read_are_passed_over_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut documents = mixed(200);
    reject(&mut documents[5], "too_short");
    reject(&mut documents[6], "too_short");
    let source = MemorySource::of(&documents);
    {
        let mut records = source.records.lock().unwrap();
        let contradicts = records[7].body.clone();
        // More than a shard holds, accepted and rejected ones, a text that is not finished, and a verdict that is not there.
        for at in (0..5).chain(10..90) {
            records[at].body = "\"no document\"".into();
        }
        records[5].body = "{".into();
        records[6].body = contradicts;
        let unfinished = Document {
            progress: Progress::Cancelled { plan: None, sections: Vec::new() },
            ..document(8, Language::En, 1)
        };
        records[8].body = serde_json::to_string(&unfinished).unwrap();
    }
    let stats = export(&source, dir.path(), &Options::default()).await;
    assert_eq!((stats.unreadable(), stats.documents.failed, stats.documents.accepted), (88, 88, 112));
    let failed = rows(&dir.path().join("failed.jsonl"));
    assert_eq!(failed.len(), 88);
    assert!(
        failed.iter().all(|row| row["class"] == "unreadable" && row["message"].as_str().is_some_and(|m| !m.is_empty()))
    );
    assert!(failed.iter().any(|row| row["id"] == json!(documents[8].id)));
    assert_eq!(rows(&dir.path().join("data/train-00000-of-00001.jsonl")).len(), 112);
    // Mended, it is in the next export.
    source.put(&documents[0]);
    assert_eq!(export(&source, dir.path(), &Options::default()).await.documents.accepted, 113);
}

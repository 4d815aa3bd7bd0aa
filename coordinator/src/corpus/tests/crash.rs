//! Crashes after each step of a flush and of an export, a full disk, and files changed by something else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::{Corpus, CorpusError, Flushed, Record, replace_export, shard};
use super::memory_source::MemorySource;
use super::{document, run, run_id};
use crate::domain::document::{Document, Progress};
use crate::domain::language::Language;
use crate::files::FileError;

fn documents(count: u32) -> Vec<Document> {
    (0..count).map(|number| document(number, Language::En, 2)).collect()
}

async fn open(dir: &Path, source: &MemorySource) -> Corpus {
    Corpus::open(dir, &run_id(), source).await.unwrap()
}

/// Number of occurrences of each document in the exported JSON lines.
fn exported(dir: &Path) -> BTreeMap<String, u32> {
    let mut ids = BTreeMap::new();
    for entry in fs::read_dir(dir.join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            for line in fs::read_to_string(path).unwrap().lines() {
                let record: Record = serde_json::from_str(line).unwrap();
                *ids.entry(record.id.to_string()).or_insert(0) += 1;
            }
        }
    }
    ids
}

fn once(documents: &[Document]) -> BTreeMap<String, u32> {
    documents.iter().map(|document| (document.id.to_string(), 1)).collect()
}

/// Runs the program again after a crash, to its end.
async fn restart_and_check(dir: &Path, source: &MemorySource, documents: &[Document]) {
    let mut corpus = open(dir, source).await;
    corpus.export(source).await.unwrap();
    assert_eq!(exported(dir), once(documents));
    assert_eq!(corpus.len(), documents.len());
    assert_eq!(corpus.entries().iter().map(|entry| entry.records).sum::<u64>(), documents.len() as u64);
    assert_eq!(source.unmarked(), 0);
    let files = fs::read_dir(dir.join(".longhand/shards")).unwrap().count();
    assert_eq!(files, corpus.entries().len(), "files that no manifest names are removed");
}

#[tokio::test]
async fn crash_while_writing_the_shard() {
    let (dir, documents) = (tempfile::tempdir().unwrap(), documents(3));
    let source = MemorySource::of(&documents);
    drop(open(dir.path(), &source).await);
    fs::write(dir.path().join(".longhand/shards/shard-000001.jsonl.tmp"), "{\"id\":\"0").unwrap();
    restart_and_check(dir.path(), &source, &documents).await;
}

#[tokio::test]
async fn crash_between_shard_and_manifest() {
    let (dir, documents) = (tempfile::tempdir().unwrap(), documents(3));
    let source = MemorySource::of(&documents);
    let corpus = open(dir.path(), &source).await;
    let records: Vec<(Record, u32)> =
        documents.iter().map(|d| (Record::of(d, &run(), &corpus.recipe).unwrap(), 0)).collect();
    shard::write(&corpus.shards(), 1, &records).unwrap();
    drop(corpus);
    restart_and_check(dir.path(), &source, &documents).await;
}

#[tokio::test]
async fn crash_within_the_manifest_line() {
    let documents = documents(3);
    let made = tempfile::tempdir().unwrap();
    let source = MemorySource::of(&documents[..2]);
    let mut corpus = open(made.path(), &source).await;
    corpus.flush(&source).await.unwrap();
    let first = fs::read(made.path().join(".longhand/manifest.jsonl")).unwrap().len();
    source.put(&documents[2]);
    *source.fail_next_mark.lock().unwrap() = true;
    corpus.flush(&source).await.unwrap_err();
    let manifest = fs::read(made.path().join(".longhand/manifest.jsonl")).unwrap();

    // Each costs a few fsyncs, so every 13th byte, and each of the last three.
    for cut in (first..manifest.len() - 3).step_by(13).chain(manifest.len() - 3..=manifest.len()) {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join(".longhand");
        fs::create_dir_all(state.join("shards")).unwrap();
        for name in [shard::name(1), shard::name(2)] {
            fs::copy(made.path().join(".longhand/shards").join(&name), state.join("shards").join(&name)).unwrap();
        }
        fs::write(state.join("manifest.jsonl"), &manifest[..cut]).unwrap();
        let mut corpus = open(dir.path(), &source).await;
        assert_eq!(corpus.len(), if cut + 1 < manifest.len() { 2 } else { 3 }, "cut at {cut}");
        let records = source.records.lock().unwrap().clone();
        corpus.write(&records).await.unwrap();
        drop(corpus);
        let corpus = open(dir.path(), &source).await;
        assert_eq!(corpus.entries().iter().map(|entry| entry.records).sum::<u64>(), 3, "cut at {cut}");
    }
    restart_and_check(made.path(), &source, &documents).await;
}

#[tokio::test]
async fn crash_between_manifest_and_mark() {
    let (dir, documents) = (tempfile::tempdir().unwrap(), documents(3));
    let source = MemorySource::of(&documents);
    *source.fail_next_mark.lock().unwrap() = true;
    let mut corpus = open(dir.path(), &source).await;
    assert!(matches!(corpus.flush(&source).await, Err(CorpusError::Store(_))));
    assert_eq!(source.unmarked(), 3);
    // The same process may continue, too.
    assert_eq!(corpus.flush(&source).await.unwrap(), Flushed { known: 3, ..Flushed::default() });
    restart_and_check(dir.path(), &source, &documents).await;
}

#[tokio::test]
async fn more_documents_than_one_shard_takes() {
    let (dir, documents) = (tempfile::tempdir().unwrap(), documents(150));
    let source = MemorySource::of(&documents);
    let mut corpus = open(dir.path(), &source).await;
    assert_eq!(corpus.flush_once(&source).await.unwrap(), Flushed { written: 64, ..Flushed::default() });
    assert_eq!(corpus.flush(&source).await.unwrap(), Flushed { written: 86, ..Flushed::default() });
    assert_eq!(corpus.flush(&source).await.unwrap(), Flushed::default());
    assert_eq!(corpus.entries().len(), 3);
    restart_and_check(dir.path(), &source, &documents).await;
}

#[tokio::test]
async fn a_full_disk_leaves_no_partial_file_and_the_next_attempt_succeeds() {
    let (dir, documents) = (tempfile::tempdir().unwrap(), documents(3));
    let source = MemorySource::of(&documents);
    let mut corpus = open(dir.path(), &source).await;
    let full = Path::new("/dev/full");

    // The shard does not fit.
    let shards = dir.path().join(".longhand/shards");
    symlink(full, shards.join("shard-000001.jsonl.tmp")).unwrap();
    let error = corpus.flush(&source).await.unwrap_err();
    assert!(
        matches!(&error, CorpusError::File(FileError::Full { path }) if path.ends_with("shard-000001.jsonl")),
        "{error}"
    );
    assert_eq!(fs::read_dir(&shards).unwrap().count(), 0);

    // The shard fits, its line in the manifest does not.
    let manifest = dir.path().join(".longhand/manifest.jsonl");
    symlink(full, &manifest).unwrap();
    let error = corpus.flush(&source).await.unwrap_err();
    assert!(matches!(&error, CorpusError::File(FileError::Full { path }) if *path == manifest), "{error}");
    assert!(error.to_string().contains("rerun the same command"), "{error}");
    assert_eq!((corpus.len(), source.unmarked()), (0, 3));

    fs::remove_file(&manifest).unwrap();
    assert_eq!(corpus.flush(&source).await.unwrap().written, 3);
    restart_and_check(dir.path(), &source, &documents).await;
}

#[tokio::test]
async fn an_export_that_cannot_be_written_leaves_the_old_one() {
    let (dir, mut documents) = (tempfile::tempdir().unwrap(), documents(2));
    let source = MemorySource::of(&documents);
    let mut corpus = open(dir.path(), &source).await;
    corpus.export(&source).await.unwrap();
    let old = exported(dir.path());

    documents.push(document(9, Language::En, 2));
    source.put(&documents[2]);
    let into = tempfile::tempdir().unwrap();
    // The target cannot be written: its state folder cannot be created.
    fs::write(into.path().join(".longhand"), "").unwrap();
    corpus.export_to(&source, into.path(), &Default::default()).await.unwrap_err();
    assert_eq!(exported(dir.path()), old);
    restart_and_check(dir.path(), &source, &documents).await;
}

#[tokio::test]
async fn a_crash_during_an_export_leaves_the_old_export_or_the_new_one() {
    // Before the commit point, and after each rename that follows it.
    for renames in 0..=9 {
        let (dir, mut documents) = (tempfile::tempdir().unwrap(), documents(2));
        let source = MemorySource::of(&documents);
        let mut corpus = open(dir.path(), &source).await;
        corpus.export(&source).await.unwrap();
        let old = once(&documents);
        documents.push(document(9, Language::En, 2));
        source.put(&documents[2]);
        corpus.flush(&source).await.unwrap();
        corpus.build(&source, dir.path(), &Default::default()).await.unwrap();
        drop(corpus);
        if renames == 0 {
            let corpus = open(dir.path(), &source).await;
            assert_eq!((corpus.len(), exported(dir.path())), (3, old));
            continue;
        }
        replace_export::stage(dir.path()).unwrap();
        let ready = dir.path().join(".longhand/export.ready");
        let mut steps: Vec<(std::path::PathBuf, std::path::PathBuf)> =
            vec![(dir.path().join("data"), dir.path().join(".longhand/export.old"))];
        let mut names: Vec<_> = fs::read_dir(&ready).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_by_key(|name| name != "data");
        steps.extend(names.iter().map(|name| (ready.join(name), dir.path().join(name))));
        assert_eq!(steps.len(), 8);
        for (from, to) in steps.iter().take(renames - 1) {
            fs::rename(from, to).unwrap();
        }
        let corpus = open(dir.path(), &source).await;
        assert_eq!((corpus.len(), exported(dir.path())), (3, once(&documents)), "after {renames} renames");
        assert!(fs::read_to_string(dir.path().join("stats.json")).unwrap().contains("\"accepted\": 3"));
        assert!(!ready.exists() && !dir.path().join(".longhand/export.old").exists());
    }
}

#[tokio::test]
async fn a_requeued_document_is_exported_with_its_last_text_only() {
    let (dir, mut documents) = (tempfile::tempdir().unwrap(), documents(3));
    let source = MemorySource::of(&documents);
    let mut corpus = open(dir.path(), &source).await;
    corpus.export(&source).await.unwrap();

    let Progress::Finished { text, .. } = &mut documents[1].progress else { unreachable!() };
    *text = "Rewritten.".into();
    documents[1].round = 1;
    source.put(&documents[1]);
    let mut corpus = open(dir.path(), &source).await;
    corpus.export(&source).await.unwrap();
    assert_eq!(exported(dir.path()), once(&documents));
    let lines = fs::read_to_string(dir.path().join("data/train-00000-of-00001.jsonl")).unwrap();
    assert!(lines.lines().nth(1).unwrap().contains("Rewritten."));
}

#[tokio::test]
async fn damage_is_reported_with_a_remedy_that_works() {
    let (dir, documents) = (tempfile::tempdir().unwrap(), documents(70));
    let source = MemorySource::of(&documents);
    let mut corpus = open(dir.path(), &source).await;
    corpus.flush(&source).await.unwrap();
    let state = dir.path().join(".longhand");
    let (manifest, shard) = (state.join("manifest.jsonl"), state.join("shards/shard-000002.jsonl"));

    let good = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, good.replacen("\"file\"", "file", 1)).unwrap();
    let error = Corpus::open(dir.path(), &run_id(), &source).await.unwrap_err();
    assert!(matches!(&error, CorpusError::Damaged { file, line: 1, .. } if *file == manifest), "{error}");
    fs::write(&manifest, good).unwrap();

    let text = fs::read_to_string(&shard).unwrap();
    fs::write(&shard, text.replacen("ships", "shops", 1)).unwrap();
    let error = open(dir.path(), &source).await.export(&source).await.unwrap_err();
    assert!(matches!(&error, CorpusError::Damaged { file, .. } if *file == shard), "{error}");
    fs::remove_file(&shard).unwrap();
    let error = Corpus::open(dir.path(), &run_id(), &source).await.unwrap_err();
    assert!(error.to_string().contains("delete .longhand/manifest.jsonl and .longhand/shards"), "{error}");

    fs::remove_file(&manifest).unwrap();
    fs::remove_dir_all(state.join("shards")).unwrap();
    restart_and_check(dir.path(), &source, &documents).await;
}

#[tokio::test]
async fn files_of_the_user_in_the_data_folder_are_not_deleted() {
    let (dir, documents) = (tempfile::tempdir().unwrap(), documents(1));
    let source = MemorySource::of(&documents);
    let mut corpus = open(dir.path(), &source).await;
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/thesis.txt"), "ten years of work").unwrap();
    let error = corpus.export(&source).await.unwrap_err();
    assert!(matches!(error, CorpusError::UnexpectedFile { .. }));
    assert!(dir.path().join("data/thesis.txt").exists());
}

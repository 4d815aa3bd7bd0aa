//! Stored texts under another recipe's filters.

use std::fs;

use super::super::{Corpus, CorpusFolder, Options, Refiltered};
use super::memory_source::MemorySource;
use super::{document, run_id};
use crate::domain::document::{Document, Progress, Verdict};
use crate::domain::language::Language;
use crate::domain::plan::Step;
use crate::domain::recipe::Recipe;
use crate::store::{Filter, Source, SqliteStore};
use crate::text::filter::{self, TOO_SHORT};

/// All rules off but one.
fn at_least(words: u32) -> Recipe {
    let mut recipe = Recipe::default();
    filter::all().for_each(|rule| recipe.filters.set(rule, rule.off));
    recipe.filters.set(&TOO_SHORT, words);
    recipe
}

fn reject(document: &mut Document, name: &str) {
    let Progress::Finished { verdict, .. } = &mut document.progress else { unreachable!() };
    *verdict = Verdict::Rejected { rule: name.into(), value: 1.0, threshold: 2.0, detail: String::new() };
}

/// Texts of 12, 24 and 36 words: two accepted, two rejected, and one that ended before its plan did.
fn documents() -> Vec<Document> {
    let mut documents: Vec<Document> =
        [1, 3, 3, 2, 2].iter().zip(0..).map(|(sections, n)| document(n, Language::En, *sections)).collect();
    reject(&mut documents[2], "refusal");
    reject(&mut documents[3], "score_length");
    reject(&mut documents[4], "truncated");
    let Progress::Finished { plan, .. } = &mut documents[4].progress else { unreachable!() };
    plan.steps.push(Step { main_point: "never written".into(), words: 10 });
    documents
}

fn moved(judged: &Refiltered<'_>) -> Vec<(String, u64, u64)> {
    judged.rules.iter().map(|rule| (rule.rule.clone(), rule.newly_accepted, rule.newly_rejected)).collect()
}

#[tokio::test]
async fn documents_move_both_ways_and_the_corpus_holds_what_is_accepted_now() {
    let source = MemorySource::of(&documents());
    let judged = Refiltered::judge(&source, &run_id(), &at_least(20)).await.unwrap();
    assert_eq!((judged.documents, judged.accepted_before, judged.accepted_now), (5, 2, 3));
    let of = |rule: &str, accepted, rejected| (rule.to_owned(), accepted, rejected);
    let want = [of("truncated", 0, 0), of("refusal", 1, 0), of("too_short", 0, 1), of("score_length", 1, 0)];
    assert_eq!(moved(&judged), want, "a text without its end stays rejected");
    assert_eq!((judged.rules[2].threshold_before, judged.rules[2].threshold_now), (Some(100.0), Some(20.0)));

    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut corpus = Corpus::open(dir.path(), &run_id(), &judged).await.unwrap();
        let stats = corpus.export_to(&judged, dir.path(), &Options::default()).await.unwrap();
        assert_eq!((stats.documents.accepted, stats.documents.rejected), (3, 2));
        assert_eq!((stats.rejected["too_short"], stats.rejected["truncated"]), (1, 1));
        assert_eq!(corpus.entries().len(), 1, "one shard, not one for each document");
    }
    let recipe = fs::read_to_string(dir.path().join("recipe.toml")).unwrap();
    assert!(recipe.contains("min_words = 20"), "{recipe}");
    // What was read is as it was.
    let page = source.list(&run_id(), &Filter::default(), None, 9).await.unwrap();
    assert_eq!(page.records.iter().filter(|record| record.reason == "refusal").count(), 1);
}

#[tokio::test]
async fn a_folder_without_its_store_is_judged_from_its_files() {
    let (source, dir) = (MemorySource::of(&documents()), tempfile::tempdir().unwrap());
    let mut corpus = Corpus::open(dir.path(), &run_id(), &source).await.unwrap();
    corpus.export_to(&source, dir.path(), &Options::default()).await.unwrap();
    let store = SqliteStore::in_memory(|| 1).unwrap();
    CorpusFolder::open(dir.path()).unwrap().load(&store).await.unwrap();

    // All that a text is made of comes back.
    let page = store.list(&run_id(), &Filter::default(), None, 9).await.unwrap();
    for want in documents() {
        let record = page.records.iter().find(|record| record.id == want.id).unwrap();
        let read = record.document().unwrap();
        assert_eq!(read.progress, want.progress);
        assert_eq!(read.instruction.messages, want.instruction.messages);
        assert_eq!(read.instruction.metadata, want.instruction.metadata);
        assert_eq!((read.seed, read.model), (want.seed, want.model));
    }
    let judged = Refiltered::judge(&store, &run_id(), &at_least(30)).await.unwrap();
    assert_eq!((judged.accepted_before, judged.accepted_now), (2, 2));
    let of = |rule: &str, accepted, rejected| (rule.to_owned(), accepted, rejected);
    let want = [of("truncated", 0, 0), of("refusal", 1, 0), of("too_short", 0, 1), of("score_length", 0, 0)];
    assert_eq!(moved(&judged), want);
}

#[tokio::test]
async fn the_judges_least_score_counts_and_a_text_without_votes_does_not_reach_it() {
    let source = MemorySource::of(&documents()[..2]);
    let mut recipe = at_least(1);
    recipe.judge.min = 60.0;
    let judged = Refiltered::judge(&source, &run_id(), &recipe).await.unwrap();
    assert_eq!((judged.accepted_before, judged.accepted_now), (2, 0));
    assert_eq!(moved(&judged), [("score_quality".to_owned(), 0, 2)]);
}

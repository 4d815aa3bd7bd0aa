//! A kind of task is known wherever a task is shown, counted or written.

use std::collections::HashSet;

use super::*;

#[test]
fn every_kind_is_written_by_some_document() {
    let mut recipe = Recipe { filters: lenient(), ..plain() };
    (recipe.judge.votes, recipe.rolling.max_words, recipe.rolling.keep_words) = (1, 40, 10);
    let mut document = document();
    let mut kinds = HashSet::new();
    while document.ended().is_none() {
        let (kind, index) = document.current();
        let task = document.next_task(&recipe).unwrap().unwrap();
        assert_eq!((task.kind, task.section), (kind, index));
        assert_eq!(task.sampling, *recipe.sampling(kind));
        kinds.insert(kind);
        let text = match kind {
            TaskKind::Plan => plan_text(3),
            TaskKind::Section | TaskKind::Summary => prose(task.seed),
            TaskKind::Judge => verdict(task.seed),
        };
        assert!(!matches!(document.apply(&recipe, good(&text)), Transition::Retry { .. }));
    }
    assert_eq!(kinds.len(), TaskKind::ALL.len(), "{kinds:?}");
}

/// The dashboard names a task by the label that is stored with its attempt.
#[test]
fn every_kind_has_its_title_on_the_dashboard() {
    let script = include_str!("../../http/assets/document.js");
    let table = script.lines().find(|line| line.starts_with("const TASKS = ")).expect("the table of titles");
    for kind in TaskKind::ALL {
        let (_, row) = table.split_once(&format!(" {}: ", kind.as_str())).unwrap_or_else(|| panic!("no {kind:?}"));
        let (_, title) = row.split_once("=> ").unwrap();
        assert!(title[1..].starts_with(kind.title()), "{kind:?}: {title}");
    }
}

//! Documents longer than the model's window.

use super::*;

/// Sections have 30 words: two are shown, and summaries leave at least one.
fn recipe() -> Recipe {
    let mut recipe = Recipe { filters: lenient(), ..plain() };
    (recipe.rolling.max_words, recipe.rolling.keep_words, recipe.rolling.summary_words) = (70, 25, 40);
    recipe
}

fn content(document: &Document, recipe: &Recipe) -> (TaskKind, String) {
    let task = document.next_task(recipe).unwrap().unwrap();
    (task.kind, task.messages[0].content.clone())
}

/// Writes what is asked for until `sections` are there and no summary is due; returns the kinds of the tasks.
fn write(document: &mut Document, recipe: &Recipe, sections: usize) -> Vec<TaskKind> {
    let mut kinds = Vec::new();
    loop {
        let (kind, _) = document.current();
        if document.sections().len() == sections && kind == TaskKind::Section {
            return kinds;
        }
        let text = match kind {
            TaskKind::Summary => format!("Summary {}.", document.summaries.len()),
            TaskKind::Plan | TaskKind::Section | TaskKind::Judge => prose(document.sections().len() as u64),
        };
        kinds.push(kind);
        if document.apply(recipe, good(&text)) != Transition::NextTask {
            return kinds;
        }
    }
}

#[test]
fn a_summary_stands_for_what_a_prompt_does_not_show() {
    let recipe = recipe();
    let mut document = planned(8);
    let kinds = write(&mut document, &recipe, 3);
    assert_eq!(kinds, [TaskKind::Section, TaskKind::Section, TaskKind::Section, TaskKind::Summary]);
    assert_eq!(document.summaries[0].sections, 2);
    let (kind, prompt) = content(&document, &recipe);
    assert_eq!(kind, TaskKind::Section);
    assert!(prompt.contains("Summary 0.") && prompt.contains(&prose(2)));
    assert!(!prompt.contains(&prose(0)) && !prompt.contains(&prose(1)));
    assert!(prompt.contains("part 4 of 8"));

    write(&mut document, &recipe, 4);
    assert!(
        content(&document, &recipe).1.starts_with(&prompt[..prompt.find(&prose(2)).unwrap()]),
        "the prefix is shared"
    );
    assert_eq!(document.apply(&recipe, good(&prose(4))), Transition::NextTask);
    let (kind, prompt) = content(&document, &recipe);
    assert_eq!(kind, TaskKind::Summary);
    assert!(prompt.contains("Summary 0.") && prompt.contains(&prose(2)) && prompt.contains(&prose(3)));
    assert!(!prompt.contains(&prose(4)), "the last section stays as it is");

    write(&mut document, &recipe, 8);
    assert!(document.ended().is_some());
    assert_eq!(document.sections().len(), 8);
    assert_eq!(document.summaries.iter().map(|summary| summary.sections).collect::<Vec<_>>(), [2, 4, 6]);
}

#[test]
fn without_the_option_everything_is_shown_and_one_long_section_is_never_summarised_away() {
    let mut off = recipe();
    off.rolling.max_words = 0;
    let mut document = planned(6);
    assert_eq!(write(&mut document, &off, 5), [TaskKind::Section; 5]);
    assert!(content(&document, &off).1.contains(&prose(0)));
    let mut tight = recipe();
    (tight.rolling.max_words, tight.rolling.keep_words) = (10, 5);
    let mut document = planned(3);
    let kinds = write(&mut document, &tight, 2);
    assert_eq!(kinds, [TaskKind::Section, TaskKind::Section, TaskKind::Summary]);
    assert!(content(&document, &tight).1.contains(&prose(1)), "there must be something to go on from");
}

#[test]
fn a_document_taken_up_again_has_the_summaries_of_what_it_keeps() {
    let recipe = recipe();
    let mut document = planned(8);
    write(&mut document, &recipe, 8);
    let mut from_four = document.clone();
    assert_eq!(from_four.requeue(&recipe, Some(4)), Ok(Transition::NextTask));
    assert_eq!(from_four.current(), (TaskKind::Section, 4));
    assert_eq!(from_four.summaries.len(), 2);
    let mut one = document.clone();
    assert_eq!(one.rewrite(3), Ok(Transition::NextTask));
    assert_eq!(one.summaries.len(), 1);
    assert!(matches!(one.apply(&recipe, good(&prose(77))), Transition::Ended { .. }));
    assert_eq!(one.sections().len(), 8);
    assert_eq!(document.requeue(&recipe, None), Ok(Transition::NextTask));
    assert!(document.summaries.is_empty(), "another plan is another text");
    // Summaries that are missing are made up for, a window at a time.
    let mut bare = from_four.clone();
    bare.progress = Progress::Cancelled { plan: bare.plan().cloned(), sections: bare.sections().to_vec() };
    bare.summaries.clear();
    assert_eq!(bare.requeue(&recipe, None), Ok(Transition::NextTask));
    assert_eq!(write(&mut bare, &recipe, 4), [TaskKind::Summary]);
    assert_eq!(bare.summaries[0].sections, 2);
}

#[test]
fn a_summary_that_is_none_is_tried_again_and_one_that_was_cut_loses_its_last_sentence() {
    let recipe = recipe();
    let mut document = planned(8);
    for step in 0..3 {
        assert_eq!(document.apply(&recipe, good(&prose(step))), Transition::NextTask);
    }
    for bad in [good("  "), written("so so so", FinishReason::Repetition)] {
        let Transition::Retry { failure, .. } = document.apply(&recipe, bad) else { panic!() };
        assert_eq!(failure.class, "bad_summary");
    }
    let mut failed = document.clone();
    let ended = failed.apply(&recipe, good(""));
    assert_eq!(ended, Transition::Ended { state: State::Failed, reason: "bad_summary".into() });
    assert_eq!(failed.requeue(&recipe, None), Ok(Transition::NextTask));
    assert_eq!(failed.current(), (TaskKind::Summary, 0), "it goes on where it stood");
    assert_eq!(document.apply(&recipe, written("One. Two. Thr", FinishReason::Length)), Transition::NextTask);
    assert_eq!(document.summaries[0].text, "One. Two.");
}

/// 100,000 words through a window of 8,192 tokens: no prompt may grow with the document.
#[test]
fn no_prompt_of_a_long_document_outgrows_a_small_window() {
    let mut recipe = Recipe { filters: lenient(), ..plain() };
    recipe.filters = recipe.filters.with("max_tokens", 10_000_000);
    let rolling = &mut recipe.rolling;
    (rolling.max_words, rolling.keep_words, rolling.summary_words, rolling.plan_steps) = (2_000, 700, 200, 8);
    let plan = Plan { steps: (0..200).map(|at| Step { words: 500, ..plan_of(200).steps[at].clone() }).collect() };
    let mut document = document();
    document.progress = Progress::Writing { plan, sections: Vec::new(), tail_sections: Vec::new() };
    let (mut largest, mut summaries) = (0, 0);
    while document.ended().is_none() {
        let task = document.next_task(&recipe).unwrap().unwrap();
        let words = if task.kind == TaskKind::Summary { 200 } else { 500 };
        summaries += usize::from(task.kind == TaskKind::Summary);
        largest = largest.max(crate::text::shingles::tokens(&task.messages[0].content));
        let text: Vec<String> = (0..words).map(|at| letters(task.seed.wrapping_add(at))).collect();
        let applied = document.apply(&recipe, good(&format!("{}.", text.join(" "))));
        assert!(!matches!(applied, Transition::Retry { .. }), "{applied:?}");
    }
    let words: u32 = document.sections().iter().map(|section| section.words).sum();
    assert_eq!((document.sections().len(), words), (200, 100_000));
    assert!((50..=100).contains(&summaries), "one for some sections, not for each: {summaries}");
    // The words of this test have seven letters and a space: two tokens each.
    assert!(largest < 8_192 - 1_000, "a prompt of {largest} tokens");
}

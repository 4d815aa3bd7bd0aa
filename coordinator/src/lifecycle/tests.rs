//! The state machine: single stories first, then random ones against a small model of leases.

mod drawn;
mod gate;
mod judging;
mod kinds;
mod random;
mod rolling;

use longhand_proto::task::{
    Constraint, Failure, FinishReason, Message, ModelInfo, Output, Task, TaskKind, Timings, Usage,
};
use longhand_proto::{RunId, WorkerId};

use super::{Outcome, Transition};
use crate::domain::document::*;
use crate::domain::instruction::{BadRow, Context, Instruction};
use crate::domain::language::Language;
use crate::domain::plan::{self, Plan, Step};
use crate::domain::recipe::Recipe;
use crate::domain::rule::Filters;
use crate::domain::state::State;
use crate::text::filter;

/// The built-in recipe with one message for each section, length control, and rules that are asked at the end.
fn plain() -> Recipe {
    let mut recipe = Recipe::builtin();
    recipe.keep_first_version();
    recipe.section.length_control = true;
    recipe
}

fn run() -> RunId {
    "demo".parse().unwrap()
}

fn instruction(required_words: Option<u32>) -> Instruction {
    Instruction {
        id: Some("row-1".into()),
        messages: vec![Message { role: "user".into(), content: "Write about harbours.".into() }],
        language: Language::En,
        required_words,
        context: Vec::new(),
        metadata: serde_json::Map::new(),
        line: 1,
    }
}

fn document() -> Document {
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    Document::new(&run(), instruction(None), 0, 42, traceparent)
}

fn plan_of(steps: usize) -> Plan {
    let step = |index| Step { main_point: format!("what happens in scene {index}"), words: 200 + index as u32 };
    Plan { steps: (0..steps).map(step).collect() }
}

fn plan_text(steps: usize) -> String {
    plan::render(&plan_of(steps), Language::En)
}

/// A text that no other seed gives.
fn prose(seed: u64) -> String {
    let words: Vec<String> = (0..30).map(|n| letters(seed.wrapping_mul(31).wrapping_add(n))).collect();
    format!("{}.", words.join(" "))
}

fn letters(mut number: u64) -> String {
    let mut word = String::new();
    number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..7 {
        word.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    word
}

/// A verdict that the seed decides.
fn verdict(seed: u64) -> String {
    let marks = crate::domain::judge::DIMENSIONS.iter().enumerate();
    let marks = marks.map(|(at, name)| format!("\"{name}\": {}", 1 + (seed >> (8 * at)) % 5));
    format!("{{{}}}", marks.collect::<Vec<_>>().join(", "))
}

fn written(text: &str, finish_reason: FinishReason) -> Outcome {
    let usage = Usage { prompt: 10, generated: 5, ..Usage::default() };
    let output = Output { text: text.into(), finish_reason, usage, timings: Timings::default() };
    let model = ModelInfo { name: "tiny".into(), ..ModelInfo::default() };
    Outcome::Written { output, worker: WorkerId::try_from("worker-1".to_owned()).unwrap(), model }
}

fn good(text: &str) -> Outcome {
    written(text, FinishReason::Stop)
}

fn failure(class: &str, permanent: bool) -> Outcome {
    Outcome::Error(Failure { class: class.into(), message: "what went wrong".into(), permanent })
}

fn task(document: &Document) -> Task {
    document.next_task(&plain()).unwrap().unwrap()
}

fn prompt(document: &Document) -> String {
    let task = task(document);
    assert_eq!(task.messages.len(), 1);
    task.messages[0].content.clone()
}

/// A document that writes a plan of this many steps and has none of them yet.
fn planned(steps: usize) -> Document {
    let mut document = document();
    assert_eq!(document.apply(&plain(), good(&plan_text(steps))), Transition::NextTask);
    document
}

#[test]
fn a_document_goes_from_plan_through_its_sections_to_a_verdict() {
    let recipe = plain();
    let mut document = document();
    assert_eq!((task(&document).kind, task(&document).section), (TaskKind::Plan, 0));
    assert!(matches!(task(&document).constraint, Some(Constraint::Lark(_))));
    assert_eq!(document.apply(&recipe, good(&plan_text(3))), Transition::NextTask);
    for step in 0..3 {
        let task = task(&document);
        assert_eq!((task.kind, task.section), (TaskKind::Section, step));
        let length = task.length.unwrap();
        assert_eq!(length.target_words, 200 + step);
        assert_eq!(task.max_tokens, (200 + step) * 4);
        assert_eq!(task.traceparent, document.traceparent);
        let applied = document.apply(&recipe, good(&prose(u64::from(step))));
        assert_eq!(applied == Transition::NextTask, step < 2, "{applied:?}");
    }
    assert_eq!(document.next_task(&recipe).unwrap(), None);
    let Progress::Finished { sections, text, .. } = &document.progress else { panic!("{document:?}") };
    assert_eq!(*text, format!("{}\n\n{}\n\n{}", prose(0), prose(1), prose(2)));
    assert_eq!(sections[2].trace_id, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((sections[2].words, sections[2].target_words), (30, 202));
    assert_eq!((document.usage.prompt, document.usage.generated), (40, 20));
    // Thirty words a section are too few for the builtin filters: the reason is the rule that fired.
    let (state, reason) = document.ended().unwrap();
    assert_eq!(state, State::Rejected);
    assert!(!reason.is_empty());
    let recipe = Recipe { filters: lenient(), ..recipe };
    let mut document = planned(1);
    let applied = document.apply(&recipe, good(&prose(7)));
    assert_eq!(applied, Transition::Ended { state: State::Accepted, reason: String::new() });
}

/// Filters that take all texts of [`prose`].
fn lenient() -> Filters {
    let off = ["min_words", "min_score_length", "refusal", "max_repetition_within", "max_repetition_between"];
    let more = ["leftover_identifiers", "max_section_error", "max_unfinished", "min_plan_coverage"];
    let mut filters = Filters::default();
    for rule in filter::all().filter(|rule| off.contains(&rule.key) || more.contains(&rule.key)) {
        filters.set(rule, rule.off);
    }
    filters
}

#[test]
fn each_prompt_begins_with_the_one_before_up_to_the_end_of_its_text() {
    for language in [Language::En, Language::Zh] {
        let mut document = planned(4);
        document.instruction.language = language;
        document.instruction.context = vec![Context { id: "a".into(), text: "A chart of the bay.".into() }];
        let mut before: Option<(String, String)> = None;
        for step in 0..4 {
            let now = prompt(&document);
            let words = document.plan().unwrap().steps[step].words;
            assert!(now.contains("A chart of the bay.") && now.contains("Write about harbours."));
            let (step_at, last_text) = (now.rfind(&words.to_string()).unwrap(), assemble(document.sections()));
            assert!(now.find(&last_text).unwrap() + last_text.len() < step_at, "the step stands last");
            if let Some((before, text)) = before {
                let shared = if text.is_empty() {
                    // Up to where the text begins.
                    now.find(&last_text).unwrap()
                } else {
                    before.find(&text).unwrap() + text.len()
                };
                assert_eq!(now[..shared], before[..shared], "the prefix must not change");
            }
            before = Some((now, last_text));
            if let Transition::Retry { .. } = document.apply(&plain(), good(&prose(step as u64))) {
                panic!("a good section was refused");
            }
        }
    }
}

#[test]
fn a_lost_lease_resumes_with_the_same_task_and_an_error_changes_the_seed() {
    let recipe = plain();
    let mut document = planned(2);
    let first = task(&document);
    let revived: Document = serde_json::from_str(&serde_json::to_string(&document).unwrap()).unwrap();
    assert_eq!(task(&revived), first, "the stored document gives the same task on any machine");
    let applied = document.apply(&recipe, failure("engine", false));
    assert!(matches!(applied, Transition::Retry { errors: 1, .. }));
    let second = task(&document);
    assert_ne!(second.seed, first.seed);
    assert_eq!((second.attempt, &second.messages), (2, &first.messages));
    assert_eq!(document.apply(&recipe, good(&prose(1))), Transition::NextTask);
    assert_eq!(document.errors, 0, "a new task begins without errors");
    assert_eq!((document.sections()[0].seed, document.sections()[0].attempt), (second.seed, 2));
    let seeds = [first.seed, second.seed, task(&document).seed, task(&self::document()).seed];
    assert!((1..4).all(|n| !seeds[..n].contains(&seeds[n])), "plan, sections and tries each have their own: {seeds:?}");
}

#[test]
fn ids_and_seeds_follow_run_row_and_candidate() {
    let new = |candidate, seed| Document::new(&run(), instruction(None), candidate, seed, String::new());
    assert_eq!(new(0, 1), new(0, 1));
    assert_ne!(new(0, 1).id, new(1, 1).id);
    assert_ne!(new(0, 1).seed, new(1, 1).seed);
    assert_ne!(new(0, 1).seed, new(0, 2).seed);
    let mut unnamed = instruction(None);
    unnamed.id = None;
    assert_eq!(unnamed.identity(), "Write about harbours.");
}

#[test]
fn a_bad_plan_is_repaired_once_with_the_error_named() {
    let recipe = plain();
    let mut document = document();
    let applied = document.apply(&recipe, good("Sure! Here is a plan."));
    let Transition::Retry { errors: 1, failure } = applied else { panic!("{applied:?}") };
    assert_eq!(failure.class, "bad_plan");
    assert!(prompt(&document).contains("line 1 is \"Sure! Here is a plan.\""));
    let mut second = document.clone();
    assert_eq!(second.apply(&recipe, good(&plan_text(2))), Transition::NextTask);
    let ended = document.apply(&recipe, written(&plan_text(2), FinishReason::Length));
    assert_eq!(
        ended,
        Transition::Ended { state: State::Failed, reason: "bad_plan".into() },
        "a plan that was cut is no plan"
    );
}

#[test]
fn a_plan_that_falls_into_a_loop_is_tried_as_often_as_a_section() {
    let mut recipe = plain();
    recipe.plan.tries = recipe.retry.max_errors;
    let mut document = document();
    for errors in 1..recipe.retry.max_errors {
        let applied = document.apply(&recipe, written("1. one\n1. one", FinishReason::Repetition));
        let Transition::Retry { errors: counted, .. } = applied else { panic!("{applied:?}") };
        assert_eq!(counted, errors);
        assert!(prompt(&document).contains("fell into a loop"));
    }
    let mut again = document.clone();
    assert_eq!(again.apply(&recipe, good(&plan_text(2))), Transition::NextTask);
    let ended = document.apply(&recipe, written("1. one\n1. one", FinishReason::Repetition));
    assert_eq!(ended, Transition::Ended { state: State::Failed, reason: "bad_plan".into() });
}

#[test]
fn budgets_are_scaled_to_the_length_and_one_out_of_reach_fails_at_once() {
    let recipe = plain();
    let mut document = Document::new(&run(), instruction(Some(2000)), 0, 1, String::new());
    assert!(prompt(&document).contains("about 2000 words. Write 10 to 14 lines."));
    assert_eq!(document.apply(&recipe, good(&plan_text(5))), Transition::NextTask);
    assert_eq!(document.plan().unwrap().words(), 2100);
    let mut document = Document::new(&run(), instruction(Some(90_000)), 0, 1, String::new());
    let ended = document.apply(&recipe, good(&plan_text(5)));
    assert_eq!(ended, Transition::Ended { state: State::Failed, reason: "length_unreachable".into() });
}

#[test]
fn an_empty_or_looping_section_is_tried_again_and_then_fails_with_what_was_written() {
    let recipe = plain();
    for (bad, class) in [(good(" \n "), "empty_section"), (written("la la la", FinishReason::Repetition), "repetition")]
    {
        let mut document = planned(3);
        assert_eq!(document.apply(&recipe, good(&prose(1))), Transition::NextTask);
        for errors in 1..recipe.retry.max_errors {
            let applied = document.apply(&recipe, bad.clone());
            assert!(
                matches!(&applied, Transition::Retry { errors: n, failure } if *n == errors && failure.class == class)
            );
        }
        let ended = document.apply(&recipe, bad);
        assert_eq!(ended, Transition::Ended { state: State::Failed, reason: class.into() });
        let Progress::Failed { message, plan, sections, .. } = &document.progress else { panic!() };
        assert!(message.starts_with("section 2 of 3: "), "{message}");
        assert_eq!((plan.as_ref().unwrap().steps.len(), sections.len()), (3, 1));
    }
}

#[test]
fn a_section_cut_on_every_try_is_kept_only_as_far_as_the_recipe_allows() {
    let cut = || written(&prose(5), FinishReason::Length);
    for allowed in [0, 1] {
        let mut recipe = plain();
        recipe.filters.set(&filter::TRUNCATED, allowed);
        let mut document = planned(3);
        for _ in 1..recipe.retry.max_errors {
            assert!(matches!(document.apply(&recipe, cut()), Transition::Retry { .. }));
        }
        let last = document.apply(&recipe, cut());
        assert_eq!(document.sections()[0].finish_reason, FinishReason::Length);
        if allowed == 1 {
            assert_eq!(last, Transition::NextTask);
            continue;
        }
        assert_eq!(last, Transition::Ended { state: State::Rejected, reason: "truncated".into() });
        let Progress::Finished { verdict: Verdict::Rejected { value, threshold, .. }, .. } = document.progress else {
            panic!()
        };
        assert_eq!((value, threshold), (1.0, 0.0));
    }
}

#[test]
fn a_permanent_error_ends_the_document_at_once() {
    let mut document = planned(2);
    let ended = document.apply(&plain(), failure("context_too_small", true));
    assert_eq!(ended, Transition::Ended { state: State::Failed, reason: "context_too_small".into() });
    let before = document.clone();
    let again = document.apply(&plain(), good(&prose(1)));
    assert_eq!(again, ended, "an ended document stays as it is");
    assert_eq!(document, before);
}

#[test]
fn a_row_that_could_not_be_read_is_a_failed_document_with_a_stable_id() {
    let row = BadRow {
        file: "rows.jsonl".into(),
        line: 7,
        key: "prompt".into(),
        problem: "is empty".into(),
        remedy: "write the instruction there".into(),
        content_hash: "ab".into(),
    };
    let document = Document::bad_row(&run(), &row);
    assert_eq!(document, Document::bad_row(&run(), &row));
    assert_ne!(document.id, Document::bad_row(&run(), &BadRow { content_hash: "cd".into(), ..row }).id);
    assert_eq!(document.ended(), Some((State::Failed, BAD_ROW.into())));
    let Progress::Failed { message, .. } = &document.progress else { panic!() };
    assert_eq!(message, "rows.jsonl:7: `prompt`: is empty; write the instruction there");
    assert!(document.clone().requeue(&plain(), None).is_err(), "there is nothing to write from");
}

#[test]
fn cancel_and_requeue_keep_what_was_written() {
    let recipe = plain();
    let mut document = planned(3);
    assert_eq!(document.apply(&recipe, good(&prose(1))), Transition::NextTask);
    let seed = task(&document).seed;
    assert!(document.requeue(&plain(), None).is_err(), "it is still being written");
    assert_eq!(document.cancel(), Ok(Transition::Ended { state: State::Cancelled, reason: String::new() }));
    assert!(document.cancel().is_err());
    assert_eq!(document.requeue(&plain(), None), Ok(Transition::NextTask));
    assert_eq!((task(&document).section, document.round), (1, 1));
    assert_ne!(task(&document).seed, seed, "another round writes another text");
    for step in 1..3 {
        let _applied = document.apply(&recipe, good(&prose(1 + step)));
    }
    assert!(document.ended().is_some());
    assert!(document.clone().requeue(&plain(), Some(3)).is_err(), "there is no fourth section");
    let mut from_two = document.clone();
    assert_eq!(from_two.requeue(&plain(), Some(2)), Ok(Transition::NextTask));
    assert_eq!((from_two.sections().len(), task(&from_two).section), (2, 2));
    assert_eq!(document.requeue(&plain(), None), Ok(Transition::NextTask));
    assert_eq!(task(&document).kind, TaskKind::Plan, "a finished document is planned anew");
}

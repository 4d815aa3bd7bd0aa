//! Texts constrained by a grammar.

use longhand_proto::task::{Constraint, FinishReason};
use longhand_worker::engine::Engine;

use crate::invariance::engine;
use crate::tasks::{read, task, write};

/// A reduced grammar of plans: numbered lines with word counts.
const PLAN: &str = r#"
start: first second?
first: "Paragraph 1 - Main Point: " POINT " - Word Count: " WORDS " words"
second: "\nParagraph 2 - Main Point: " POINT " - Word Count: " WORDS " words"
POINT: /[A-Za-z][a-z ]{8,24}[a-z]/
WORDS: /[2-9][0-9]0|1000/
"#;

fn is_plan(text: &str) -> bool {
    !text.is_empty()
        && text.split('\n').enumerate().all(|(n, line)| {
            let rest = line.strip_prefix(&format!("Paragraph {} - Main Point: ", n + 1));
            let parts = rest.and_then(|rest| rest.split_once(" - Word Count: "));
            parts.is_some_and(|(point, words)| {
                (10..=26).contains(&point.len())
                    && words
                        .strip_suffix(" words")
                        .and_then(|words| words.parse().ok())
                        .is_some_and(|words: u32| (200..=1000).contains(&words))
            })
        })
}

#[tokio::test]
async fn every_text_matches_its_grammar() {
    let engine = engine(512, 128);
    let tasks: Vec<_> = (0..24)
        .map(|n| {
            let mut task = task(n, &format!("Plan {n}."));
            (task.constraint, task.max_tokens) = (Some(Constraint::Lark(PLAN.into())), 400);
            task
        })
        .collect();
    let seen = write(&engine, &tasks).await;
    for seen in &seen {
        let output = seen.output();
        assert_eq!(output.finish_reason, FinishReason::Stop);
        assert!(is_plan(&output.text), "{:?}", output.text);
        assert_eq!(output.usage.generated as usize, seen.tokens.len());
    }
    assert!(seen.iter().any(|seen| seen.output().text.contains('\n')), "some plans have two lines");
}

#[tokio::test]
async fn forced_tokens_are_not_sampled() {
    let engine = engine(512, 128);
    let mut task = task(1, "Plan.");
    (task.constraint, task.max_tokens) = (Some(Constraint::Lark(PLAN.into())), 400);
    let tokens = read(engine.start(task, None)).await.tokens.len();
    let steps = engine.stats().steps;
    assert!(steps as usize * 3 < tokens * 2, "{steps} steps for {tokens} tokens, more than half of which are forced");
}

#[tokio::test]
async fn a_json_schema_is_followed() {
    let mut task = task(1, "Judge.");
    let schema = r#"{"type":"object","properties":{"Relevance":{"type":"integer","minimum":1,"maximum":5}},
        "required":["Relevance"],"additionalProperties":false,
        "x-guidance":{"whitespace_flexible":false}}"#;
    (task.constraint, task.max_tokens) = (Some(Constraint::JsonSchema(schema.into())), 200);
    let seen = read(engine(64, 64).start(task, None)).await;
    let value: serde_json::Value = serde_json::from_str(&seen.output().text).unwrap();
    assert!((1..=5).contains(&value["Relevance"].as_i64().unwrap()));
}

#[tokio::test]
async fn an_invalid_grammar_fails_its_task_permanently() {
    let engine = engine(64, 64);
    for bad in
        [Constraint::Lark("start: ((".into()), Constraint::JsonSchema("{".into()), Constraint::Lark(String::new())]
    {
        let mut task = task(1, "Plan.");
        task.constraint = Some(bad);
        let seen = read(engine.start(task, None)).await;
        assert_eq!((seen.failure().class.as_str(), seen.failure().permanent), ("bad_constraint", true));
    }
    assert!(read(engine.start(task(2, "Write."), None)).await.end.is_ok());
}

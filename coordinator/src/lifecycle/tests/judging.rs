//! Votes on a finished text, and texts that are written in one piece.

use super::*;
use crate::domain::judge;
use crate::domain::recipe::Method;

fn recipe(votes: u32, min: f64) -> Recipe {
    let mut recipe = Recipe { filters: lenient(), ..plain() };
    (recipe.judge.votes, recipe.judge.min) = (votes, min);
    recipe
}

fn marks(mark: u8) -> Outcome {
    let marks = judge::DIMENSIONS.map(|name| format!("\"{name}\": {mark}"));
    good(&format!("{{{}}}", marks.join(", ")))
}

fn by(outcome: Outcome, judge: &str) -> Outcome {
    let Outcome::Written { output, worker, model } = outcome else { panic!() };
    Outcome::Written { output, worker, model: ModelInfo { name: judge.into(), ..model } }
}

/// All sections are written; the first vote is due.
fn unjudged(recipe: &Recipe) -> Document {
    let mut document = planned(2);
    for step in 0..2 {
        assert_eq!(document.apply(recipe, good(&prose(step))), Transition::NextTask);
    }
    document
}

#[test]
fn each_vote_is_a_task_of_its_own_and_the_last_one_ends_the_document() {
    let recipe = recipe(3, 50.0);
    let mut document = unjudged(&recipe);
    let mut seeds = Vec::new();
    for (vote, mark) in [5, 3, 4].into_iter().enumerate() {
        let task = document.next_task(&recipe).unwrap().unwrap();
        assert_eq!((task.kind, task.section as usize), (TaskKind::Judge, vote));
        let prompt = &task.messages[0].content;
        assert!(prompt.contains("Write about harbours.") && prompt.contains(&prose(0)) && prompt.contains(&prose(1)));
        assert!(matches!(task.constraint, Some(Constraint::JsonSchema(_))));
        assert!(!seeds.contains(&task.seed), "each vote has its own");
        seeds.push(task.seed);
        let revived: Document = serde_json::from_str(&serde_json::to_string(&document).unwrap()).unwrap();
        assert_eq!(
            revived.next_task(&recipe).unwrap().unwrap(),
            task,
            "the stored document goes on with the same vote"
        );
        let applied = document.apply(&recipe, by(marks(mark), "the-judge"));
        assert_eq!(applied == Transition::NextTask, vote < 2, "{applied:?}");
    }
    assert_eq!(document.ended(), Some((State::Accepted, String::new())));
    assert_eq!(judge::score_quality(document.votes()), Some(75.0));
    assert_eq!(document.votes()[0].model, "the-judge");
    assert_eq!(document.model.as_ref().unwrap().name, "tiny", "the judge wrote nothing of the text");
    assert_eq!(document.votes().iter().map(|vote| vote.seed).collect::<Vec<_>>(), seeds);
}

#[test]
fn a_low_score_rejects_and_without_a_threshold_it_is_only_noted() {
    for (min, state) in [(50.1, State::Rejected), (50.0, State::Accepted), (0.0, State::Accepted)] {
        let recipe = recipe(2, min);
        let mut document = unjudged(&recipe);
        assert_eq!(document.apply(&recipe, marks(4)), Transition::NextTask);
        let ended = document.apply(&recipe, marks(2));
        let reason = if state == State::Rejected { "score_quality".to_owned() } else { String::new() };
        assert_eq!(ended, Transition::Ended { state, reason });
        assert_eq!(document.votes().len(), 2);
        if let Progress::Finished { verdict: Verdict::Rejected { value, threshold, detail, .. }, .. } =
            &document.progress
        {
            assert_eq!((*value, *threshold), (50.0, 50.1));
            assert!(detail.starts_with("Relevance 3.0, ") && detail.ends_with("(mean of 2 of 2 votes)"), "{detail}");
        }
    }
}

#[test]
fn an_answer_that_is_no_verdict_is_asked_for_again_and_then_counted_as_unread() {
    let recipe = recipe(2, 50.0);
    let mut document = unjudged(&recipe);
    for errors in 1..recipe.retry.max_errors {
        let applied = document.apply(&recipe, good("A fine text."));
        assert!(
            matches!(&applied, Transition::Retry { errors: n, failure } if *n == errors && failure.class == "bad_verdict")
        );
    }
    assert_eq!(document.apply(&recipe, good("A fine text.")), Transition::NextTask, "one vote less, no document less");
    assert_eq!(document.errors, 0);
    assert_eq!(judge::unread(document.votes()), 1);
    assert!(document.votes()[0].problem.starts_with("bad_verdict: the answer holds no JSON object"));
    let ended = document.apply(&recipe, marks(5));
    assert_eq!(ended, Transition::Ended { state: State::Accepted, reason: String::new() });
    assert_eq!((document.votes().len(), judge::score_quality(document.votes())), (2, Some(100.0)));
}

#[test]
fn a_document_that_no_vote_judges_fails_where_a_score_is_asked_for_and_is_judged_again_on_requeue() {
    for min in [0.0, 50.0] {
        let recipe = recipe(2, min);
        let mut document = unjudged(&recipe);
        let mut applied = Transition::NextTask;
        for _ in 0..2 * recipe.retry.max_errors {
            applied = document.apply(&recipe, good("?"));
        }
        if min == 0.0 {
            assert_eq!(applied, Transition::Ended { state: State::Accepted, reason: String::new() });
            assert_eq!((judge::unread(document.votes()), judge::score_quality(document.votes())), (2, None));
            continue;
        }
        assert_eq!(applied, Transition::Ended { state: State::Failed, reason: "unjudged".into() });
        let Progress::Failed { message, sections, .. } = &document.progress else { panic!() };
        assert!(message.contains("none of 2 votes") && message.contains("no JSON object"), "{message}");
        assert_eq!(sections.len(), 2, "what was written stays");
        assert_eq!(document.requeue(&recipe, None), Ok(Transition::NextTask));
        assert_eq!(document.current(), (TaskKind::Judge, 0), "nothing is written anew");
        assert_eq!(document.apply(&recipe, marks(4)), Transition::NextTask);
        assert!(matches!(document.apply(&recipe, marks(4)), Transition::Ended { state: State::Accepted, .. }));
    }
}

#[test]
fn a_judge_whose_window_is_too_small_is_not_asked_for_every_vote() {
    let recipe = recipe(5, 0.0);
    let mut document = unjudged(&recipe);
    let ended = document.apply(&recipe, failure("context_too_small", true));
    assert_eq!(ended, Transition::Ended { state: State::Accepted, reason: String::new() });
    let [vote] = document.votes() else { panic!("{:?}", document.votes()) };
    assert_eq!((vote.problem.as_str(), &vote.worker), ("context_too_small: what went wrong", &None));
}

#[test]
fn what_a_rule_rejects_is_not_judged() {
    let mut recipe = recipe(3, 0.0);
    recipe.filters.set(&filter::TOO_SHORT, 10_000);
    let mut document = planned(1);
    let ended = document.apply(&recipe, good(&prose(1)));
    assert_eq!(ended, Transition::Ended { state: State::Rejected, reason: "too_short".into() });
    assert!(document.votes().is_empty());
    // Unless the score of all is wanted, as for pairs of a better and a worse text; it stays rejected.
    recipe.judge.all = true;
    let mut document = planned(1);
    assert_eq!(document.apply(&recipe, good(&prose(1))), Transition::NextTask);
    for _ in 0..3 {
        assert_eq!(document.ended(), None);
        let _applied = document.apply(&recipe, marks(5));
    }
    assert_eq!(document.ended(), Some((State::Rejected, "too_short".into())));
    assert_eq!(judge::score_quality(document.votes()), Some(100.0));
}

#[test]
fn the_judge_can_be_cancelled_and_goes_on_from_the_first_vote() {
    let recipe = recipe(2, 0.0);
    let mut document = unjudged(&recipe);
    assert_eq!(document.apply(&recipe, marks(4)), Transition::NextTask);
    assert!(matches!(document.cancel(), Ok(Transition::Ended { state: State::Cancelled, .. })));
    assert_eq!(document.requeue(&recipe, None), Ok(Transition::NextTask));
    assert_eq!((document.current(), document.sections().len()), ((TaskKind::Judge, 0), 2));
}

#[test]
fn a_text_in_one_piece_is_the_answer_to_the_instruction_itself() {
    let recipe = Recipe { method: Method::Direct, ..recipe(0, 0.0) };
    let begin = || Document::begin(&run(), recipe.method, instruction(Some(2_000)), 0, 7, String::new());
    let mut document = begin();
    let task = document.next_task(&recipe).unwrap().unwrap();
    assert_eq!(
        (task.kind, task.section, task.length),
        (TaskKind::Section, 0, None),
        "the length is the model's choice"
    );
    assert_eq!(task.messages, document.instruction.messages, "no template around it");
    assert_eq!(task.max_tokens, 32_000, "four times the length asked for, at four tokens a word");
    assert!(matches!(document.apply(&recipe, good(&prose(1))), Transition::Ended { state: State::Accepted, .. }));
    assert_eq!(document.requeue(&recipe, None), Ok(Transition::NextTask));
    assert_eq!(document.current(), (TaskKind::Section, 0), "it has no plan to begin with");
    // A loop is what the model does with the request: it counts as a cut text, as far as the recipe takes those.
    for (allowed, state) in [(0, State::Rejected), (1, State::Accepted)] {
        let mut recipe = recipe.clone();
        recipe.filters.set(&filter::TRUNCATED, allowed);
        recipe.retry.max_errors = 1;
        let applied = begin().apply(&recipe, written(&prose(1), FinishReason::Repetition));
        assert!(matches!(applied, Transition::Ended { state: s, .. } if s == state), "{applied:?}");
    }
}

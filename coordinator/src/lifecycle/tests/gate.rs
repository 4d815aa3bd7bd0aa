//! The gate after each section, and what a section's budget makes of what was written before it.

use super::*;
use crate::domain::recipe::Layout;
use crate::domain::section::tests::rejection;

/// The built-in recipe, with filters that take all texts of [`prose`] but for damaged words.
fn gated() -> Recipe {
    Recipe { filters: lenient(), ..Recipe::builtin() }
}

fn bad(seed: u64) -> Outcome {
    good(&format!("{} Something went_wrong in the mill.", prose(seed)))
}

fn rejected(transition: Transition) -> Rejection {
    let Transition::SectionRejected(rejection) = transition else { panic!("{transition:?}") };
    rejection
}

#[test]
fn a_section_that_fails_a_rule_is_written_again_at_once_with_another_seed() {
    let recipe = gated();
    let mut document = planned(2);
    let first = document.next_task(&recipe).unwrap().unwrap();
    let rejection = rejected(document.apply(&recipe, bad(1)));
    assert_eq!((rejection.rule.as_str(), rejection.value, rejection.attempt), ("damaged_words", 1.0, 1));
    let second = document.next_task(&recipe).unwrap().unwrap();
    assert_eq!((second.section, second.attempt, &second.messages), (0, 2, &first.messages));
    assert_ne!(second.seed, first.seed);
    // A worker's error in between is counted anew, and changes the seed too.
    assert!(matches!(document.apply(&recipe, failure("lost", false)), Transition::Retry { errors: 1, .. }));
    let third = document.next_task(&recipe).unwrap().unwrap();
    assert_eq!(third.attempt, 3);
    assert!(![first.seed, second.seed].contains(&third.seed));
    assert_eq!(document.apply(&recipe, good(&prose(2))), Transition::NextTask);
    let section = &document.sections()[0];
    assert_eq!((section.attempt, section.rejections.len(), section.rejections[0].generated), (3, 1, 5));
    assert!(document.rejections.is_empty() && document.errors == 0);
    assert_eq!(document.usage.generated, 15, "plan, rejected and taken text");
}

#[test]
fn a_document_ends_at_the_section_that_fails_every_try() {
    let recipe = gated();
    let mut document = planned(3);
    assert_eq!(document.apply(&recipe, good(&prose(1))), Transition::NextTask);
    for seed in 2..4 {
        rejected(document.apply(&recipe, bad(seed)));
    }
    let ended = document.apply(&recipe, bad(4));
    assert_eq!(ended, Transition::Ended { state: State::Rejected, reason: "damaged_words".into() });
    let Progress::Finished { sections, text, verdict: Verdict::Rejected { detail, .. }, .. } = &document.progress
    else {
        panic!()
    };
    assert_eq!((sections.len(), sections[1].rejections.len()), (2, 3), "nothing more is spent on it");
    assert!(
        text.ends_with("went_wrong in the mill.") && detail.starts_with("section 2 of 3, each of 3 tries: "),
        "{detail}"
    );
    assert_eq!(document.requeue(&recipe, Some(1)), Ok(Transition::NextTask), "it can be taken up there");
}

#[test]
fn a_section_that_was_cut_on_its_last_try_is_not_written_again_by_the_gate() {
    let recipe = gated();
    let mut document = planned(2);
    let cut = || written(&prose(5), FinishReason::Length);
    for _ in 1..recipe.retry.max_errors {
        assert!(matches!(document.apply(&recipe, cut()), Transition::Retry { .. }));
    }
    let ended = document.apply(&recipe, cut());
    assert_eq!(ended, Transition::Ended { state: State::Rejected, reason: "truncated".into() });
}

#[test]
fn the_best_try_is_kept_where_the_recipe_says_so() {
    let mut recipe = gated();
    recipe.section.keep_best = true;
    let mut document = planned(2);
    let refusal = format!("I'm sorry, but I cannot write this. {}", prose(1));
    recipe.filters = recipe.filters.with("refusal", true);
    rejected(document.apply(&recipe, good(&refusal)));
    rejected(document.apply(&recipe, bad(2)));
    assert_eq!(document.apply(&recipe, good(&refusal)), Transition::NextTask);
    let section = &document.sections()[0];
    assert!(section.text.contains("went_wrong"), "the rule that is asked later: {}", section.text);
    assert!(section.rejections.iter().all(|rejection| rejection.draft.is_none()) && section.rejections.len() == 3);
}

#[test]
fn drafts_are_kept_where_the_recipe_says_so() {
    let mut recipe = gated();
    for keep_drafts in [false, true] {
        recipe.section.keep_drafts = keep_drafts;
        let mut document = planned(2);
        rejected(document.apply(&recipe, bad(2)));
        assert_eq!(document.apply(&recipe, good(&prose(1))), Transition::NextTask);
        let drafts = document.sections()[0].rejections.iter().filter(|rejection| rejection.text.is_some());
        assert_eq!(drafts.count(), usize::from(keep_drafts));
    }
}

#[test]
fn without_tries_the_rules_are_asked_at_the_end_only() {
    let mut recipe = gated();
    recipe.section.tries = 0;
    let mut document = planned(2);
    assert_eq!(document.apply(&recipe, bad(1)), Transition::NextTask);
    let ended = document.apply(&recipe, good(&prose(2)));
    assert_eq!(ended, Transition::Ended { state: State::Rejected, reason: "damaged_words".into() });
}

#[test]
fn a_prompt_in_turns_begins_with_the_one_before_and_its_answer() {
    let mut recipe = gated();
    recipe.section.layout = Layout::Turns;
    let mut document = planned(3);
    let mut before = document.next_task(&recipe).unwrap().unwrap().messages;
    assert_eq!(before.len(), 1);
    for step in 0..2 {
        assert_eq!(document.apply(&recipe, good(&prose(step))), Transition::NextTask);
        before.push(Message { role: "assistant".into(), content: prose(step) });
        let messages = document.next_task(&recipe).unwrap().unwrap().messages;
        assert_eq!(messages[..before.len()], before, "the keys of what was written are found again");
        let (last, roles) = (&messages[messages.len() - 1], messages.iter().map(|message| message.role.as_str()));
        assert!(last.content.contains(&format!("scene {}", step + 1)));
        assert_eq!(roles.collect::<Vec<_>>().concat(), "userassistant".repeat(step as usize + 1) + "user");
        before = messages;
    }
}

#[test]
fn a_section_before_the_last_may_not_conclude_and_a_word_of_the_instruction_may_be_written() {
    let recipe = gated();
    let mut document = planned(2);
    document.instruction.messages[0].content = "Write about the phrase \"Next part\".".into();
    let banned = document.next_task(&recipe).unwrap().unwrap().ban;
    assert!(
        banned.iter().any(|phrase| phrase == "In conclusion") && !banned.iter().any(|phrase| phrase == "Next part")
    );
    assert_eq!(document.apply(&recipe, good(&prose(1))), Transition::NextTask);
    let banned = document.next_task(&recipe).unwrap().unwrap().ban;
    assert!(!banned.is_empty() && !banned.iter().any(|phrase| phrase == "In conclusion"));
}

#[test]
fn a_text_has_the_letters_of_its_language_unless_the_instruction_has_others() {
    use longhand_proto::task::Letters;
    let letters = |text: &str, language| {
        let mut document = planned(1);
        document.instruction.messages[0].content = text.into();
        document.instruction.language = language;
        document.next_task(&gated()).unwrap().unwrap().letters
    };
    assert_eq!(letters("Write about the café at 5 °C.", Language::En), Letters::Latin);
    assert_eq!(letters("Write about the word 水.", Language::En), Letters::Any);
    assert_eq!(letters("请写GPT的历史。", Language::Zh), Letters::Han);
    let many: String =
        (b'a'..=b'z').flat_map(|a| ["x", "y"].map(|b| format!("{}{b}的历史，", char::from(a)))).collect();
    assert_eq!(letters(&many, Language::Zh), Letters::Chinese);
    assert_eq!(letters("请写一篇关于爬虫程序的文章。", Language::Zh), Letters::Chinese);
    assert_eq!(letters("请写3000字的游记。", Language::Zh), Letters::Han);
    assert_eq!(letters("请介绍カメラ。", Language::Zh), Letters::Any);
}

#[test]
fn a_draft_that_repeated_is_written_again_with_a_stronger_penalty() {
    let mut document = planned(1);
    let sampling = |document: &Document| document.next_task(&Recipe::builtin()).unwrap().unwrap().sampling;
    let first = sampling(&document);
    for (rule, factor) in [("damaged_words", 1.0), ("repetition_between", 1.5), ("repetition_within", 2.25)] {
        document.rejections.push(rejection(rule, 300, 300));
        assert!((sampling(&document).dry_multiplier - first.dry_multiplier * factor).abs() < 1e-5, "{rule}");
    }
}

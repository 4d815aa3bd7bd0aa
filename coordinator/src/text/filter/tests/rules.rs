use longhand_proto::task::FinishReason;
use proptest::prelude::*;

use super::{Owned, chinese_prose, prose, rule};
use crate::domain::document::Verdict;
use crate::domain::language::Language;
use crate::domain::plan::{Plan, Step};
use crate::domain::rule::Filters;
use crate::text::filter::{evaluate, measure_all, score_length};

#[test]
fn length_scores_as_published() {
    for (share, score) in [(0.5, 50.0), (0.8, 87.5), (0.9, 94.4), (1.0, 100.0), (1.1, 96.7), (1.25, 91.7), (1.5, 83.3)]
    {
        let written = (f64::from(2_000) * share).round() as u32;
        assert!((score_length(2_000, written) - score).abs() < 0.05, "{share}: {}", score_length(2_000, written));
    }
    assert!((score_length(1_000, 2_000) - 66.7).abs() < 0.05);
    for (required, written) in [(1_000, 0), (1_000, 333), (1_000, 4_000), (1_000, u32::MAX), (0, 5), (0, 0)] {
        assert_eq!(score_length(required, written), 0.0, "{required} {written}");
    }
}

#[test]
fn good_documents_are_accepted() {
    let english = Owned::new(Language::En, &[prose(40, 1), prose(40, 2), prose(40, 3)]);
    let chinese = Owned::new(Language::Zh, &[chinese_prose(40, 1), chinese_prose(40, 2)]);
    for document in [english, chinese] {
        let verdict = evaluate(&Filters::default(), &document.assembled());
        assert_eq!(verdict, Verdict::Accepted, "{:?}", document.all());
    }
}

#[test]
fn the_first_rule_that_fires_is_the_verdict() {
    let mut document = Owned::new(Language::En, &["I cannot assist with that."]);
    assert_eq!(rule(&evaluate(&Filters::default(), &document.assembled())), "refusal");
    document.sections[0].finish_reason = FinishReason::Length;
    let verdict = evaluate(&Filters::default(), &document.assembled());
    let Verdict::Rejected { rule, value, threshold, detail } = verdict else { panic!("accepted") };
    assert_eq!((rule.as_str(), value, threshold, detail.as_str()), ("truncated", 1.0, 0.0, "cut sections: 1 (length)"));
    let fired: Vec<_> = document.all().into_iter().filter(|measured| measured.fired).map(|m| m.rule).collect();
    assert_eq!(fired, ["truncated", "refusal", "too_short"], "a report sees all of them");
}

#[test]
fn each_threshold_is_the_last_value_that_passes() {
    let mut document = Owned::new(Language::En, &["one two three four"]);
    let fires = |document: &Owned, filters: &Filters, name: &str| {
        measure_all(filters, &document.assembled()).iter().any(|measured| measured.rule == name && measured.fired)
    };
    assert!(!fires(&document, &Filters::default().with("min_words", 4), "too_short"));
    assert!(fires(&document, &Filters::default().with("min_words", 5), "too_short"));
    assert!(!fires(&document, &Filters::default(), "score_length"), "nothing was required");
    document.instruction.required_words = Some(5);
    assert!(!fires(&document, &Filters::default().with("min_score_length", 87.5), "score_length"));
    assert!(fires(&document, &Filters::default().with("min_score_length", 87.6), "score_length"));
    document.sections[0].finish_reason = FinishReason::Repetition;
    assert!(!fires(&document, &Filters::default().with("max_truncated", 1), "truncated"));
    assert!(fires(&document, &Filters::default(), "truncated"));
    document.sections[0].finish_reason = FinishReason::Ceiling;
    assert!(!fires(&document, &Filters::default(), "truncated"));
    document.sections[0].usage.generated = 32_755;
    assert!(!fires(&document, &Filters::default(), "too_many_tokens"), "{:?}", document.measure("too_many_tokens"));
    document.sections[0].usage.generated += 1;
    assert!(fires(&document, &Filters::default(), "too_many_tokens"));
}

#[test]
fn tokens_that_an_engine_did_not_count_are_estimated() {
    let document = Owned::new(Language::Zh, &[chinese_prose(1_800, 1)]);
    let measured = document.measure("too_many_tokens");
    assert!(measured.fired && measured.value > 36_000.0, "{measured:?}");
}

#[test]
fn a_rule_that_is_switched_off_is_not_asked() {
    let off = Filters::default().with("refusal", false);
    let document = Owned::new(Language::En, &["I cannot assist with that."]);
    assert!(measure_all(&off, &document.assembled()).iter().all(|measured| measured.rule != "refusal"));
    assert_eq!(rule(&evaluate(&off, &document.assembled())), "too_short");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn judging_never_panics(texts in proptest::collection::vec(any::<String>(), 0..4), zh: bool, required: Option<u32>) {
        let mut document = Owned::new(if zh { Language::Zh } else { Language::En }, &texts);
        document.instruction.required_words = required;
        for measured in document.all() {
            prop_assert!(measured.value.is_finite(), "{measured:?}");
        }
        let accepted = evaluate(&Filters::default(), &document.assembled()) == Verdict::Accepted;
        prop_assert_eq!(accepted, document.all().iter().all(|measured| !measured.fired));
    }
}

#[test]
fn a_section_may_have_its_steps_words_or_what_was_left_for_it() {
    let error = |words, target| {
        let mut document = Owned::new(Language::En, &["word"]);
        document.plan = Plan { steps: vec![Step { main_point: "a point".into(), words: 200 }] };
        (document.sections[0].words, document.sections[0].target_words) = (words, target);
        document.measure("section_words").value
    };
    for words in [100, 150, 200] {
        assert_eq!(error(words, 100), 0.0, "{words}");
    }
    assert_eq!((error(300, 100), error(50, 100), error(600, 300)), (0.5, 0.5, 1.0));
}

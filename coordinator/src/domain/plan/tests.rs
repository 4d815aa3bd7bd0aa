//! The grammar against the engine's own matcher, the parser against what models write, and the budgets' sums.

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::ApproximateTokEnv;
use llguidance::{Matcher, ParserFactory};
use proptest::prelude::*;

use super::*;
use crate::domain::language::Language;
use crate::domain::plan::Step;
use crate::domain::recipe::PlanRules;

fn plan(words: &[u32]) -> Plan {
    let point = |index: usize| match index % 3 {
        0 => format!("How the well-known harbour of town {index} came to be built (and why)"),
        1 => format!("Ships, cranes and the people of quarter {index}: a day's work"),
        _ => format!("What the 19th-century trade in co-ops, word count: {index}, left behind"),
    };
    Plan { steps: words.iter().enumerate().map(|(i, words)| Step { main_point: point(i), words: *words }).collect() }
}

fn plan_zh(words: &[u32]) -> Plan {
    let point = |index: usize| format!("港口的第{index}次扩建以及当地居民的生活变化");
    Plan { steps: words.iter().enumerate().map(|(i, words)| Step { main_point: point(i), words: *words }).collect() }
}

/// How the grammar takes the text, byte by byte as an engine would decode it: whole, or up to where.
fn grammar_reads(grammar: &str, text: &str) -> Result<(), String> {
    let factory = ParserFactory::new_simple(&ApproximateTokEnv::single_byte_env()).unwrap();
    let mut matcher = Matcher::new(factory.create_parser(TopLevelGrammar::from_lark(grammar.into())));
    assert!(!matcher.is_error(), "the grammar does not compile: {:?}", matcher.get_error());
    for (at, byte) in text.bytes().enumerate() {
        // A matcher whose grammar is complete takes nothing more, and has no mask.
        if matcher.is_stopped() || !matcher.compute_mask().unwrap().is_allowed(u32::from(byte)) {
            return Err(format!("refused behind {:?}", String::from_utf8_lossy(&text.as_bytes()[..at])));
        }
        matcher.consume_token(u32::from(byte)).unwrap();
    }
    if matcher.is_stopped() || matcher.is_accepting().unwrap() {
        Ok(())
    } else {
        Err("more is wanted at the end".into())
    }
}

fn grammar_takes(grammar: &str, text: &str) -> bool {
    grammar_reads(grammar, text).is_ok()
}

#[test]
fn what_the_grammar_takes_parses_and_says_the_same() {
    let rules = PlanRules::default();
    for (plan, language) in [
        (plan(&[200]), Language::En),
        (plan(&[200, 1000, 345, 999, 410]), Language::En),
        (plan(&[300; 50]), Language::En),
        (plan_zh(&[200, 1000, 345]), Language::Zh),
        (plan_zh(&[300; 50]), Language::Zh),
    ] {
        let text = render(&plan, language);
        assert_eq!(grammar_reads(&grammar(&rules, language, None), &text), Ok(()));
        assert_eq!(parse(&text, &rules, language), Ok(plan));
    }
}

#[test]
fn the_grammar_refuses_what_the_parser_would_refuse() {
    let rules = PlanRules::default();
    let english = grammar(&rules, Language::En, None);
    let good = render(&plan(&[300, 300]), Language::En);
    assert!(grammar_takes(&english, &good));
    for bad in [
        String::new(),
        format!("Here is the plan:\n{good}"),
        format!("{good}\nThat is all."),
        good.replace("300", "119"),
        good.replace("300", "1001"),
        good.replace("300", "0300"),
        good.replace("300", "three hundred"),
        good.replace("Paragraph 2", "Paragraph 3"),
        good.replace(" words", ""),
        good.replace("town 0", &"town ".repeat(60)),
        render(&plan(&[300; 51]), Language::En),
        render(&plan_zh(&[300]), Language::Zh),
        good.replace("town 0", "town. It goes on 0"),
        // Two word counts in one line: which one would hold?
        good.replace("town 0", "town - Word Count: 400 words"),
    ] {
        assert!(!grammar_takes(&english, &bad), "{bad}");
    }
    let chinese = grammar(&rules, Language::Zh, None);
    let good = render(&plan_zh(&[300, 400]), Language::Zh);
    for bad in [good.replace("300", "三百"), good.replace("段落2", "第二段"), good.replace("400字", "40字")] {
        assert!(!grammar_takes(&chinese, &bad), "{bad}");
    }
}

#[test]
fn the_grammar_holds_the_number_of_lines_to_the_length() {
    let rules = PlanRules::default();
    let grammar = grammar(&rules, Language::En, Some(2000));
    let fits: Vec<usize> =
        (1..=16).filter(|n| grammar_takes(&grammar, &render(&plan(&vec![300; *n]), Language::En))).collect();
    assert_eq!(fits, (10..=14).collect::<Vec<_>>());
    assert_eq!(suitable_steps(None, &rules), 1..=50);
    assert_eq!(suitable_steps(Some(100), &rules), 1..=1, "shorter than the shortest step");
    assert_eq!(suitable_steps(Some(400), &rules), 2..=2);
    assert_eq!(suitable_steps(Some(10_000), &rules), 47..=50);
    assert_eq!(suitable_steps(Some(45_000), &rules), 50..=50, "long texts take long steps");
}

#[test]
fn each_fault_of_a_plan_is_named_with_its_line() {
    let rules = PlanRules::default();
    let line =
        |n: u32, words: &str| format!("Paragraph {n} - Main Point: the point of line {n} - Word Count: {words} words");
    let error = |text: &str| parse(text, &rules, Language::En).unwrap_err().to_string();
    assert_eq!(error(" \n\n"), "the plan has no lines; write 1 to 50 lines");
    assert_eq!(
        error(&format!("{}\n\nThen the end.", line(1, "300"))),
        "line 3 is \"Then the end.\"; write each line as `Paragraph N - Main Point: ... - Word Count: NNN words`"
    );
    assert_eq!(
        error(&format!("{}\n{}", line(1, "300"), line(3, "300"))),
        "line 2 has number 3; number the lines in order, here 2"
    );
    for words in ["119", "1001", "1,000", "+300", "0300", "300.5", "many", "99999999999999"] {
        assert_eq!(error(&line(1, words)), format!("line 1 asks for {words} words; each line takes 120 to 1000"));
    }
    let long: Vec<String> = (1..=51).map(|n| line(n, "300")).collect();
    assert_eq!(error(&long.join("\n")), "the plan has 51 lines; write 1 to 50");
}

#[test]
fn spaces_blank_lines_and_dashes_do_not_matter() {
    let text = "  Paragraph 1 – Main Point:  one - Word Count: 300 words.  \r\n\r\n\nparagraph 2 — main point: two — word count: 400 word\n";
    let plan = parse(text, &PlanRules::default(), Language::En).unwrap();
    assert_eq!(
        plan.steps.iter().map(|s| (s.main_point.as_str(), s.words)).collect::<Vec<_>>(),
        [("one", 300), ("two", 400)]
    );
    let text = "段落 1 - 主要内容: 甲 - 字数: 300 字。\n段落2 - 主要内容：乙 - 字数：400字";
    assert_eq!(parse(text, &PlanRules::default(), Language::Zh).unwrap().words(), 700);
}

#[test]
fn budgets_that_cannot_reach_the_length_say_how_many_lines_could() {
    let rules = PlanRules::default();
    let error = plan(&[500; 3]).scale(10_000, &rules).unwrap_err();
    assert_eq!(
        error.to_string(),
        "3 lines of 120 to 1000 words each make 360 to 3000 words, but the text needs 10500; write 11 to 50 lines"
    );
    assert!(!error.is_final());
    let error = plan(&[500; 50]).scale(60_000, &rules).unwrap_err();
    assert!(error.is_final() && error.class() == "length_unreachable", "{error}");
    assert_eq!(plan(&[500]).scale(100, &rules).unwrap().words(), 105, "one short step");
}

proptest! {
    #[test]
    fn scaled_budgets_have_the_sum_and_keep_the_bounds_and_the_order(
        words in prop::collection::vec(200_u32..=1000, 1..40),
        required in 100_u32..40_000,
    ) {
        let rules = PlanRules::default();
        let plan = plan(&words);
        let want = (f64::from(required) * f64::from(rules.headroom)).round() as u64;
        match plan.scale(required, &rules) {
            Ok(scaled) => {
                prop_assert_eq!(scaled.words(), want);
                let least = rules.min_words.min(want as u32);
                prop_assert!(scaled.steps.iter().all(|step| (least..=rules.max_words).contains(&step.words)));
                let pairs: Vec<(u32, u32)> = words.iter().copied().zip(scaled.steps.iter().map(|s| s.words)).collect();
                for (a, b) in pairs.iter().zip(&pairs[1..]).filter(|(a, b)| a.0 < b.0) {
                    prop_assert!(a.1 <= b.1 + 1, "a longer step became the shorter one: {a:?} {b:?}");
                }
            }
            Err(PlanError::Sum { least, most, .. }) => prop_assert!(want < least || want > most),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(Paragraph [0-9]{1,3} - Main Point: .{0,20} - Word Count: [0-9]{0,12} words\n|.{0,30}\n){0,8}") {
        for language in [Language::En, Language::Zh] {
            if let Ok(plan) = parse(&text, &PlanRules::default(), language) {
                prop_assert!((1..=50).contains(&plan.steps.len()));
            }
        }
    }
}

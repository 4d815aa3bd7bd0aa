//! The report must agree with the filters.

use longhand_proto::DocumentId;
use longhand_proto::task::{FinishReason, Message, Timings, Usage};

use super::*;
use crate::domain::document::{Section, Verdict, assemble};
use crate::domain::instruction::Instruction;
use crate::domain::plan::Plan;
use crate::text::filter;

/// A document of distinct sentences, and `tail`.
struct Sample {
    instruction: Instruction,
    sections: Vec<Section>,
    text: String,
}

impl Sample {
    fn new(seed: u32, sentences: u32, requested: Option<u32>, tail: &str) -> Self {
        let word = |k: u32| crate::text::shingles::mix(u64::from(seed) << 32 | u64::from(k)) % 100_000;
        let letters = |number: u64| number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
        let sentence = |k: u32| (0..10).map(|at| letters(word(k * 10 + at))).collect::<Vec<String>>().join(" ") + ".";
        let text = (0..sentences).map(sentence).collect::<Vec<_>>().join(" ") + tail;
        let words = longhand_proto::words::count(&text) as u32;
        let section = Section {
            text,
            target_words: words,
            asked_words: None,
            words,
            finish_reason: FinishReason::Stop,
            attempt: 1,
            worker: "worker-1".parse().unwrap(),
            usage: Usage::default(),
            timings: Timings::default(),
            seed: 1,
            trace_id: String::new(),
            context: Vec::new(),
            rejections: Vec::new(),
        };
        let instruction = Instruction {
            id: None,
            messages: vec![Message { role: "user".into(), content: "Write.".into() }],
            language: Language::En,
            required_words: requested,
            context: Vec::new(),
            metadata: serde_json::Map::new(),
            line: 1,
        };
        let sections = vec![section];
        Self { instruction, text: assemble(&sections), sections }
    }
}

static NO_PLAN: Plan = Plan { steps: Vec::new() };

impl Sample {
    fn assembled(&self) -> Assembled<'_> {
        Assembled { instruction: &self.instruction, plan: &NO_PLAN, sections: &self.sections, text: &self.text }
    }
}

fn id(number: usize) -> DocumentId {
    DocumentId::derive(&"run".parse().unwrap(), &number.to_string(), 0)
}

/// Ten good documents, one too short, one that misses its length, one that is both and talks, and a near duplicate.
fn documents() -> Vec<Sample> {
    let mut documents: Vec<Sample> = (0..10).map(|seed| Sample::new(seed, 40 + seed, Some(400), "")).collect();
    documents.push(Sample::new(20, 7, None, ""));
    documents.push(Sample::new(21, 80, Some(300), ""));
    documents.push(Sample::new(22, 6, Some(300), " Let me know if you need more. <b>"));
    documents.push(Sample::new(3, 43, Some(400), ""));
    documents
}

fn report() -> Report {
    let mut report = Report::new("ships".into(), Recipe::default());
    for (number, document) in documents().iter().enumerate() {
        report.add(id(number), &document.assembled());
    }
    report
}

#[test]
fn a_rule_counts_alone_and_in_order_as_the_filters_do() {
    let summary = report().summary();
    let of = |name: &str| summary.rules.iter().find(|rule| rule.rule == name).unwrap();
    let counts = |name| (of(name).alone, of(name).in_order);
    assert_eq!((summary.documents, summary.kept), (14, 10));
    assert_eq!(counts("too_short"), (2, 2));
    assert_eq!(counts("score_length"), (2, 1));
    assert_eq!(counts("assistant_talk"), (1, 0));
    assert_eq!(counts("near_duplicate"), (1, 1));
    assert_eq!(summary.rules.iter().map(|rule| rule.in_order).sum::<usize>(), 4);

    let filters = Recipe::default().filters;
    for (document, row) in documents().iter().zip(&report().rows) {
        let verdict = filter::evaluate(&filters, &document.assembled());
        let first = report().first_rejecting(&row.values).map(|at| rules().nth(at).unwrap().name);
        match (verdict, first) {
            (Verdict::Rejected { rule, .. }, first) => assert_eq!(Some(rule.as_str()), first),
            (Verdict::Accepted, first) => assert!(first.is_none_or(|rule| rule == "near_duplicate"), "{first:?}"),
        }
    }
}

#[test]
fn another_threshold_keeps_what_the_report_predicts() {
    let summary = report().summary();
    let mut changed = report();
    for rule in &summary.rules {
        for other in &rule.others {
            let mut recipe = Recipe::default();
            let mut table = toml::Table::try_from(&recipe.filters).unwrap();
            let value = &mut table[rule.key];
            if value.is_integer() {
                *value = toml::Value::Integer(other.threshold as i64);
            } else if value.is_float() {
                *value = toml::Value::Float(other.threshold);
            } else {
                // A rule that can only be switched.
                continue;
            }
            recipe.filters = table.try_into().unwrap();
            changed.recipe = recipe;
            let again = changed.summary();
            let alone = again.rules.iter().find(|it| it.rule == rule.rule).unwrap().alone;
            assert_eq!(other.together, again.kept, "{} at {}", rule.rule, other.threshold);
            assert_eq!(other.alone, again.documents - alone, "{} at {}", rule.rule, other.threshold);
        }
        let used = rule.others.iter().filter(|other| Some(other.threshold) == rule.threshold).count();
        assert_eq!(used, usize::from(rule.distribution.is_some()), "{}", rule.rule);
    }
}

#[test]
fn the_page_is_self_contained_and_escapes_texts_of_the_run() {
    let report = Report { run: "<script>".into(), ..report() };
    let page = html(&report);
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<b>\u{0}"));
    assert!(page.contains("Run &lt;script&gt;") && page.matches("<script").count() == 2);
    assert!(!page.contains("if you need more. <b>"));
    for rule in rules() {
        assert!(page.contains(&format!("<tbody id='{}'>", rule.name)), "{}", rule.name);
    }
    assert_eq!(page.matches("<circle").count(), 13, "one for each document with a requested length");
    let empty = html(&Report::new("none".into(), Recipe::default()));
    assert!(empty.contains("No document") && empty.ends_with("</html>"));
}

#[test]
fn a_distribution_has_quantiles_and_counts_each_value_once() {
    let values = Distribution::of((0..=100).map(f64::from).collect()).unwrap();
    assert_eq!((values.min, values.p5, values.median, values.p95, values.max), (0.0, 5.0, 50.0, 95.0, 100.0));
    assert_eq!((values.bars.iter().sum::<usize>(), values.bars.len()), (101, BARS));
    let thresholds = values.thresholds(Some(33.3));
    assert!(
        thresholds.contains(&0.0)
            && thresholds.contains(&33.3)
            && thresholds.contains(&100.0)
            && thresholds.is_sorted()
    );
    assert_eq!(Distribution::of(vec![7.0; 5]).unwrap().thresholds(Some(7.0)), [7.0]);
    assert!(Distribution::of(Vec::new()).is_none());
    for (value, text) in [(0.0, "0"), (12.0, "12"), (0.123_456, "0.123"), (87.53, "87.5"), (1234.5, "1234")] {
        assert_eq!(plot::rounded(value), text);
    }
}

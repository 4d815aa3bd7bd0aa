//! The case files: for each rule, texts that it must find and texts that it must leave alone.
//!
//! ```text
//! + en | The text of a document that the rule finds with the default threshold.
//! - zh asked=2000 | A document that it leaves alone; what follows belongs to it:
//!   @point What the step is about      (of the section whose text follows)
//!   @words 300                         (words asked for in it)
//!   @finish length                     (why it ended)
//!   ---                                (the next section begins)
//! ```
//! `{en 40 7}` and `{zh 40 7}` stand for forty sentences of made-up prose, other ones for each seed.

use std::sync::LazyLock;

use longhand_proto::task::FinishReason;
use regex::{Captures, Regex};

use super::{Owned, chinese_prose, prose};
use crate::domain::document::{Assembled, assemble};
use crate::domain::language::Language;
use crate::domain::plan::Step;
use crate::domain::rule::{Filters, Rule, Stage, Threshold};
use crate::text::filter::{self, Measured, NEAR_DUPLICATE, NearDuplicateIndex, apply};

/// The cases of a rule.
fn file(rule: &Rule) -> String {
    let path = format!("{}/src/text/filter/cases/{}.txt", env!("CARGO_MANIFEST_DIR"), rule.name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

struct Case {
    line: usize,
    fires: bool,
    language: Language,
    asked: Option<u32>,
    sections: Vec<String>,
}

fn cases(name: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut blank = 0;
    for (line, content) in text.lines().zip(1..).map(|(content, line)| (line, content)) {
        let at = format!("cases/{name}.txt:{line}");
        let rest = content.strip_prefix("  ");
        if content.is_empty() {
            blank += 1;
        } else if let Some(content) = rest {
            let sections = &mut cases.last_mut().unwrap_or_else(|| panic!("{at}: text before the first case")).sections;
            if content == "---" {
                sections.push(String::new());
            } else {
                let text = sections.last_mut().unwrap();
                text.push_str(&"\n".repeat(if text.is_empty() { 0 } else { blank + 1 }));
                text.push_str(content);
            }
            blank = 0;
        } else if !content.starts_with('#') {
            let (head, text) = content.split_once(" |").unwrap_or_else(|| panic!("{at}: expected `+ en | text`"));
            let mut words = head.split(' ');
            let fires = match words.next() {
                Some("+") => true,
                Some("-") => false,
                _ => panic!("{at}: expected + or -"),
            };
            let language = match words.next() {
                Some("en") => Language::En,
                Some("zh") => Language::Zh,
                _ => panic!("{at}: expected en or zh"),
            };
            let asked = words.next().map(|word| word.strip_prefix("asked=").unwrap().parse().unwrap());
            cases.push(Case { line, fires, language, asked, sections: vec![text.trim_start().to_owned()] });
            blank = 0;
        }
    }
    cases
}

/// Fills in the made-up prose and escapes.
fn filled(text: &str) -> String {
    static MADE_UP: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\{(en|zh) (\d+) (\d+)\}|\\u\{([0-9a-f]+)\}").unwrap());
    let fill = |found: &Captures<'_>| match found.get(4) {
        Some(code) => char::from_u32(u32::from_str_radix(code.as_str(), 16).unwrap()).unwrap().to_string(),
        None => {
            let (sentences, seed) = (found[2].parse().unwrap(), found[3].parse().unwrap());
            if &found[1] == "en" { prose(sentences, seed) } else { chinese_prose(sentences, seed) }
        }
    };
    MADE_UP.replace_all(text, fill).into_owned()
}

fn document(case: &Case) -> Owned {
    let mut notes = Vec::new();
    let texts: Vec<String> = case
        .sections
        .iter()
        .map(|section| {
            let (of, text): (Vec<&str>, Vec<&str>) = section.lines().partition(|line| line.starts_with('@'));
            notes.push(of.into_iter().map(str::to_owned).collect::<Vec<_>>());
            filled(text.join("\n").trim_matches('\n'))
        })
        .collect();
    let mut document = Owned::new(case.language, &texts);
    document.instruction.required_words = case.asked;
    for (section, notes) in document.sections.iter_mut().zip(&notes) {
        let mut step = Step { main_point: String::new(), words: section.words };
        section.target_words = section.words.max(1);
        for note in notes {
            match note.split_once(' ').unwrap() {
                ("@point", point) => step.main_point = point.into(),
                ("@words", words) => {
                    step.words = words.parse().unwrap();
                    section.target_words = step.words;
                }
                ("@tokens", tokens) => section.usage.generated = tokens.parse().unwrap(),
                ("@finish", "length") => section.finish_reason = FinishReason::Length,
                ("@finish", "repetition") => section.finish_reason = FinishReason::Repetition,
                ("@finish", "ceiling") => section.finish_reason = FinishReason::Ceiling,
                other => panic!("{other:?}"),
            }
        }
        document.plan.steps.push(step);
    }
    document
}

/// Of `near_duplicate` the sections are documents, and the last one is judged.
fn near(document: &Owned, filters: &Filters) -> Measured {
    let mut index = NearDuplicateIndex::new();
    let threshold = NEAR_DUPLICATE.threshold(filters).unwrap();
    let id = |at: usize| longhand_proto::DocumentId::derive(&"run".parse().unwrap(), &at.to_string(), 0);
    let measured = document.sections.iter().enumerate().map(|(at, it)| index.measure(id(at), &it.text, threshold));
    measured.last().unwrap()
}

/// What a rule says of a document; none if it has nothing to measure or is off.
fn measured(rule: &Rule, document: &Owned, filters: &Filters) -> Option<Measured> {
    if rule.name == NEAR_DUPLICATE.name {
        return Some(near(document, filters));
    }
    apply(rule, filters, &document.assembled())
}

#[test]
fn each_rule_finds_what_it_must_and_leaves_the_rest_alone() {
    let mut wrong = Vec::new();
    for rule in filter::all() {
        for case in cases(rule.name, &file(rule)) {
            let document = document(&case);
            let measured = measured(rule, &document, &Filters::default());
            let fired = measured.as_ref().is_some_and(|measured| measured.fired);
            let described = measured.as_ref().is_none_or(|measured| !measured.fired || !measured.detail.is_empty());
            if fired != case.fires || !described {
                wrong.push(format!("cases/{}.txt:{}: {measured:?}\n{}", rule.name, case.line, document.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases are judged wrongly:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn a_rule_that_is_off_rejects_none_of_its_cases() {
    for rule in filter::all() {
        let off = Filters::default().with(rule.key, rule.off);
        for case in cases(rule.name, &file(rule)) {
            let measured = measured(rule, &document(&case), &off);
            assert!(measured.is_none_or(|measured| !measured.fired), "cases/{}.txt:{}", rule.name, case.line);
        }
    }
}

/// The sections of a document, one after the other, and what `ask` says of each prefix until it finds something.
fn first_found(document: &Owned, ask: impl Fn(&Assembled<'_>) -> Option<Measured>) -> Option<(usize, Measured)> {
    (1..=document.sections.len()).find_map(|written| {
        let sections = &document.sections[..written];
        let text = assemble(sections);
        ask(&Assembled { sections, text: &text, ..document.assembled() }).map(|found| (written, found))
    })
}

/// The cases of all rules, joined into documents of several sections: what the gate says of them is what the rules say of the
/// whole text after each section.
#[test]
fn the_newest_section_alone_tells_what_all_sections_tell() {
    let mut filters = [(); 3].map(|()| Filters::default());
    for rule in filter::all() {
        if let Threshold::Count(_) = rule.default {
            filters[1].set(rule, 1);
            filters[2].set(rule, rule.off);
        }
    }
    let mut found_any = 0;
    for language in [Language::En, Language::Zh] {
        let all = filter::all().flat_map(|rule| cases(rule.name, &file(rule))).filter(|it| it.language == language);
        let short = |case: &Case| case.sections.iter().all(|text| filled(text).len() < 20_000);
        let all: Vec<Case> = all.filter(short).collect();
        for (three, filters) in all.chunks(3).zip(filters.iter().cycle()) {
            let sections = three.iter().flat_map(|case| case.sections.clone()).collect();
            let document = document(&Case { sections, line: 0, fires: false, language, asked: None });
            let whole = |prefix: &Assembled<'_>| {
                let rules = filter::RULES.iter().filter(|rule| rule.stage != Stage::Document);
                rules.filter_map(|rule| apply(rule, filters, prefix)).find(|measured| measured.fired)
            };
            let want = first_found(&document, whole);
            found_any += usize::from(want.is_some());
            assert_eq!(first_found(&document, |it| filter::evaluate_so_far(filters, it)), want, "{}", document.text);
        }
    }
    assert!(found_any > 100, "only {found_any} documents are found wanting");
}

#[test]
fn each_rule_has_twenty_cases_of_either_kind_in_both_languages() {
    for rule in filter::all() {
        let (name, cases) = (rule.name, cases(rule.name, &file(rule)));
        for (fires, language, least) in
            [(true, Language::En, 8), (true, Language::Zh, 8), (false, Language::En, 8), (false, Language::Zh, 8)]
        {
            let of = cases.iter().filter(|case| case.fires == fires && case.language == language).count();
            assert!(of >= least, "{name}: {of} cases of {language:?} with fires = {fires}");
        }
        for fires in [true, false] {
            let of = cases.iter().filter(|case| case.fires == fires).count();
            assert!(of >= 20, "{name}: {of} cases with fires = {fires}");
        }
    }
}

//! The draw must be even, must not repeat itself, and must be the same again; bad seeds must say where they are bad.

use std::collections::{BTreeMap, HashMap, HashSet};

use longhand_proto::task::{Failure, FinishReason, Output, Task, Timings, Usage};
use serde_json::Value;

use super::draw::{SIMILARITY, draw};
use super::pattern::{Pattern, Values};
use super::*;
use crate::domain::instruction::Instruction;
use crate::text::length;
use crate::text::similarity::{Index, Signature};

const LANGUAGES: [Language; 2] = [Language::En, Language::Zh];

fn options(count: usize, seed: u64) -> Options {
    Options { count, seed, lengths: Lengths::default(), seeds: LANGUAGES.map(Seeds::built_in).into() }
}

fn rows(path: &Path) -> Vec<Instruction> {
    read(path).unwrap().map(Result::unwrap).collect()
}

/// Composes with the built-in seeds into a fresh file.
fn composed(options: &Options) -> (Report, Vec<Instruction>) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    let report = compose(&out, options, None).unwrap();
    (report, rows(&out))
}

fn say<'a>(row: &'a Instruction, key: &str) -> &'a str {
    row.metadata.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no {key} in {row:?}"))
}

#[test]
fn the_built_in_seeds_have_what_was_promised() {
    for language in LANGUAGES {
        let seeds = Seeds::built_in(language);
        assert!(seeds.forms.len() >= 60 && seeds.subjects.len() >= 400, "{language:?}");
        // A subject that states a length would be read as the length of the text.
        assert!(seeds.subjects.iter().all(|subject| length::required(&subject.name).is_none()));
    }
}

#[test]
fn every_row_is_read_back_with_the_length_that_it_states() {
    let (report, rows) = composed(&options(600, 3));
    assert_eq!((report.rows, report.english, report.chinese, rows.len()), (600, 300, 300, 600));
    for (at, row) in rows.iter().enumerate() {
        let text = row.text();
        assert_eq!(row.language, LANGUAGES[at % 2]);
        assert_eq!(language::identify(&text), Some(row.language), "{text}");
        assert_eq!(length::required(&text), row.required_words, "{text}");
        assert!(text.contains(say(row, "subject")), "{text}");
        for key in ["reader", "tone"] {
            let named = row.metadata.get(key).and_then(Value::as_str);
            assert!(named.is_none_or(|named| text.contains(named)), "{text}");
        }
        assert!(!text.contains(['{', '}', '(', ')', '|']) && !text.contains("  ") && !text.contains(" ."), "{text}");
        assert!(text.ends_with(['.', '?', '。', '？']) && !text.starts_with(char::is_lowercase), "{text}");
        assert_eq!((say(row, "worded"), &row.metadata["seed"]), ("pattern", &json!(3)));
    }
}

#[test]
fn no_two_rows_are_near_duplicates_and_no_pair_of_form_and_subject_comes_twice() {
    let (_, rows) = composed(&options(2_000, 1));
    let (mut index, mut pairs, mut ids) = (Index::new(SIMILARITY), HashSet::new(), HashSet::new());
    for row in &rows {
        let text = row.text();
        assert_eq!(index.insert_new(&Signature::of(&text)).err(), None, "{text}");
        assert!(pairs.insert((row.language, say(row, "form"), say(row, "subject"))), "{text}");
        assert!(ids.insert(row.id.clone()));
    }
}

#[test]
fn subjects_are_spread_evenly_and_forms_readers_and_tones_all_come() {
    let seeds = Seeds::built_in(Language::En);
    let rows = draw(&seeds, 1_000, &Lengths::default(), 5).unwrap();
    let mut subjects: HashMap<&str, usize> = HashMap::new();
    for row in &rows {
        *subjects.entry(&row.subject.name).or_default() += 1;
    }
    assert_eq!(subjects.len(), seeds.subjects.len());
    let (least, most) = (subjects.values().min().unwrap(), subjects.values().max().unwrap());
    assert!(most - least <= 1, "{least} to {most}");
    let forms: HashSet<&str> = rows.iter().map(|row| row.form.name.as_str()).collect();
    assert_eq!(forms.len(), seeds.forms.len());
    let readers: HashSet<&str> = rows.iter().filter_map(|row| row.reader).collect();
    let tones: HashSet<&str> = rows.iter().filter_map(|row| row.tone).collect();
    let distinct =
        |entries: &[super::seeds::ForKind<String>]| entries.iter().map(|it| &*it.value).collect::<HashSet<_>>().len();
    assert_eq!((readers.len(), tones.len()), (distinct(&seeds.readers), distinct(&seeds.tones)));
}

#[test]
fn lengths_are_log_uniform_and_suit_their_form() {
    let seeds = Seeds::built_in(Language::En);
    let rows = draw(&seeds, 400, &Lengths::default(), 2).unwrap();
    // Four doublings from 2,000 to 32,000 words; figures are rounded to the next one.
    let mut doublings = BTreeMap::new();
    for row in &rows {
        assert!(row.form.suits(row.words, row.subject) && (2_000..=32_000).contains(&row.words));
        *doublings.entry((row.words / 2_000).ilog2()).or_insert(0) += 1;
    }
    assert_eq!(doublings.len(), 4);
    assert!(doublings.values().all(|count| (80..=120).contains(count)), "{doublings:?}");
}

#[test]
fn lengths_are_figures_that_a_person_writes() {
    let lengths = Lengths::default();
    assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0].map(|at| lengths.at(at)), [2_000, 4_000, 8_000, 15_000, 30_000]);
    // No round figure in the range: its own numbers.
    assert_eq!("2050-2100".parse::<Lengths>().unwrap().at(1.0), 2_100);
    assert_eq!("3000".parse::<Lengths>().unwrap().at(0.5), 3_000);
    for bad in ["", "x-y", "3000-2000", "10-2000", "2000-900000", "-5"] {
        let error = bad.parse::<Lengths>().unwrap_err();
        assert!(error.contains("expected MIN-MAX in words"), "{error}");
    }
    let written = |words| [lengths::written(words, Language::En), lengths::written(words, Language::Zh)];
    assert_eq!(
        (written(3_500), written(12_000)),
        (["3,500", "3500"].map(String::from), ["12,000", "1.2万"].map(String::from))
    );
}

#[test]
fn a_seed_gives_the_same_file_and_another_seed_another() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, seed| {
        let out = dir.path().join(name);
        compose(&out, &options(60, seed), None).unwrap();
        std::fs::read(out).unwrap()
    };
    let first = write("a.jsonl", 7);
    assert_eq!(write("b.jsonl", 7), first);
    assert_ne!(write("c.jsonl", 8), first);
}

#[test]
fn a_file_that_holds_anything_else_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl.gz");
    assert!(!compose(&out, &options(10, 1), None).unwrap().unchanged);
    let before = std::fs::read(&out).unwrap();
    assert!(compose(&out, &options(10, 1), None).unwrap().unchanged);
    for other in
        [options(10, 2), options(11, 1), Options { seeds: vec![Seeds::built_in(Language::En)], ..options(10, 1) }]
    {
        let refused = compose(&out, &other, None).unwrap_err().to_string();
        assert!(refused.contains("holds other rows"), "{refused}");
    }
    assert_eq!(std::fs::read(&out).unwrap(), before);
    std::fs::write(&out, "no rows").unwrap();
    assert!(matches!(compose(&out, &options(10, 1), None), Err(ComposeError::Exists { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
}

/// A small table that is right.
const SMALL: &str = r#"
[[form]]
name = "essay"
phrase = "an essay on {subject}"
kind = "essay"
words = [2000, 9000]
fields = ["nature"]

[subjects]
nature = ["moths", "otters"]

[readers]
essay = ["beginners"]

[tones]
any = ["plain"]

[patterns]
any = ["Write {text} in about {words} words( for {reader}| and keep it {tone})."]
"#;

fn parse(text: &str) -> Result<Seeds, SeedError> {
    Seeds::parse(Path::new("my/en.toml"), text, Language::En)
}

#[test]
fn a_bad_seed_file_is_refused_with_line_key_and_remedy() {
    assert!(parse(SMALL).is_ok());
    for (from, to, line, key, word) in [
        ("\"moths\"", "\"moths", 10, "the file", "fix the line"),
        ("words = [", "length = [", 6, "the file", "unknown field `length`"),
        ("kind = \"essay\"\n", "", 2, "the file", "missing field `kind`"),
        ("an essay on {subject}", "an essay", 4, "form.phrase", "{subject} once"),
        ("an essay on {subject}", "{subject} for {reader}", 4, "form.phrase", "nothing else in braces"),
        ("[2000, 9000]", "[9000, 2000]", 6, "form.words", "invalid range [9000, 2000]"),
        ("[2000, 9000]", "[5, 9000]", 6, "form.words", "50 to 200000"),
        ("fields = [\"nature\"]", "fields = [\"sea\"]", 7, "form.fields", "no subjects are listed under `sea`"),
        ("fields = [\"nature\"]", "fields = []", 3, "form.fields", "leave the key out"),
        ("\"otters\"", "\"Moths\"", 10, "subjects.nature", "`Moths` is there twice"),
        ("\"otters\"", "\" \"", 10, "subjects.nature", "an entry is empty"),
        ("\"otters\"", "\"ot\\nters\"", 10, "subjects.nature", "several lines"),
        ("nature = [\"moths\", \"otters\"]", "nature = []", 1, "subjects", "there is none"),
        ("essay = [\"beginners\"]", "story = [\"beginners\"]", 13, "readers.story", "no form is of kind `story`"),
        ("essay = [\"beginners\"]", "", 5, "form.kind", "no readers for forms of kind `essay`"),
        ("any = [\"Write", "other = [\"Write", 19, "patterns.other", "no form is of kind `other`"),
        ("( for {reader}|", "( for {reader}(|", 19, "patterns.any", "do not nest"),
        ("{reader}|", "{who}|", 19, "patterns.any", "unknown slot `{who}`"),
        ("about {words} words", "full", 19, "patterns.any", "{words} is missing"),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let error = parse(&SMALL.replace(from, to)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("seeds my/en.toml:{line}: {key}: ")), "{from} -> {to}: {error}");
        assert!(error.contains(word) && error.contains("; "), "{from} -> {to}: {error}");
    }
    let none = parse(SMALL.split("[subjects]").nth(1).map(|rest| format!("[subjects]{rest}")).unwrap().as_str());
    assert!(none.unwrap_err().to_string().contains("add a [[form]]"));
    let missing = Seeds::load(Path::new("nowhere"), Language::Zh).unwrap_err().to_string();
    assert!(missing.contains("nowhere/zh.toml") && missing.contains("--write-seeds"), "{missing}");
}

#[test]
fn a_table_that_is_too_small_says_what_to_do() {
    let seeds = parse(SMALL).unwrap();
    let draw = |count, lengths: &str| draw(&seeds, count, &lengths.parse().unwrap(), 0).map(|rows| rows.len());
    assert_eq!(draw(2, "3000-4000").unwrap(), 2);
    for (count, lengths, words) in [(3, "3000-4000", "after 2 rows"), (1, "10000-20000", "after 0 rows")] {
        let error = draw(count, lengths).unwrap_err().to_string();
        assert!(error.contains("no form of the en seeds") && error.contains(words), "{error}");
    }
    let long =
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen";
    let alike =
        SMALL.replace("( for {reader}| and keep it {tone})", "").replace("Write {text}", &format!("{long} {{text}}"));
    let seeds = parse(&alike).unwrap();
    let error = super::draw::draw(&seeds, 2, &"3000".parse().unwrap(), 0).unwrap_err().to_string();
    assert!(error.contains("near duplicates") && error.contains("--seeds"), "{error}");
}

#[test]
fn a_choice_gives_each_of_its_parts_and_a_sentence_begins_with_a_capital() {
    let pattern = Pattern::parse("{text}, (about|some) {words} words(|, {tone}). {reader} read it.").unwrap();
    let values = Values { text: "an essay", words: "3,000", reader: "children", tone: "dry" };
    let mut random = longhand_proto::rng::Sequence::new(1);
    let mut texts: Vec<String> = (0..100).map(|_| pattern.choose(&mut random).fill(&values)).collect();
    texts.sort();
    texts.dedup();
    let want = ["about 3,000 words", "about 3,000 words, dry", "some 3,000 words", "some 3,000 words, dry"];
    let mut want = want.map(|middle| format!("An essay, {middle}. Children read it."));
    want.sort();
    assert_eq!(texts, want);
}

fn output(text: &str, finish_reason: FinishReason) -> Result<Output, Failure> {
    Ok(Output { text: text.to_owned(), finish_reason, usage: Usage::default(), timings: Timings::default() })
}

/// Composes with a model that answers the question of each row and try with `answer`.
fn worded(options: &Options, answer: impl Fn(&Task) -> Result<Output, Failure>) -> (Report, Vec<Instruction>) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    let mut write = |tasks: Vec<Task>| Ok(tasks.iter().map(&answer).collect());
    let model = WordingModel { model: longhand_proto::task::ModelInfo::default(), write: &mut write };
    let report = compose(&out, options, Some(model)).unwrap();
    (report, rows(&out))
}

/// What the question says behind a label.
fn fact<'a>(task: &'a Task, label: &str) -> &'a str {
    let question = &task.messages[0].content;
    question.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_else(|| panic!("no {label} in {question}"))
}

fn english(count: usize) -> Options {
    Options { seeds: vec![Seeds::built_in(Language::En)], ..options(count, 4) }
}

#[test]
fn a_wording_that_passes_the_gates_is_taken() {
    let answer = |task: &Task| {
        let (form, subject, length) = (fact(task, "Form: "), fact(task, "Subject: "), fact(task, "Length: "));
        let text = format!(
            "“My nephew keeps asking, so could you put together a {form} about {subject} for us, {length} or so?”"
        );
        output(&text, FinishReason::Stop)
    };
    let (report, rows) = worded(&english(40), answer);
    assert_eq!(report.worded, Some(WordingCounts { model: 40, pattern: 0, refused: Vec::new() }));
    for row in &rows {
        assert_eq!(say(row, "worded"), "model");
        assert!(row.text().starts_with("My nephew") && row.text().ends_with("or so?"), "{}", row.text());
        assert!(row.text().contains(say(row, "subject")));
    }
}

#[test]
fn a_wording_that_fails_is_tried_again_with_another_seed_and_then_the_pattern_stays() {
    let good = |task: &Task| {
        let (form, subject, length) = (fact(task, "Form: "), fact(task, "Subject: "), fact(task, "Length: "));
        format!("Could you write a {form} about {subject}, {length} long?")
    };
    type Answer<'a> = &'a dyn Fn(&Task) -> String;
    let cases: [(&str, FinishReason, Answer<'_>); 9] = [
        ("unfinished", FinishReason::Length, &good),
        ("format", FinishReason::Stop, &|task| format!("{}\n\nThank you.", good(task))),
        ("format", FinishReason::Stop, &|task| format!("1. **{}**", good(task))),
        ("language", FinishReason::Stop, &|_| "请写一篇关于长江江豚的回归的随笔，约3000字，语气平静。".into()),
        ("meta", FinishReason::Stop, &|task| format!("Here is what you want. {}", good(task))),
        ("meta", FinishReason::Stop, &|task| format!("{} Alternatively, make it shorter.", good(task))),
        ("form", FinishReason::Stop, &|task| good(task).replace(fact(task, "Form: "), "xylographic whatnot")),
        ("subject", FinishReason::Stop, &|task| good(task).replace(fact(task, "Subject: "), "something else")),
        ("length", FinishReason::Stop, &|task| good(task).replace(fact(task, "Length: "), "about 1,100 words")),
    ];
    let plain = composed(&english(6)).1;
    for (gate, finish_reason, answer) in cases {
        let seeds = std::cell::RefCell::new(HashSet::new());
        let (report, rows) = worded(&english(6), |task| {
            seeds.borrow_mut().insert(task.seed);
            output(&answer(task), finish_reason)
        });
        assert_eq!(report.worded, Some(WordingCounts { model: 0, pattern: 6, refused: vec![(gate, 18)] }), "{gate}");
        assert_eq!(seeds.borrow().len(), 18, "each try has a seed of its own");
        for (row, plain) in rows.iter().zip(&plain) {
            assert_eq!((say(row, "worded"), say(row, "refused"), row.text()), ("pattern", gate, plain.text()));
        }
    }
    // Only the first try is bad.
    let tried = std::cell::RefCell::new(HashSet::new());
    let (report, _) = worded(&english(6), |task| {
        let again = !tried.borrow_mut().insert(task.messages[0].content.clone());
        output(&if again { good(task) } else { "Sure!".into() }, FinishReason::Stop)
    });
    assert_eq!(report.worded, Some(WordingCounts { model: 6, pattern: 0, refused: vec![("format", 6)] }));
}

#[test]
fn an_engine_that_fails_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    let mut write = |_: Vec<Task>| Err("the device is lost".to_owned());
    let model = WordingModel { model: longhand_proto::task::ModelInfo::default(), write: &mut write };
    let error = compose(&out, &options(5, 1), Some(model)).unwrap_err();
    assert!(matches!(&error, ComposeError::Model(problem) if problem == "the device is lost"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

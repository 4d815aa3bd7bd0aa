//! `{"id": ..., "prompt": [...], "chosen": [...], "rejected": [...]}`: preference pairs as TRL reads them.
//!
//! Of documents: the candidate of an instruction with the highest score is chosen; one with a lower score, drawn by seed, is
//! rejected. Of sections: the text up to a section is chosen, and the same with a draft that a rule rejected in its place is
//! rejected. What both begin with has the same probability in both, so it cancels out of the loss: the pair is about the section.

use arrow_schema::{DataType, Field};
use longhand_proto::task::Message;
use serde_json::{Value, json};

use super::spec::{Rows, Spec, messages, text};
use crate::corpus::record::Record;

/// By quality and length.
pub(super) const DPO: Spec = spec("dpo", |candidates| pairs(PairCriterion::Both, candidates));
/// By length.
pub(super) const DPO_LENGTH: Spec = spec("dpo-length", |candidates| pairs(PairCriterion::Length, candidates));
/// By quality.
pub(super) const DPO_QUALITY: Spec = spec("dpo-quality", |candidates| pairs(PairCriterion::Quality, candidates));

/// Of a section and a draft in its place.
pub(super) const DPO_SECTION: Spec = Spec {
    name: "dpo-section",
    contents: "pairs of a text up to a section, and the same with a draft of it that a rule rejected: `prompt`, `chosen`, `rejected`",
    extensions: &["jsonl"],
    columns: section_columns,
    rows: Rows::Pairs(|candidates| candidates.iter().flat_map(section_pairs).collect()),
    llama_factory: None,
};

const fn spec(name: &'static str, pairs: fn(&[Record]) -> Vec<Value>) -> Spec {
    Spec {
        name,
        contents: "pairs of the best candidate of an instruction and one with a lower score: `prompt`, `chosen`, `rejected`",
        extensions: &["jsonl"],
        columns,
        rows: Rows::Pairs(pairs),
        // LLaMA-Factory expects one message where TRL has a list of them.
        llama_factory: None,
    }
}

fn columns() -> Vec<Field> {
    let score = |name| Field::new(name, DataType::Float64, false);
    let mut columns = vec![text("id")];
    columns.extend(["prompt", "chosen", "rejected"].map(messages));
    columns.extend([text("rejected_id"), score("score_chosen"), score("score_rejected")]);
    columns
}

fn section_columns() -> Vec<Field> {
    let mut columns = vec![text("id"), Field::new("section", DataType::UInt32, false)];
    columns.extend(["prompt", "chosen", "rejected"].map(messages));
    columns.push(text("rule"));
    columns
}

/// One for each draft that was kept.
fn section_pairs(record: &Record) -> Vec<Value> {
    let Some((prompt, _)) = split(record) else { return Vec::new() };
    let mut pairs = Vec::new();
    let mut before = String::new();
    for (section, number) in record.sections.iter().zip(1_u32..) {
        let with = |text: &str| [json!({ "role": "assistant", "content": format!("{before}{text}") })];
        let drafts = section.rejections.iter().filter_map(|it| Some((it, it.text.as_ref()?)));
        // For want of a better one a draft may have been taken after all.
        for (rejection, draft) in drafts.filter(|(_, draft)| **draft != section.text) {
            pairs.push(json!({
                "id": record.id,
                "section": number,
                "prompt": prompt,
                "chosen": with(&section.text),
                "rejected": with(draft),
                "rule": rejection.rule,
            }));
        }
        before.push_str(&section.text);
        before.push_str("\n\n");
    }
    pairs
}

/// The score that decides which candidate is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PairCriterion {
    /// S_l.
    Length,
    /// S_q.
    Quality,
    /// The mean of both; only one of them where the instruction states no length or nothing was judged.
    Both,
}

fn pairs(criterion: PairCriterion, candidates: &[Record]) -> Vec<Value> {
    row(criterion, candidates).into_iter().collect()
}

/// None if no two candidates differ in their score.
fn row(criterion: PairCriterion, candidates: &[Record]) -> Option<Value> {
    let judged = candidates.iter().any(|record| record.score_quality.is_some());
    let scored: Vec<(&Record, f64)> =
        candidates.iter().filter_map(|record| Some((record, score(criterion, judged, record)?))).collect();
    // The first of equal scores.
    let (chosen, best) = scored.iter().rev().copied().max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    let worse: Vec<(&Record, f64)> = scored.into_iter().filter(|(_, score)| *score < best).collect();
    let (rejected, less) = *worse.get(draw(chosen, worse.len())?)?;
    let (prompt, _) = split(chosen)?;
    Some(json!({
        "id": chosen.id,
        "prompt": prompt,
        "chosen": [answer(chosen)?],
        "rejected": [answer(rejected)?],
        "rejected_id": rejected.id,
        "score_chosen": best,
        "score_rejected": less,
    }))
}

fn score(criterion: PairCriterion, judged: bool, record: &Record) -> Option<f64> {
    let (length, quality) = (record.score_length, record.score_quality);
    match criterion {
        PairCriterion::Length => length,
        PairCriterion::Quality => quality,
        PairCriterion::Both if !judged => length,
        // A candidate without a valid vote cannot be compared with judged ones.
        PairCriterion::Both => quality.map(|quality| length.map_or(quality, |length| (length + quality) / 2.0)),
    }
}

/// An index below `n`, determined by the chosen document's seed and so by the run's seed and the instruction.
fn draw(chosen: &Record, n: usize) -> Option<usize> {
    let mut hash = blake3::Hasher::new_derive_key("longhand preference pairs v1");
    hash.update(chosen.provenance.seed.as_bytes()).update(chosen.id.as_bytes());
    let mut bytes = [0; 8];
    hash.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes).checked_rem(n as u64).map(|index| index as usize)
}

fn split(record: &Record) -> Option<(&[Message], &Message)> {
    record.messages.split_last().map(|(last, earlier)| (earlier, last))
}

fn answer(record: &Record) -> Option<&Message> {
    split(record).map(|(_, last)| last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::record::{RejectionRecord, SectionRecord};
    use crate::corpus::tests::{document, run};
    use crate::domain::language::Language;
    use crate::domain::recipe::Recipe;

    /// Candidates of one instruction with S_l and S_q.
    fn candidates(scores: &[(Option<f64>, Option<f64>)]) -> Vec<Record> {
        let of = |(at, (length, quality)): (usize, &(Option<f64>, Option<f64>))| {
            let mut record = Record::of(&document(at as u32, Language::En, 1), &run(), &Recipe::default()).unwrap();
            (record.score_length, record.score_quality) = (*length, *quality);
            record.messages = vec![
                Message { role: "user".into(), content: "Write.".into() },
                Message { role: "assistant".into(), content: format!("Text {at}.") },
            ];
            record
        };
        scores.iter().enumerate().map(of).collect()
    }

    fn pair(criterion: PairCriterion, scores: &[(Option<f64>, Option<f64>)]) -> Option<(String, String)> {
        let row = row(criterion, &candidates(scores))?;
        let text = |key: &str| row[key][0]["content"].as_str().unwrap().to_owned();
        Some((text("chosen"), text("rejected")))
    }

    #[test]
    fn a_pair_has_the_form_that_trl_reads() {
        let row = row(PairCriterion::Length, &candidates(&[(Some(60.0), None), (Some(90.0), None)])).unwrap();
        assert_eq!(row["prompt"], json!([{ "role": "user", "content": "Write." }]));
        assert_eq!(row["chosen"], json!([{ "role": "assistant", "content": "Text 1." }]));
        assert_eq!(row["rejected"], json!([{ "role": "assistant", "content": "Text 0." }]));
        assert_eq!((&row["score_chosen"], &row["score_rejected"]), (&json!(90.0), &json!(60.0)));
    }

    #[test]
    fn the_best_is_chosen_by_the_score_that_is_asked_for() {
        let scores = [(Some(100.0), Some(20.0)), (Some(50.0), Some(90.0))];
        let texts = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(pair(PairCriterion::Length, &scores), texts("Text 0.", "Text 1."));
        assert_eq!(pair(PairCriterion::Quality, &scores), texts("Text 1.", "Text 0."));
        assert_eq!(pair(PairCriterion::Both, &scores), texts("Text 1.", "Text 0."), "60 against 70");
        assert_eq!(pair(PairCriterion::Both, &[(Some(100.0), None), (Some(50.0), None)]), texts("Text 0.", "Text 1."));
        assert_eq!(pair(PairCriterion::Both, &[(None, Some(30.0)), (None, Some(40.0))]), texts("Text 1.", "Text 0."));
    }

    #[test]
    fn without_a_better_one_there_is_no_pair() {
        assert_eq!(pair(PairCriterion::Length, &[(Some(90.0), None)]), None);
        assert_eq!(pair(PairCriterion::Length, &[(Some(90.0), None), (Some(90.0), None)]), None);
        assert_eq!(pair(PairCriterion::Quality, &[(Some(90.0), None), (Some(80.0), None)]), None, "nothing was judged");
        let unread = [(Some(100.0), None), (Some(50.0), Some(50.0)), (Some(60.0), Some(50.0))];
        assert_eq!(
            pair(PairCriterion::Both, &unread),
            Some(("Text 2.".into(), "Text 1.".into())),
            "the first has no valid vote"
        );
        assert_eq!(pair(PairCriterion::Both, &[]), None);
    }

    #[test]
    fn the_rejected_one_is_drawn_from_all_that_scored_less_and_the_draw_repeats() {
        let all = candidates(&[(Some(50.0), None), (Some(90.0), None), (Some(60.0), None), (Some(70.0), None)]);
        let mut drawn = std::collections::HashSet::new();
        for seed in 0..64 {
            let mut all = all.clone();
            all[1].provenance.seed = seed.to_string();
            let pair = row(PairCriterion::Length, &all).unwrap();
            assert_eq!(pair, row(PairCriterion::Length, &all).unwrap());
            drawn.insert(pair["rejected"][0]["content"].as_str().unwrap().to_owned());
        }
        assert_eq!(drawn.len(), 3, "{drawn:?}");
    }

    #[test]
    fn a_section_and_its_draft_are_a_pair_behind_the_same_text() {
        let mut record = candidates(&[(None, None)]).remove(0);
        let section = record.sections[0].clone();
        let draft = |rule: &str, text: Option<&str>| RejectionRecord {
            rule: rule.into(),
            value: 1.0,
            threshold: 0.0,
            attempt: 1,
            generated: 9,
            text: text.map(str::to_owned),
        };
        record.sections = [
            ("One.", vec![]),
            ("Two.", vec![draft("residue", Some("Bad.")), draft("too_short", None), draft("residue", Some("Two."))]),
        ]
        .map(|(text, rejections)| SectionRecord { text: text.into(), rejections, ..section.clone() })
        .to_vec();
        let pairs = section_pairs(&record);
        assert_eq!(pairs.len(), 1, "neither a draft without its text nor the one that was taken");
        assert_eq!(pairs[0]["prompt"], json!([{ "role": "user", "content": "Write." }]));
        assert_eq!(pairs[0]["chosen"], json!([{ "role": "assistant", "content": "One.\n\nTwo." }]));
        assert_eq!(pairs[0]["rejected"], json!([{ "role": "assistant", "content": "One.\n\nBad." }]));
        assert_eq!((&pairs[0]["section"], &pairs[0]["rule"]), (&json!(2), &json!("residue")));
    }
}

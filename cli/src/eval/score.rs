//! The results of the prompts, scored and grouped.

use std::collections::BTreeMap;

use longhand_command::output::{grouped, table};
use longhand_coordinator::domain::document::{Document, Progress};
use longhand_coordinator::domain::judge;
use longhand_coordinator::domain::language::Language;
use longhand_coordinator::domain::recipe::{Method, Recipe};
use longhand_coordinator::domain::state::State;
use longhand_coordinator::text::filter::score_length;
use longhand_proto::task::ModelInfo;
use longhand_proto::words;
use serde::{Deserialize, Serialize};

use super::bootstrap::{self, Mean};
use super::yields::Yield;

/// The name of a method's run and folder.
pub(super) const fn method_name(method: Method) -> &'static str {
    match method {
        Method::Direct => "direct",
        Method::AgentWrite => "agentwrite",
    }
}

/// The result of one prompt with one method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Case {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) language: Language,
    pub(super) asked: u32,
    /// Words written; 0 if the text failed.
    pub(super) written: u32,
    pub(super) score_length: f64,
    /// None if it was not judged, or no vote could be parsed.
    pub(super) score_quality: Option<f64>,
    pub(super) unread_votes: usize,
    /// Why there is no text; otherwise empty.
    pub(super) failed: String,
    /// Zeros in a report of an earlier version.
    #[serde(default, rename = "yield")]
    pub(super) yields: Yield,
}

impl Case {
    /// The result of a document that has ended.
    pub(super) fn of(state: State, document: &Document, recipe: &Recipe) -> Self {
        let asked = document.instruction.required_words.unwrap_or(0);
        let (written, failed) = match &document.progress {
            Progress::Finished { text, .. } => (u32::try_from(words::count(text)).unwrap_or(u32::MAX), String::new()),
            Progress::Failed { class, .. } => (0, class.clone()),
            Progress::Planning { .. }
            | Progress::Writing { .. }
            | Progress::Summarising { .. }
            | Progress::Judging { .. }
            | Progress::Cancelled { .. } => (0, state.as_str().to_owned()),
        };
        Self {
            id: document.instruction.id.clone().unwrap_or_default(),
            kind: None,
            language: document.instruction.language,
            asked,
            written,
            score_length: score_length(asked, written),
            score_quality: judge::score_quality(document.votes()),
            unread_votes: judge::unread(document.votes()),
            failed,
            yields: Yield::of(document, recipe),
        }
    }
}

/// How the prompts are grouped in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouping {
    /// The paper's four bins.
    Bins,
    /// Each requested length.
    Lengths,
}

/// The paper's bins: minimum and maximum of the requested words, and the notation there.
const BINS: [(u32, u32, &str); 4] =
    [(0, 499, "[0, 500)"), (500, 1_999, "[500, 2k)"), (2_000, 3_999, "[2k, 4k)"), (4_000, 20_000, "[4k, 20k]")];
/// From this length on, models without training for long texts fall behind.
const LONG: u32 = 2_000;

/// All results of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) weights_hash: String,
    pub(super) seed: u64,
    pub(super) prompts: usize,
    pub(super) left_out: usize,
    pub(super) methods: Vec<MethodReport>,
    /// S_l with AgentWrite minus S_l of the direct text of the same prompt; empty unless both were measured.
    pub(super) gain: Vec<Gain>,
    /// With `--against`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) against: Vec<Comparison>,
}

/// How one quantity of one method compares over the prompts that both evaluations have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Comparison {
    pub(super) method: String,
    pub(super) quantity: &'static str,
    /// Prompts where this evaluation is better.
    pub(super) wins: u64,
    pub(super) losses: u64,
    pub(super) ties: u64,
    /// Two-sided p of the sign test: the chance of so uneven a result if both were equally good.
    pub(super) p: f64,
}

/// The results of one method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MethodReport {
    pub(super) method: String,
    pub(super) failed: usize,
    pub(super) unread_votes: usize,
    /// None in a report of an earlier version.
    #[serde(default, rename = "yield")]
    pub(super) yields: Option<YieldReport>,
    pub(super) groups: Vec<Group>,
    pub(super) cases: Vec<Case>,
}

/// What a method's texts cost and how clean they are, over all prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct YieldReport {
    /// Per cent of the prompts whose text the recipe's rules accept.
    pub(super) accepted: Mean,
    /// Tokens generated for all prompts, for each word of an accepted text; none if nothing is accepted.
    pub(super) tokens_per_word: Option<Mean>,
    /// Sections written again, in 100; none without sections.
    pub(super) rewritten: Option<Mean>,
    /// Per cent of the runs of eight words that stood in the text before; none without a text.
    pub(super) repeated: Option<Mean>,
    /// Places that echo the prompt or talk about the text, in 10,000 words; none without a text.
    pub(super) talk: Option<Mean>,
    /// Rejected texts by rule.
    pub(super) rejected: BTreeMap<String, u64>,
}

/// The mean results of a group of prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) by: String,
    pub(super) name: String,
    pub(super) asked: f64,
    pub(super) written: f64,
    pub(super) score_length: Mean,
    pub(super) score_quality: Option<Mean>,
    /// Mean of the two scores, where there are both.
    pub(super) score: Option<f64>,
}

/// The mean gain of AgentWrite over direct texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Gain {
    pub(super) name: String,
    pub(super) score_length: Mean,
}

impl Report {
    /// The report on the cases of each method.
    pub(super) fn new(
        methods: Vec<(Method, Vec<Case>)>,
        grouping: Grouping,
        seed: u64,
        model: &ModelInfo,
        left_out: usize,
    ) -> Self {
        let gain = match methods.as_slice() {
            [(Method::Direct, direct), (Method::AgentWrite, ours)] => gain(direct, ours, seed),
            _ => Vec::new(),
        };
        Self {
            model: model.name.clone(),
            weights_hash: model.weights_hash.clone(),
            seed,
            prompts: methods.first().map_or(0, |(_, cases)| cases.len()),
            left_out,
            methods: methods
                .into_iter()
                .map(|(method, cases)| MethodReport::of(method, cases, grouping, seed))
                .collect(),
            gain,
            against: Vec::new(),
        }
    }

    /// Number of failed texts.
    pub(super) fn failed(&self) -> usize {
        self.methods.iter().map(|method| method.failed).sum()
    }

    /// The tables, for people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} prompts, model {}", grouped(self.prompts as u64), self.model);
        if self.left_out > 0 {
            text.push_str(&format!("; {} skipped because they request more words", grouped(self.left_out as u64)));
        }
        text.push('\n');
        for method in &self.methods {
            text.push_str(&format!("\n{}\n", method.text()));
        }
        if !self.gain.is_empty() {
            let mut rows = vec![["agentwrite - direct", "n", "S_l", "95 %"].map(str::to_owned).to_vec()];
            for Gain { name, score_length: it } in &self.gain {
                rows.push(vec![name.clone(), it.n.to_string(), format!("{:+.1}", it.mean), interval(it)]);
            }
            text.push_str(&format!("\n{}", table(&rows)));
        }
        text
    }
}

fn interval(mean: &Mean) -> String {
    format!("{:.1} to {:.1}", mean.low, mean.high)
}

/// For all prompts, and for those with a long requested length.
fn gain(direct: &[Case], ours: &[Case], seed: u64) -> Vec<Gain> {
    let of = |name: &str, least: u32| {
        let pairs = direct.iter().zip(ours).filter(|(direct, _)| direct.asked >= least);
        let gains: Vec<f64> = pairs.map(|(direct, ours)| ours.score_length - direct.score_length).collect();
        let score_length = bootstrap::mean(&gains, seed, &format!("gain {name}"))?;
        Some(Gain { name: name.to_owned(), score_length })
    };
    [of("all", 0), of("2,000 words or more", LONG)].into_iter().flatten().collect()
}

impl MethodReport {
    fn of(method: Method, cases: Vec<Case>, grouping: Grouping, seed: u64) -> Self {
        let method = method_name(method);
        let mut groups = Vec::new();
        let mut add = |by, name: &str, belongs: &dyn Fn(&Case) -> bool| {
            let cases: Vec<&Case> = cases.iter().filter(|case| belongs(case)).collect();
            groups.extend(Group::of(by, name, &cases, seed, method));
        };
        add("", "all", &|_| true);
        match grouping {
            Grouping::Bins => {
                for (least, most, name) in BINS {
                    add("length", name, &|case| (least..=most).contains(&case.asked));
                }
                add("length", "over 20k", &|case| case.asked > 20_000);
            }
            Grouping::Lengths => {
                let mut lengths: Vec<u32> = cases.iter().map(|case| case.asked).collect();
                lengths.sort_unstable();
                lengths.dedup();
                for length in lengths {
                    add("length", &grouped(length.into()), &|case| case.asked == length);
                }
            }
        }
        add("length", "2k and more", &|case| case.asked >= LONG);
        for (language, name) in [(Language::En, "English"), (Language::Zh, "Chinese")] {
            add("language", name, &|case| case.language == language);
        }
        let mut kinds: Vec<String> = cases.iter().filter_map(|case| case.kind.clone()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in &kinds {
            add("type", kind, &|case| case.kind.as_ref() == Some(kind));
        }
        let failed = cases.iter().filter(|case| !case.failed.is_empty()).count();
        let unread_votes = cases.iter().map(|case| case.unread_votes).sum();
        let yields = YieldReport::of(&cases, seed, method);
        Self { method: method.to_owned(), failed, unread_votes, yields, groups, cases }
    }

    fn text(&self) -> String {
        let judged = self.groups.iter().any(|group| group.score_quality.is_some());
        let mut head = vec![self.method.clone()];
        head.extend(["n", "requested", "written", "S_l", "95 %"].map(str::to_owned));
        if judged {
            head.extend(["S_q", "95 %", "S"].map(str::to_owned));
        }
        let mut rows = vec![head];
        let mut by = "";
        for group in &self.groups {
            if group.by != by {
                by = &group.by;
                rows.push(vec![format!("by {by}")]);
            }
            let indent = if by.is_empty() { "" } else { "  " };
            let mut row = vec![
                format!("{indent}{}", group.name),
                group.score_length.n.to_string(),
                grouped(group.asked.round() as u64),
                grouped(group.written.round() as u64),
                format!("{:.1}", group.score_length.mean),
                interval(&group.score_length),
            ];
            if judged {
                let quality = group.score_quality.as_ref();
                row.push(quality.map_or("-".to_owned(), |it| format!("{:.1}", it.mean)));
                row.push(quality.map_or("-".to_owned(), interval));
                row.push(group.score.map_or("-".to_owned(), |score| format!("{score:.1}")));
            }
            rows.push(row);
        }
        let mut text = table(&rows);
        if let Some(yields) = &self.yields {
            text.push_str(&format!("\n{}", yields.text(&self.method)));
        }
        if self.failed > 0 {
            let failed = self.cases.iter().filter(|case| !case.failed.is_empty());
            let names: Vec<String> = failed.map(|case| format!("{} ({})", case.id, case.failed)).collect();
            text.push_str(&format!("{} failed and count as 0 words: {}\n", self.failed, names.join(", ")));
        }
        if self.unread_votes > 0 {
            text.push_str(&format!("{} votes of the judge could not be parsed\n", grouped(self.unread_votes as u64)));
        }
        text
    }
}

impl YieldReport {
    /// None without cases.
    fn of(cases: &[Case], seed: u64, method: &str) -> Option<Self> {
        let over = |what: &str, value: &dyn Fn(&Case) -> (f64, f64)| {
            let values: Vec<(f64, f64)> = cases.iter().map(value).collect();
            bootstrap::ratio(&values, seed, &format!("{method} {what}"))
        };
        let mut rejected = BTreeMap::new();
        for case in cases.iter().filter(|case| !case.yields.rule.is_empty()) {
            *rejected.entry(case.yields.rule.clone()).or_default() += 1;
        }
        let accepted = |case: &Case| f64::from(u8::from(case.yields.accepted));
        Some(Self {
            accepted: over("accepted", &|case| (100.0 * accepted(case), 1.0))?,
            tokens_per_word: over("tokens", &|case| {
                (case.yields.generated as f64, accepted(case) * f64::from(case.written))
            }),
            rewritten: over("rewritten", &|case| {
                (100.0 * f64::from(case.yields.rewritten), f64::from(case.yields.sections))
            }),
            repeated: over("repeated", &|case| {
                (100.0 * case.yields.repeated * f64::from(case.written), f64::from(case.written))
            }),
            talk: over("talk", &|case| (10_000.0 * case.yields.talk, f64::from(case.written))),
            rejected,
        })
    }

    fn text(&self, method: &str) -> String {
        let mut rows = vec![[&format!("{method}, yield"), "", "95 %"].map(str::to_owned).to_vec()];
        let mut add = |name: &str, mean: Option<&Mean>| {
            let (value, range) = match mean {
                Some(it) => (format!("{:.1}", it.mean), interval(it)),
                None => ("-".to_owned(), "-".to_owned()),
            };
            rows.push(vec![name.to_owned(), value, range]);
        };
        add("accepted by the recipe's rules, %", Some(&self.accepted));
        add("tokens per accepted word", self.tokens_per_word.as_ref());
        add("sections written again, of 100", self.rewritten.as_ref());
        add("8-grams that stood there before, %", self.repeated.as_ref());
        add("echoes and talk in 10,000 words", self.talk.as_ref());
        let mut text = table(&rows);
        if !self.rejected.is_empty() {
            let rules = self.rejected.iter().map(|(rule, count)| format!("{rule} {count}"));
            text.push_str(&format!("rejected by {}\n", rules.collect::<Vec<_>>().join(", ")));
        }
        text
    }
}

impl Group {
    /// None for a group without cases.
    fn of(by: &'static str, name: &str, cases: &[&Case], seed: u64, method: &str) -> Option<Self> {
        let draw = |what: &str| format!("{method} {by} {name} {what}");
        let lengths: Vec<f64> = cases.iter().map(|case| case.score_length).collect();
        let qualities: Vec<f64> = cases.iter().filter_map(|case| case.score_quality).collect();
        let mean =
            |of: &dyn Fn(&Case) -> u32| cases.iter().map(|case| f64::from(of(case))).sum::<f64>() / cases.len() as f64;
        let score_length = bootstrap::mean(&lengths, seed, &draw("S_l"))?;
        let score_quality = bootstrap::mean(&qualities, seed, &draw("S_q"));
        Some(Self {
            by: by.to_owned(),
            name: name.to_owned(),
            asked: mean(&|case| case.asked),
            written: mean(&|case| case.written),
            score: score_quality.map(|quality| (score_length.mean + quality.mean) / 2.0),
            score_length,
            score_quality,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn case(id: &str, kind: &str, language: Language, asked: u32, written: u32, quality: Option<f64>) -> Case {
        Case {
            id: id.into(),
            kind: Some(kind.into()),
            language,
            asked,
            written,
            score_length: score_length(asked, written),
            score_quality: quality,
            unread_votes: usize::from(quality.is_none()),
            failed: if written == 0 { "bad_plan".into() } else { String::new() },
            yields: Yield {
                accepted: written == asked,
                rule: if written == asked || written == 0 { String::new() } else { "score_length".into() },
                generated: 2 * u64::from(asked),
                sections: 2,
                rewritten: 1,
                repeated: 0.01,
                talk: 1.0,
            },
        }
    }

    pub(in super::super) fn report(grouping: Grouping) -> Report {
        let ours = vec![
            case("1", "News", Language::En, 400, 400, Some(60.0)),
            case("2", "News <b>", Language::Zh, 2_000, 2_200, Some(80.0)),
            case("3", "Story", Language::En, 20_000, 0, None),
        ];
        let direct = vec![
            case("1", "News", Language::En, 400, 800, Some(50.0)),
            case("2", "News <b>", Language::Zh, 2_000, 1_000, Some(50.0)),
            case("3", "Story", Language::En, 20_000, 2_000, Some(50.0)),
        ];
        let model = ModelInfo { name: "tiny".into(), ..ModelInfo::default() };
        Report::new(vec![(Method::Direct, direct), (Method::AgentWrite, ours)], grouping, 1, &model, 2)
    }

    fn group<'a>(report: &'a Report, name: &str) -> &'a Group {
        report.methods[1].groups.iter().find(|group| group.name == name).unwrap()
    }

    #[test]
    fn a_failed_text_lowers_the_score_and_is_listed() {
        let report = report(Grouping::Bins);
        let all = group(&report, "all");
        assert!((all.score_length.mean - (100.0 + 96.667 + 0.0) / 3.0).abs() < 0.01);
        assert_eq!(all.score_quality.unwrap().mean, 70.0, "mean of the judged texts");
        assert_eq!(all.score, Some((all.score_length.mean + 70.0) / 2.0));
        assert_eq!(report.failed(), 1);
        let text = report.text();
        assert!(text.contains("1 failed and count as 0 words: 3 (bad_plan)"), "{text}");
        assert!(text.contains("2 skipped because they request more words"), "{text}");
        assert!(text.contains("1 votes of the judge could not be parsed"), "{text}");
    }

    #[test]
    fn the_yield_counts_all_tokens_and_the_words_of_accepted_texts() {
        let report = report(Grouping::Bins);
        let yields = report.methods[1].yields.as_ref().unwrap();
        assert!((yields.accepted.mean - 100.0 / 3.0).abs() < 1e-9);
        // 2 tokens for each of 22,400 requested words, and 400 words accepted.
        assert_eq!(yields.tokens_per_word.unwrap().mean, 112.0);
        assert_eq!((yields.rewritten.unwrap().mean, yields.repeated.unwrap().mean), (50.0, 1.0));
        assert_eq!(yields.rejected, [("score_length".to_owned(), 1)].into());
        let text = report.text();
        assert!(text.contains("tokens per accepted word") && text.contains("rejected by score_length 1"), "{text}");
    }

    #[test]
    fn bins_have_the_bounds_of_the_paper() {
        let bin = |asked: u32| {
            BINS.iter().find(|(least, most, _)| (*least..=*most).contains(&asked)).map(|(_, _, name)| *name)
        };
        let ends = [(499, 0), (500, 1), (1_999, 1), (2_000, 2), (3_999, 2), (4_000, 3), (20_000, 3)];
        assert!(ends.iter().all(|(asked, place)| bin(*asked) == Some(BINS[*place].2)));
        let report = report(Grouping::Bins);
        assert_eq!(group(&report, "[4k, 20k]").score_length.mean, 0.0);
        assert_eq!((group(&report, "English").score_length.n, group(&report, "News").score_length.n), (2, 1));
    }

    #[test]
    fn the_ruler_has_a_row_for_each_length_and_the_gain_is_paired_by_prompt() {
        let report = report(Grouping::Lengths);
        assert_eq!(group(&report, "2,000").asked, 2_000.0);
        let long = &report.gain[1];
        assert_eq!((long.name.as_str(), long.score_length.n), ("2,000 words or more", 2));
        // Direct texts: 1,000 of 2,000 words is 50, 2,000 of 20,000 is 0.
        assert!((long.score_length.mean - (96.667 - 50.0) / 2.0).abs() < 0.01);
    }
}

//! Whether a plan is worth writing from: its lines make points, each its own, about what was asked for.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::{filter, shingles};
use crate::domain::instruction::Instruction;
use crate::domain::language::Language;
use crate::domain::plan::{Plan, PlanError, Step};
use crate::domain::recipe::PlanRules;

/// A line has at most so many times the words of a mean one.
const MAX_PROPORTION: f64 = 4.0;
/// Letters that words are compared by, so that "road" and "roads" are one, and "describe" and "description" nearly.
const STEM_LETTERS: usize = 5;
/// A text of fewer words has no subject to speak of.
const MIN_SUBJECT_WORDS: usize = 2;

/// What stands where a point should: counts, brackets to fill in, the form's own words.
static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)\[[^\]]*\]|<[^>]*>|\{[^}]*\}|【[^】]*】|\d+",
        r"|\b(?:main|point|points|words?|word count|sentences?|paragraphs?|sections?|part|count|tbd|todo|n/?a|xxx+|nnn)\b",
        r"|主要内容|段落|字数|部分|句子|待定|[字词句段章节第]",
    ))
    .expect("a constant pattern, compiled by the tests")
});

/// The form of a line, where it stands in a line's point.
static FORM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\bmain point\b|\bword count\b|\bparagraph \d+\s*[-–—]|主要内容\s*[:：]|字数\s*[:：]")
        .expect("a constant pattern, compiled by the tests")
});

/// A line on the text as a whole: what it is to show, not what stands in it. The first may say so.
static ABOUT_THE_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^(?:this|the) (?:whole |entire )?(?:essay|article|story|text|paper|report|piece|novel|post) (?:as a whole )?",
        r"(?:aims|shows|explores|reveals|demonstrates|highlights|illustrates|is about|serves)\b",
        r"|^(?:本文|本篇|全文|这篇|整篇|整个故事|这个故事)",
    ))
    .expect("a constant pattern, compiled by the tests")
});

/// A line for sources or thanks, which a model can only make up.
static APPENDIX: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^\W*(?:list of )?(?:references|bibliography|works cited|sources|acknowledge?ments?|appendi(?:x|ces))",
        r"(?: and (?:references|sources|acknowledge?ments?|further reading))?(?: (?:section|list))?\W*$",
        r"|^\W*(?:参考文献|参考资料|致谢|附录)(?:列表)?\W*$",
    ))
    .expect("a constant pattern, compiled by the tests")
});

/// Words of requests and of plans, not of subjects.
const STOP_WORDS: &[&str] = &[
    "about",
    "also",
    "article",
    "chapter",
    "could",
    "create",
    "describe",
    "detail",
    "detailed",
    "discuss",
    "each",
    "essay",
    "explain",
    "explore",
    "from",
    "have",
    "include",
    "including",
    "introduce",
    "introduction",
    "into",
    "length",
    "long",
    "make",
    "more",
    "must",
    "overview",
    "paper",
    "please",
    "report",
    "should",
    "story",
    "that",
    "their",
    "them",
    "then",
    "there",
    "these",
    "they",
    "this",
    "those",
    "three",
    "topic",
    "using",
    "well",
    "what",
    "when",
    "where",
    "which",
    "will",
    "with",
    "word",
    "words",
    "would",
    "write",
    "writing",
    "your",
];

/// Of so many lines one may make the point of another: it is left out. With more the plan is at fault. A small model that is
/// asked for thirty lines has twenty points.
const TWINS: usize = 2;
/// Least share of a Chinese line's pairs of characters that stand in no line before it. "的战斗，是对勇气的考验" says nothing
/// after "的战斗，是对力量的考验", though a third of it is its own.
const MIN_NEW: f64 = 0.35;

/// The plan without the lines that make the point of an earlier one, and those for sources and thanks that nobody asked for.
///
/// # Errors
/// The first fault of the plan, in words for the model that is asked for another one:
/// [`PlanError::Placeholder`], [`PlanError::Duplicate`], [`PlanError::Proportion`] or [`PlanError::Subject`].
pub fn check(plan: Plan, instruction: &Instruction, rules: &PlanRules) -> Result<Plan, PlanError> {
    for (index, step) in plan.steps.iter().enumerate() {
        if shingles::word_count(&PLACEHOLDER.replace_all(&step.main_point, " ")) == 0 {
            return Err(PlanError::Placeholder { line: index + 1, text: step.main_point.clone() });
        }
    }
    let points: Vec<HashSet<String>> = plan.steps.iter().map(|step| words(&step.main_point)).collect();
    let same = |one: usize, other: usize| {
        plan.steps[one].main_point.eq_ignore_ascii_case(&plan.steps[other].main_point)
            || similarity(&points[one], &points[other]) > rules.max_similarity.into()
    };
    let is_chinese = instruction.language == Language::Zh;
    // A line of the prompt makes no point either, nor does the form of another line within one.
    let twin_of = |index: usize| {
        let point = plan.steps[index].main_point.as_str();
        let is_about_text = index > 0 && ABOUT_THE_TEXT.is_match(point);
        let makes_none = is_about_text || FORM.is_match(point) || filter::echoes(point, instruction);
        let twin = || (0..index).find(|before| same(*before, index));
        let nearest = |before: &usize| points[*before].intersection(&points[index]).count();
        let says_nothing_new =
            || (0..index).rev().max_by_key(nearest).filter(|_| is_chinese && !is_new(&points, index));
        makes_none.then_some(index).or_else(twin).or_else(says_nothing_new)
    };
    let twins: Vec<(usize, usize)> = (0..points.len()).filter_map(|index| Some((index, twin_of(index)?))).collect();
    if let Some((line, first)) = twins.first().filter(|_| twins.len() * TWINS > points.len()) {
        return Err(match line == first {
            true => PlanError::Placeholder { line: line + 1, text: plan.steps[*line].main_point.clone() },
            false => PlanError::Duplicate { line: line + 1, first: first + 1 },
        });
    }
    let mean = plan.words() as f64 / plan.steps.len().max(1) as f64;
    let long = plan.steps.iter().position(|step| f64::from(step.words) > MAX_PROPORTION * mean);
    if let Some(index) = long {
        let (line, words, mean) = (index + 1, plan.steps[index].words, mean.round() as u32);
        return Err(PlanError::Proportion { line, words, mean });
    }
    let subject = words(&instruction.text());
    let on_subject = points.iter().filter(|point| !point.is_disjoint(&subject)).count();
    if subject.len() >= MIN_SUBJECT_WORDS && (on_subject as f64) < f64::from(rules.min_on_subject) * points.len() as f64
    {
        return Err(PlanError::Subject { lines: points.len(), on_subject });
    }
    let mut steps = plan.steps;
    for (index, _) in twins.iter().rev() {
        steps.remove(*index);
    }
    let request = instruction.text().to_lowercase();
    let made_up = |step: &Step| {
        APPENDIX.is_match(&step.main_point) && !request.contains(step.main_point.trim().to_lowercase().as_str())
    };
    if !steps.iter().all(made_up) {
        steps.retain(|step| !made_up(step));
    }
    Ok(Plan { steps })
}

/// The stems of the words that carry meaning, and the pairs of neighbouring Chinese characters.
fn words(text: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    let text = text.to_lowercase();
    for run in text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()) {
        let letters: Vec<char> = run.chars().collect();
        if letters.iter().any(|c| shingles::is_ideograph(*c)) {
            found.extend(letters.windows(2).map(|pair| pair.iter().collect()));
        } else if letters.len() > 3 && !STOP_WORDS.contains(&run) {
            found.insert(letters.into_iter().take(STEM_LETTERS).collect());
        }
    }
    found
}

/// True if enough of the point at `index` stands in no point before it.
fn is_new(points: &[HashSet<String>], index: usize) -> bool {
    let new = points[index].iter().filter(|word| !points[..index].iter().any(|point| point.contains(*word))).count();
    new as f64 >= MIN_NEW * points[index].len() as f64
}

/// Share of the words of either that are words of both.
fn similarity(one: &HashSet<String>, other: &HashSet<String>) -> f64 {
    let both = one.intersection(other).count();
    both as f64 / (one.len() + other.len() - both).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(request: &str, points: &[(&str, u32)]) -> Result<usize, PlanError> {
        let instruction = Instruction {
            id: None,
            messages: vec![longhand_proto::task::Message { role: "user".into(), content: request.into() }],
            language: crate::domain::language::detect(request),
            required_words: None,
            context: Vec::new(),
            metadata: serde_json::Map::new(),
            line: 1,
        };
        let steps = points.iter().map(|(point, words)| Step { main_point: (*point).into(), words: *words }).collect();
        check(Plan { steps }, &instruction, &PlanRules::default()).map(|plan| plan.steps.len())
    }

    #[test]
    fn a_plan_that_says_something_is_taken() {
        let roads = [
            ("Why the first roads out of Rome were built for its army", 300),
            ("How surveyors laid out a straight line with a groma", 200),
            ("Layers of sand, gravel and stone beneath the paving", 400),
            ("Who paid for the upkeep of the roads in the provinces", 900),
        ];
        assert_eq!(checked("Write 2,000 words about Roman roads.", &roads), Ok(4));
        let harbour = [("港口的由来与早期渔民的生活", 300), ("铁路修通之后货运的增长", 300), ("今天的港口与游客", 300)];
        assert_eq!(checked("写一篇关于港口历史的文章，三千字。", &harbour), Ok(3));
        assert_eq!(checked("Go on.", &[("How bees find their way home", 300)]), Ok(1), "no subject to speak of");
    }

    #[test]
    fn counts_and_blanks_are_no_points() {
        for point in [
            "36 Words | Sentence: 37 Words | Paragraph 1: 8 Words",
            "[Main point of this paragraph]",
            "TBD",
            "段落1：主要内容",
        ] {
            let found = checked("Write about Roman roads.", &[("The first Roman roads", 300), (point, 300)]);
            assert_eq!(found, Err(PlanError::Placeholder { line: 2, text: point.into() }), "{point}");
        }
    }

    #[test]
    fn lines_that_say_the_same_are_found() {
        let same = [
            ("The importance of regular exercise for a healthy heart", 300),
            ("What swimming does for the joints", 300),
            ("Regular exercise and its importance for healthy hearts", 300),
        ];
        assert_eq!(checked("Write about exercise.", &same), Ok(2), "the last of three is left out");
        let twice = [same[0], same[2], same[0], same[1]];
        assert_eq!(checked("Write about exercise.", &twice), Ok(2), "half of them");
        let thrice = [same[0], same[2], same[0]];
        assert_eq!(checked("Write about exercise.", &thrice), Err(PlanError::Duplicate { line: 2, first: 1 }));
        let near =
            [("运动对心脏健康的重要性", 300), ("运动对于心脏健康的重要性", 300), ("运动对于心脏的健康的重要性", 300)];
        assert_eq!(checked("写一写运动和健康。", &near), Err(PlanError::Duplicate { line: 2, first: 1 }));
        let mut long = same.to_vec();
        long.extend([("What to eat before a run", 300), ("Exercise at work and on the way there", 300)]);
        long.extend([("When exercise does harm", 300), ("Exercise in old age", 300), ("Sleep after exercise", 300)]);
        assert_eq!(checked("Write about exercise.", &long), Ok(7), "one of eight lines is left out");
        let others = [("The economy of Spain after the war", 300), ("The culture of Spain after the war", 300)];
        assert_eq!(checked("Write about Spain after the war.", &others), Ok(2));
    }

    #[test]
    fn chinese_lines_that_say_nothing_new_are_left_out() {
        let lines = [
            ("两个门派在海上的第一次交锋", 300),
            ("这场战斗不仅是个人的较量，更是对力量的考验", 300),
            ("老渔夫在风暴中救起受伤的少年", 300),
            ("少年在岛上学会看星星和修船", 300),
            ("这场战斗不仅是力量的较量，更是对勇气的考验", 300),
            ("他驾着修好的船回到故乡的港口", 300),
        ];
        assert_eq!(checked("写一个门派战斗和少年成长的故事。", &lines), Ok(5));
        let report = [("伟人的理论创新与实践探索", 300), ("伟人的晚年生活", 300), ("伟人的国际影响", 300)];
        assert_eq!(checked("写一篇关于伟人的读书报告。", &report), Ok(3));
    }

    #[test]
    fn lines_about_the_text_are_left_out_but_for_the_first() {
        let lines = [
            ("本文介绍港口的由来", 300),
            ("早期渔民的生活与船", 300),
            ("本文旨在展示港口的变化和意义", 300),
            ("铁路修通之后货运的增长", 300),
        ];
        assert_eq!(checked("写一篇关于港口历史的文章。", &lines), Ok(3));
        let lines = [
            ("The harbour before the railway", 300),
            ("This essay shows how the harbour grew", 300),
            ("The crane", 300),
        ];
        assert_eq!(checked("Write about the harbour.", &lines), Ok(2));
    }

    #[test]
    fn lines_of_the_prompt_are_left_out() {
        let lines = [
            ("Why the first Roman roads were built", 300),
            ("How surveyors laid out a straight Roman road", 300),
            ("Who kept them up -_word Count: 100 words, Paragraph 11 -Main Point: Inns", 100),
            ("How milestones were set", 300),
            ("Each line brings something new. The first line opens the text, the last line closes it", 100),
        ];
        assert_eq!(checked("Write about Roman roads.", &lines), Ok(3));
        let most = [lines[0], lines[2], lines[4]];
        let text = lines[2].0.to_owned();
        assert_eq!(checked("Write about Roman roads.", &most), Err(PlanError::Placeholder { line: 2, text }));
    }

    #[test]
    fn lines_for_sources_are_left_out_unless_they_are_asked_for() {
        let lines = [("Why the first Roman roads were built", 300), ("Acknowledgments", 100), ("References", 100)];
        assert_eq!(checked("Write about Roman roads.", &lines), Ok(1));
        assert_eq!(checked("Write about Roman roads, with references.", &lines), Ok(2));
    }

    #[test]
    fn a_plan_about_something_else_or_out_of_proportion_is_refused() {
        let other = [("How to bake a loaf of bread", 300), ("Choosing flour and yeast", 300)];
        let refused = Err(PlanError::Subject { lines: 2, on_subject: 0 });
        assert_eq!(checked("Write about the Roman roads of Gaul.", &other), refused);
        let mut steps = vec![("The first Roman roads", 200); 1];
        let points =
            ["Gravel and stone", "Bridges over rivers", "Milestones", "Couriers on horseback", "Inns by night"];
        steps.extend(points.map(|point| (point, 200)));
        steps.push(("What became of it all", 1_000 * 2));
        let (line, words, mean) = (7, 2_000, 457);
        assert_eq!(checked("Write about Roman roads.", &steps), Err(PlanError::Proportion { line, words, mean }));
    }
}

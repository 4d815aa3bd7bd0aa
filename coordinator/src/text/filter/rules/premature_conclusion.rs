//! The rule about texts that conclude before their end.

use std::sync::LazyLock;

use regex::Regex;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::code::Fence;
use crate::text::filter::measure::excerpt;
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "premature_conclusion",
    key: "max_premature_conclusions",
    measures: "sections before the last that conclude",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

/// How a sentence begins that ends a text.
static SENTENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)^[*_\s]*(?:
            (?:and\s+so,?\s+|so,?\s+|thus,?\s+|finally,?\s+)?(?:in\s+conclusion|to\s+conclude|in\s+closing|to\s+sum\s+(?:it\s+all\s+)?up|in\s+summary|to\s+summari[sz]e)\b\s*[,:–—]
          | as\s+(?:we|i)\s+(?:conclude|come\s+to\s+the\s+end|reach\s+the\s+(?:end|conclusion)|draw\s+(?:this|our)\s+\w+\s+to\s+a\s+close)\b
          | (?:and\s+)?(?:they|she|he|we)\s+(?:all\s+)?lived\s+happily\s+ever\s+after
          | (?:and\s+)?(?:thus|so|with\s+that|here|this\s+is\s+how),?\s+(?:this|our|the|my)\s+(?:story|tale|journey|essay|article|report|guide)\s+(?:ends|concludes|comes\s+to\s+(?:an\s+end|a\s+close))
          | the\s+end\s*[.!]*\s*[*_]*$
          | (?:综上所述|总而言之|总之|综上|总的来说|总结来说|总结起来|一言以蔽之|最后总结一下)[，,：:]?
          | (?:故事|全文|文章|本文|报告)(?:就)?(?:到此|至此|到这里)(?:就)?(?:结束|为止|完)
          | (?:从此[，,]?)?(?:他|她|他们|她们|大家)(?:从此)?(?:幸福快乐地|过上了幸福|幸福地生活)
          | [（(【]?(?:全文完|全书完|全剧终|完结|剧终|完)[）)】]?[。！]?\s*$
        )",
    )
    .expect("a constant pattern, compiled by the tests")
});

static HEADING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)^(?:\#{1,6}\s+|\*\*)\W*(?:(?:[\divx]+|[一二三四五六七八九十]+)\s*[.、:：)]\s*)?(?:conclusions?|concluding\s+(?:remarks|thoughts)|final\s+(?:thoughts|words|remarks)|closing\s+(?:remarks|thoughts)|epilogue|the\s+end|结论|结语|总结|结束语|尾声|后记|全文总结)\s*[:：]?\s*(?:\*\*)?$",
    )
    .expect("a constant pattern, compiled by the tests")
});

/// Sections before the plan's last that end with a conclusion or have one for a heading.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let before = document.sections.iter().take(document.plan.steps.len().saturating_sub(1));
    let found: Vec<&str> = before.filter_map(|section| conclusion(&section.text)).collect();
    Some(Measure::count(found.len(), found.first().map(|line| excerpt(line))))
}

fn conclusion(text: &str) -> Option<&str> {
    let mut fence = Fence::default();
    let lines: Vec<&str> =
        text.lines().filter(|line| !fence.holds(line)).map(str::trim).filter(|line| !line.is_empty()).collect();
    let heading = lines.iter().copied().find(|line| HEADING.is_match(line));
    // In the middle of a section the words sum up an argument, not the text.
    heading.or_else(|| lines.last().and_then(|line| shingles::sentences(line).find(|it| SENTENCE.is_match(it))))
}

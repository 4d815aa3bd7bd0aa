//! The rule about a model that declines to write.

use std::sync::LazyLock;

use regex::Regex;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::measure::excerpt;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "refusal",
    key: "refusal",
    measures: "sections that begin with a refusal",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Switch(true),
    off: Threshold::Switch(false),
    range: Rule::SHARE,
    first_version: true,
    measure,
};

/// Openings of a refusal. A quotation mark before them makes them somebody's speech, which is no refusal; "I cannot
/// help but" is none either. An AI as a subject of the text ("As an AI researcher") is left alone.
static OPENING: LazyLock<Regex> = LazyLock::new(|| {
    let own = r"(?:i|we)\s+(?:can(?:no|['’])t|can not|(?:am|are) (?:not able|unable) to|won['’]?t|must decline to)|i['’]m (?:not able|unable) to";
    let act = r"(?:help (?:you|with)|assist|fulfil|comply|provide (?:you|that|this|any|information|content)|generate|produce (?:this|that|such|content)|create (?:this|that|such|content)|engage (?:in|with)|continue (?:this|that|with (?:this|that|your))|write (?:this|that|such|about|content|any)|complete (?:this|that|your)|answer|discuss)";
    let model =
        r"(?:an ai|a (?:large )?language model|an artificial intelligence)(?: language model| assistant| model)?";
    let sorry = r"(?:(?:i['’]m|i am|we['’]re|we are)\s+(?:very |so |really |truly )?(?:sorry|afraid)|sorry|i apologi[sz]e|my apologies|unfortunately)";
    let zh_sorry = r"(?:很|非常|十分|实在)?(?:抱歉|对不起|遗憾)";
    let zh_cannot = r"我(?:们)?(?:目前|暂时|现在)?(?:无法|不能|没法|没有办法|不便|不可以|不会)";
    let zh_act = r"(?:协助|帮助|提供|满足|完成|回答|生成|创作|撰写|继续|处理|讨论|参与|为[您你])";
    let zh_model =
        r"作为(?:一个|一名|一款|一位)?(?:ai|人工智能|大型?语言模型|语言模型)(?:语言模型|助手|模型|程序|系统)?";
    let pattern = format!(
        r"(?i)^[\s*_#>\-]*(?:{sorry}[\s,.:;—–-]*(?:but\s+)?(?:as {model}\b|(?:{own}|i (?:don['’]t|do not) (?:feel comfortable|have (?:access|the ability)))\b)|(?:{own})\s+{act}|as {model}\s*,?\s+(?:i|my)\b|i must (?:respectfully )?decline\b|it (?:is|would be|wouldn['’]t be|['’]s) (?:not |in)?appropriate for me to|{zh_sorry}[，,。！!、\s]*(?:但(?:是)?[，,]?)?(?:{zh_cannot}|{zh_model})|{zh_cannot}{zh_act}|{zh_model}\s*[，,]?\s*(?:我|无法|不能))"
    );
    Regex::new(&pattern).expect("a constant pattern, compiled by the tests")
});

/// Sections that begin with a refusal.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let texts = std::iter::once(document.text).chain(document.sections.iter().map(|section| section.text.as_str()));
    let found: Vec<&str> = texts.filter(|text| OPENING.is_match(text)).collect();
    // The document begins with its first section: where both match, that is one refusal.
    let document_and_first =
        document.sections.first().is_some_and(|s| OPENING.is_match(&s.text) && OPENING.is_match(document.text));
    let count = found.len() - usize::from(document_and_first);
    Some(Measure::count(count, found.first().map(|text| excerpt(text))))
}

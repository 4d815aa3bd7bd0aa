//! The rule about the prompt that comes back as text: the wording of the section prompt, and what is said to whoever goes on
//! with the next part.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use crate::domain::document::Assembled;
use crate::domain::instruction::Instruction;
use crate::domain::language::Language;
use crate::domain::recipe::Templates;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::blank;
use crate::text::filter::measure::excerpt;
use crate::text::filter::narration;
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "prompt_echo",
    key: "max_prompt_echoes",
    measures: "sentences of the prompts, or about the part that ends and the next one",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

/// So many words in a row are the prompt's own; a number counts as a word, whichever it is.
const fn run(language: Language) -> usize {
    match language {
        Language::En => 6,
        Language::Zh => 10,
    }
}

/// What the templates say in fewer words, and what a model adds in their manner.
static EN: LazyLock<Regex> = LazyLock::new(|| {
    let part = r"(?:part|section|paragraph|passage)";
    Regex::new(&format!(
        r"(?ix)^[\W_]*(?:
            (?:now\s*,?\s+)?(?:please\s+)?write\s+(?:only\s+)?(?:the\s+)?(?:text\s+of\s+)?(?:next\s+|this\s+)?{part}\s+(?:\d+|of)\b
          | write\s+(?:only\s+the\s+text\s+of\s+this\s+{part}|the\s+(?:next|last|opening)\s+(?:\d+\s+words|{part})\b)
          | write\s+the\s+opening\s+of\s+the\s+text\b
          | {part}\s+\d+\s+of\s+\d+\W*$
          | (?:now,?\s+)?(?:go|continue)\s+on\s+from\s+where\s+the\s+text
          | (?:this\s+{part}\s+opens\s+the\s+text[;,]\s*)?more\s+parts\s+(?:will\s+)?follow\b
          | this\s+(?:part|section)\s+(?:opens|closes)\s+the\s+text\b
          | (?:the|this)\s+(?:(?:last|first|second|third|current|previous)\s+)?{part}(?:\s+\d+)?\s+(?:is|has\s+been)\s+(?:now\s+)?(?:finished|complete|completed|done|over)\W*$
          | (?:please\s+)?do\s+not\s+(?:continue|conclude|repeat\s+what\s+it\s+says)\b[^.]{{0,20}}[.!]?\W*$
          | (?:the\s+)?next\s+{part}(?:\s+(?:follows|begins|starts)(?:\s+(?:here|now|below))?)?\W*$
          | (?:this\s+is\s+)?(?:the\s+)?end\s+of\s+(?:the\s+|this\s+)?(?:(?:first|second|third|fourth|fifth|last|next)\s+)?(?:{part}|text|document)(?:\s+\w+)?(?:\s+of\s+\d+)?\W*$
          | thank\s+you\s+(?:so\s+much\s+|very\s+much\s+)?for\s+(?:your\s+)?(?:reading|attention)\b[^.]{{0,30}}[.!]?\W*$
          | (?:please\s+)?(?:continue|proceed|go\s+on)\s+(?:to|with)\s+(?:the\s+next\s+{part}|{part}\s+\d+)\b
          | (?:about\s+|approximately\s+)?\d+\s+words\s+long\W*$
          | its\s+main\s+point\s*(?:is\s*)?:
          | nothing\s+is\s+written\s+yet\b
          | (?:the\s+text|the\s+story)\s+so\s+far\s*:
        )
        | \babout\s+\d+\s+words\s+long\b | \bso\s+do\s+not\s+conclude\b"
    ))
    .expect("a constant pattern, compiled by the tests")
});

static ZH: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"[一二三四五六七八九十\d]+";
    let part = r"(?:部分|段落?|节)";
    Regex::new(&format!(
        r"(?x)^[\W_]*(?:
            (?:现在|接下来|请)+(?:继续)?(?:撰?写)第{number}{part}
          | 第{number}{part}[（(]共{number}{part}[）)]
          | (?:请)?接着上文(?:往下|继续)写
          | 后面还有其[他它]部分
          | (?:请)?不要(?:总结全文|继续|续写|重复(?:已经|前面|上文))[^，。]{{0,6}}\W*$
          | (?:请)?只写这一?部分的正文
          | 这一?部分是(?:全文的)?(?:开头|结尾)\W*$
          | (?:本|这一?|第{number}|上一?|该){part}(?:的?内容)?(?:已经?|到此|至此|写)?(?:完成?|结束|完毕)了?\W*$
          | (?:以上(?:是|为)第?{number}{part})\W*$
          | (?:下一?|第{number}){part}(?:开始|如下|继续)?\W*$
          | (?:请)?继续(?:撰?写)?(?:下一?|第{number}){part}
          | (?:感谢|谢谢)(?:您|你|大家|各位)?的?(?:耐心)?(?:阅读|观看)\W*$
          | 这一?部分的主要内容\W*[：:]
          | 还没有写任何内容
          | 已经写好的部分[：:]
        )
        | [（(]共{number}部分[）)][，,]约?{number}字"
    ))
    .expect("a constant pattern, compiled by the tests")
});

/// A story may end so, but only a story: the last line of a document does not count.
static CLIFFHANGER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^\W*(?:to\s+be\s+continued|未完待续|待续)\W*$").expect("a constant pattern, compiled by the tests")
});

/// Runs of words of the built-in prompts for plans and sections in a language. A recipe's own templates are not known here.
static PROMPTS: LazyLock<[HashSet<u64>; 2]> = LazyLock::new(|| {
    let Templates { plan_en, plan_zh, section_en, section_zh, .. } = Templates::default();
    [([plan_en, section_en], Language::En), ([plan_zh, section_zh], Language::Zh)].map(|(templates, language)| {
        let words = |tag: &regex::Captures<'_>| if tag[0].starts_with("{{") { "0" } else { "\n" };
        let fixed = templates.map(|template| TAG.replace_all(&template, words).into_owned());
        fixed.iter().flat_map(|text| text.lines()).flat_map(|line| runs(line, language)).collect()
    })
});

/// True if a line has the wording of the built-in prompts, which the instruction does not have.
pub(in crate::text) fn echoes(line: &str, instruction: &Instruction) -> bool {
    let language = instruction.language;
    let prompt = &PROMPTS[usize::from(language == Language::Zh)];
    let echoed: Vec<u64> = runs(line, language).into_iter().filter(|run| prompt.contains(run)).collect();
    !echoed.is_empty() && {
        let own = said(instruction, language);
        echoed.iter().any(|run| !own.contains(run))
    }
}

static TAG: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{\{.*?\}\}|\{%.*?%\}").expect("a constant pattern, compiled by the tests"));

/// The runs of words of a sentence, with all numbers alike.
fn runs(sentence: &str, language: Language) -> Vec<u64> {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\d一二三四五六七八九十]+").expect("a constant pattern, compiled by the tests"));
    let words = shingles::word_hashes(&NUMBER.replace_all(sentence, " 0 "));
    shingles::shingles(&words, run(language)).collect()
}

/// Sentences of the prompt's wording, and talk about parts. What the instruction itself says is no echo.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let mut found = narration::count(document, |sentence| {
        let sentence = &*blank::code(sentence);
        EN.is_match(sentence) || ZH.is_match(sentence) || echoes(sentence, document.instruction)
    });
    let mut lines = document.text.trim_end().lines();
    if document.sections.len() >= document.plan.steps.len() {
        lines.next_back();
    }
    for line in lines.filter(|line| CLIFFHANGER.is_match(line)) {
        found = Measure::count(found.value as usize + 1, Some(excerpt(line)));
    }
    Some(found)
}

fn said(instruction: &Instruction, language: Language) -> HashSet<u64> {
    let texts = instruction.messages.iter().map(|message| message.content.as_str());
    texts.flat_map(str::lines).flat_map(|line| runs(line, language)).collect()
}

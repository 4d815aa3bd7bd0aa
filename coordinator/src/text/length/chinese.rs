//! What Chinese words around a figure say of it.

use std::sync::LazyLock;

use regex::Regex;

use super::bound::Bound;

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("a constant expression")
}

/// "字数要求", "篇幅在".
static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?:字数|篇幅)(?:要求|限制|控制|大约|大概|约|在|介于|为|是|要|应|需|不少于|不低于|不超过|不多于|至少|最少|最多|左右|：|:|\s){0,6}$",
    )
});

/// What a figure behind a label must not count.
static OTHER_UNIT: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s?[章段页行条%节]"));

/// Said of words to know, of a text that is there, or of a part, in the same clause before the figure.
static OTHER_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?:认识|识字|掌握|学会|学习|背诵|背|记住|默写|常用|词汇量?|单词|生词|汉字表|前)[^，。；,;]{0,6}$",
        r"|(?:这|那|该|此|下面|以下|上面|上述|原文|原稿|附件|我)(?:的|是|有|共|一|篇|段|本|份|个|部|章|封|约){0,4}$",
        r"|(?:每|各)[^，。；,;、\n]{0,6}$",
        r"|(?:把|将)[^，。；,;]{0,6}$",
        r"|第$",
        // Several texts, so each of them.
        r"|(?:^|[^第0-9零一二两三四五六七八九十百])(?:[2-9]|[1-9][0-9]+|[二两三四五六七八九十][一二三四五六七八九十]*)(?:篇|章|段|封|首|则)[约共]?$",
    ))
});

/// Said of a speed or of a part behind the figure.
static OTHER_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^\s?(?:/|每|一[章段节页天篇]|的?(?:单词|词汇|生词|字典|词典|词表|字表|字帖|密码|字符))")
});

/// 字 and 词 begin other words: 字节 byte, 字母 letter, 字体 font, 词语 word.
const OTHER_WORDS: &str = "节母体符典段幕眼面根库号条帖迹样形型画词语汇组频表令谜";

static TOTAL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?:共|共计|合计|总计|总长|全文|全书|总字数|总篇幅)(?:大约|大概|约|在|为|是|要|写|：|:|\s){0,3}$")
});

/// Whether words around a figure say that it is not the length of the text to write.
pub(super) fn about_other(before: &str, after: &str) -> bool {
    // 千字文 is a book.
    let classic = after.starts_with('文') && !after.starts_with("文章");
    classic
        || after.starts_with(|c| OTHER_WORDS.contains(c))
        || OTHER_BEFORE.is_match(end_of(before))
        || OTHER_AFTER.is_match(after)
}

/// "字数要求3000左右".
pub(super) fn labelled(before: &str, after: &str) -> bool {
    LABEL.is_match(end_of(before)) && !OTHER_UNIT.is_match(after)
}

/// What the words around a figure make of it, if anything.
pub(super) fn bound(before: &str, after: &str) -> Option<Bound> {
    let (before, after) = (before.trim_end(), after.trim_start());
    let ends = |words: &[&str]| words.iter().any(|word| before.ends_with(word));
    let begins = |words: &[&str]| words.iter().any(|word| after.starts_with(word));
    // 不超过 ends in 超过, 不少于 in 少于: the longer word decides.
    if ends(&["不少于", "不得少于", "不低于", "不得低于", "不小于"]) {
        Some(Bound::Least)
    } else if ends(&["不超过", "不得超过", "不多于", "不得多于", "不高于", "不大于"]) {
        Some(Bound::Most)
    } else if ends(&["至少", "超过", "大于", "多于", "最少", "起码"]) || begins(&["以上", "起"]) {
        Some(Bound::Least)
    } else if ends(&["最多", "至多", "少于", "小于", "低于"]) || begins(&["以内", "以下", "之内", "内"])
    {
        Some(Bound::Most)
    } else {
        None
    }
}

/// Said of all parts together.
pub(super) fn is_total(before: &str) -> bool {
    TOTAL.is_match(end_of(before))
}

/// Nothing that could be counted follows.
pub(super) fn ends_clause(after: &str) -> bool {
    after.trim_start().chars().next().is_none_or(|c| "，。；、！？）)左之".contains(c))
}

/// As much as any expression here looks back.
fn end_of(text: &str) -> &str {
    const REACH: usize = 24;
    text.char_indices().rev().nth(REACH).map_or(text, |(at, _)| &text[at..])
}

//! Figures in Chinese: "3000字", "两千字", "一万五千字", "2000到3000字", "字数：不少于600".

use std::sync::LazyLock;

use regex::Regex;

use super::figure::{Bound, Figure, middle};

const NUMBER: &str = r"[0-9０-９,，.]*[0-9０-９][0-9０-９]*\s?[kKwW]?[十百千万]*(?:[0-9０-９一二三四五六七八九][十百千万]+)*|[零〇一二两三四五六七八九十百千万]+";

/// A number or a range before 字 or 词, and what may stand around them.
static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"(?:(?P<from>{NUMBER})\s?字?\s?(?:-|–|—|~|～|至|到)\s?)?(?P<number>{NUMBER})\s?(?P<more>多|余|来|以上)?\s?个?(?P<unit>字|词)(?P<after>.?)"
    ))
    .expect("a constant expression")
});

/// "字数要求3000左右".
static COUNT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"(?:字数|篇幅)(?:要求|限制|控制|大约|约|在|为|是|不少于|不低于|至少|：|:|\s){{0,4}}(?:(?P<from>{NUMBER})\s?(?:-|–|—|~|～|至|到)\s?)?(?P<number>{NUMBER})(?P<after>\s?.?)"
    ))
    .expect("a constant expression")
});

/// Said of words to know, of a text that is there, or of a part, in the same clause before the figure.
static OTHER_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?:认识|识字|掌握|学会|学习|背诵|背|记住|默写|常用|词汇量?|单词|生词|汉字表|前)[^，。；,;]{0,6}$",
        r"|(?:这|那|该|此|下面|以下|上面|上述|原文|原稿|附件|我)(?:的|是|有|共|一|篇|段|本|份|个|部|章|封|约){0,4}$",
        r"|(?:每|各)[^，。；,;、\n]{0,6}$",
        r"|(?:把|将)[^，。；,;]{0,6}$",
        r"|第$",
    ))
    .expect("a constant expression")
});

/// Said of a speed or of a part behind the figure.
static OTHER_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s?(?:/|每|一[章段节页天]|的?(?:单词|词汇|生词|字典|词典|词表|字表|字帖|密码|字符))")
        .expect("a constant expression")
});

/// 字 and 词 begin other words: 字节 byte, 字母 letter, 字体 font, 词语 word.
const OTHER_WORDS: &str = "节母体符典段幕眼面根库号条帖迹样形型画词语汇组典频表";

pub(super) fn figures(text: &str) -> Vec<Figure> {
    let mut figures = Vec::new();
    for found in WORDS.captures_iter(text) {
        let (Some(number), Some(unit), Some(letter)) = (found.name("number"), found.name("unit"), found.name("after"))
        else {
            continue;
        };
        let from = found.name("from");
        let start = from.map_or(number.start(), |from| from.start());
        let (before, after) = (&text[..start], &text[unit.end()..]);
        let classic = number.as_str() == "千" && after.starts_with('文') && !after.starts_with("文章");
        if classic
            || letter.as_str().chars().all(|c| OTHER_WORDS.contains(c)) && !letter.as_str().is_empty()
            || OTHER_BEFORE.is_match(before)
            || OTHER_AFTER.is_match(after)
        {
            continue;
        }
        push(
            &mut figures,
            from.map(|from| from.as_str()),
            number.as_str(),
            before,
            after,
            found.name("more").is_some(),
        );
    }
    for found in COUNT.captures_iter(text) {
        let (Some(whole), Some(after)) = (found.get(0), found.name("after")) else { continue };
        // With 字 behind it the other pattern has it already.
        if !after.as_str().contains(['字', '词', '章', '段', '页', '行', '条']) {
            let before = &text[..found.name("number").map_or(whole.start(), |number| number.start())];
            push(
                &mut figures,
                found.name("from").map(|from| from.as_str()),
                &found["number"],
                before,
                &text[after.start()..],
                false,
            );
        }
    }
    figures
}

fn push(figures: &mut Vec<Figure>, from: Option<&str>, number: &str, before: &str, after: &str, more: bool) {
    let Some((low, high)) = span(number) else { return };
    let mut words = middle(low, high);
    if let Some((low, _)) = from.and_then(|from| span_like(from, number)) {
        words = middle(low.min(words), words.max(low));
    }
    let ends = |words: &[&str]| words.iter().any(|word| before.trim_end().ends_with(word));
    let begins = |words: &[&str]| words.iter().any(|word| after.trim_start().starts_with(word));
    let bound = if from.is_some() {
        Bound::About
    } else if more
        || ends(&["不少于", "不低于", "至少", "不得少于", "超过", "大于", "最少", "起码"])
        || begins(&["以上", "起"])
    {
        Bound::Least
    } else if ends(&["不超过", "不多于", "不得超过", "最多", "至多", "少于", "小于", "低于"])
        || begins(&["以内", "以下", "之内", "内"])
    {
        Bound::Most
    } else {
        Bound::About
    };
    // 不超过 ends in 超过, 不少于 in 少于: the longer word decides.
    let bound = if ends(&["不超过", "不得超过"]) {
        Bound::Most
    } else if ends(&["不少于", "不得少于", "不低于"]) {
        Bound::Least
    } else {
        bound
    };
    figures.push(Figure { words, bound });
}

/// The first number of a range, in the unit of the second: 2-3千 means 2千 to 3千.
fn span_like(from: &str, to: &str) -> Option<(u32, u32)> {
    let (low, high) = span(from)?;
    let unit = match to.trim().chars().last() {
        Some('千' | 'k' | 'K') => 1_000,
        Some('万' | 'w' | 'W') => 10_000,
        Some('百') => 100,
        _ => 1,
    };
    Some(if high < 100 && unit > 1 { (low * unit, high * unit) } else { (low, high) })
}

/// The value of a number, or both ends where two digits stand side by side: 两三千 is 2,000 to 3,000.
fn span(text: &str) -> Option<(u32, u32)> {
    let chars: Vec<char> = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, ',' | '，')).collect();
    if let Some(at) = chars.windows(2).position(|pair| han_digit(pair[0]).is_some() && han_digit(pair[1]).is_some()) {
        // 二〇〇〇 is read digit by digit; 两三千 is a range.
        if chars.iter().all(|c| han_digit(*c).is_some()) {
            let value = chars.iter().try_fold(0_u32, |sum, c| sum.checked_mul(10)?.checked_add(han_digit(*c)?))?;
            return Some((value, value));
        }
        let without = |skip: usize| -> Vec<char> {
            chars.iter().enumerate().filter(|(index, _)| *index != skip).map(|(_, c)| *c).collect()
        };
        return Some((value(&without(at + 1))?, value(&without(at))?));
    }
    let value = value(&chars)?;
    Some((value, value))
}

/// 3000, 1.5万, 2万5千, 一万五千, 十五万, 一万五 (15,000).
fn value(chars: &[char]) -> Option<u32> {
    let (mut total, mut below_wan, mut digits, mut last_unit) = (0.0, 0.0, String::new(), 1.0_f64);
    let number = |digits: &mut String| -> Option<f64> {
        let number = if digits.is_empty() { None } else { Some(digits.parse::<f64>().ok()?) };
        digits.clear();
        number
    };
    for c in chars {
        let unit = match c {
            '十' => 10.0,
            '百' => 100.0,
            '千' | 'k' | 'K' => 1_000.0,
            '万' | 'w' | 'W' => 10_000.0,
            '.' => {
                digits.push('.');
                continue;
            }
            c => {
                let digit = han_digit(*c).or_else(|| wide_digit(*c))?;
                digits.push(char::from_digit(digit, 10)?);
                continue;
            }
        };
        if !digits.is_empty() && digits.parse::<f64>().is_err() {
            return None;
        }
        let factor = number(&mut digits);
        if unit == 10_000.0 {
            let sum = below_wan + factor.unwrap_or(0.0);
            total += if sum == 0.0 { 1.0 } else { sum } * unit;
            below_wan = 0.0;
        } else {
            below_wan += factor.unwrap_or(1.0) * unit;
        }
        last_unit = unit;
    }
    let han_tail = chars.last().is_some_and(|c| han_digit(*c).is_some());
    if let Some(rest) = number(&mut digits) {
        // 一万五 is 15,000: a lone digit after a unit counts the next smaller unit.
        let zero = chars.iter().any(|c| matches!(c, '零' | '〇'));
        below_wan += if han_tail && last_unit > 10.0 && !zero { rest * last_unit / 10.0 } else { rest };
    }
    let value = total + below_wan;
    (value >= 1.0 && value <= f64::from(u32::MAX)).then(|| value.round() as u32)
}

fn han_digit(c: char) -> Option<u32> {
    Some(match c {
        '零' | '〇' => 0,
        '一' => 1,
        '二' | '两' => 2,
        '三' => 3,
        '四' => 4,
        '五' => 5,
        '六' => 6,
        '七' => 7,
        '八' => 8,
        '九' => 9,
        _ => return None,
    })
}

fn wide_digit(c: char) -> Option<u32> {
    c.to_digit(10).or_else(|| ('０'..='９').contains(&c).then(|| c as u32 - '０' as u32))
}

//! Numerals: "3,000", "1 500", "1.500", "2.5k", "one thousand five hundred", "1.5万", "三万五千", "两三千".

/// A numeral at the beginning of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number {
    pub(super) low: f64,
    /// Above `low` in 两三千 (2,000 to 3,000).
    pub(super) high: f64,
    /// The last multiplier: 1,000 in "3k", 10,000 in 2万.
    pub(super) unit: f64,
    /// 几千: no number to go by.
    pub(super) vague: bool,
    /// Bytes that it takes.
    pub(super) len: usize,
}

/// The numeral that `text` begins with. `and_joins` is false behind "between", where "and" stands between two numbers.
pub(super) fn read(text: &str, and_joins: bool) -> Option<Number> {
    let first = text.chars().next()?;
    if first.is_ascii_digit() {
        let (value, len) = digits(text);
        let rest = &text[len..];
        let gap = rest.len() - rest.trim_start_matches(' ').len();
        if gap <= 1 && rest[gap..].starts_with(is_unit) {
            chinese(text)
        } else {
            english(text, Some((value, len)), and_joins)
        }
    } else if han_digit(first).is_some() || is_unit(first) || matches!(first, '几' | '半') {
        chinese(text)
    } else if first.is_ascii_alphabetic() {
        english(text, None, and_joins)
    } else {
        None
    }
}

/// Digits with separators and a fraction. A separator of thousands has three digits behind it: `,` `.` `'` and a blank, all
/// the same in one number.
fn digits(text: &str) -> (f64, usize) {
    let run = |at: usize| text[at..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = run(0);
    let mut value: f64 = text[..end].parse().unwrap_or(f64::INFINITY);
    let multiplied = |end: usize| {
        let rest = text[end..].trim_start_matches(' ');
        rest.starts_with(is_unit) || suffix(&text[end..]).is_some() || rest.to_ascii_lowercase().starts_with("thousand")
    };
    let separator = text[end..].chars().next().filter(|c| matches!(c, ',' | '，' | '.' | '\'' | ' '));
    if let Some(separator) = separator.filter(|_| end <= 3 && !text.starts_with('0')) {
        let width = separator.len_utf8();
        let grouped_from = end;
        while text[end..].starts_with(separator) && run(end + width) == 3 {
            // "1.250k" is a fraction.
            if separator == '.' && end == grouped_from && multiplied(end + 4) {
                break;
            }
            value = value * 1000.0 + text[end + width..end + width + 3].parse().unwrap_or(0.0);
            end += width + 3;
        }
    }
    let fraction = match text[end..].chars().next() {
        Some('.') => run(end + 1),
        // A decimal comma: "1,5k".
        Some(',') if (1..=2).contains(&run(end + 1)) && multiplied(end + 1 + run(end + 1)) => run(end + 1),
        _ => 0,
    };
    if fraction > 0 {
        value += format!("0.{}", &text[end + 1..end + 1 + fraction]).parse().unwrap_or(0.0);
        end += 1 + fraction;
    }
    if text[end..].starts_with('½') {
        value += 0.5;
        end += '½'.len_utf8();
    }
    (value, end)
}

/// A letter that multiplies, with the blank before it: its factor and length. `w` is 万, and stands in Chinese alone.
fn suffix(text: &str) -> Option<(f64, usize)> {
    let rest = text.strip_prefix(' ').unwrap_or(text);
    let factor = match rest.chars().next()? {
        'k' | 'K' => 1e3,
        'w' | 'W' if rest[1..].starts_with(['字', '个', '词', '-', '~', '到', '至']) => 1e4,
        _ => return None,
    };
    (!rest[1..].starts_with(|c: char| c.is_ascii_alphanumeric())).then_some((factor, text.len() - rest.len() + 1))
}

/// Number words, or digits and what multiplies them. A multiplier without a number before it ("several thousand") is none.
fn english(text: &str, digits: Option<(f64, usize)>, and_joins: bool) -> Option<Number> {
    let (mut total, mut current, mut unit) = (0.0, digits.map(|(value, _)| value), 1.0);
    let mut end = digits.map_or(0, |(_, len)| len);
    // The smallest value that a further number word may not reach: "twenty" takes "five", not "thirty".
    let mut room = if digits.is_some() { 0.0 } else { f64::INFINITY };
    if let (Some(value), Some((factor, len))) = (current, suffix(&text[end..])) {
        let value = value * factor;
        return Some(Number { low: value, high: value, unit: factor, vague: false, len: end + len });
    }
    loop {
        let rest = &text[end..];
        let mut gap = if end == 0 { 0 } else { rest.len() - rest.trim_start_matches([' ', '-', '\n']).len() };
        if end > 0 && gap == 0 {
            break;
        }
        let mut word = word_at(&rest[gap..]);
        if word == "and" && and_joins {
            let after = &rest[gap + 3..];
            if let Some(half) = current.filter(|_| after.to_ascii_lowercase().starts_with(" a half")) {
                current = Some(half + 0.5);
                end += gap + 3 + " a half".len();
                continue;
            }
            if unit == 1.0 || !after.starts_with(' ') {
                break;
            }
            gap += 4;
            word = word_at(&rest[gap..]);
        }
        if let Some(value) = small(&word) {
            if value >= room {
                break;
            }
            current = Some(current.unwrap_or(0.0) + value);
            room = if value >= 20.0 { 10.0 } else { 0.0 };
        } else if word == "a" && end == 0 && matches!(&*word_at(rest[1..].trim_start()), "hundred" | "thousand") {
            current = Some(1.0);
            room = 0.0;
        } else if word == "hundred" {
            let Some(factor) = current.filter(|factor| *factor < 100.0) else { break };
            (current, unit, room) = (Some(factor * 100.0), 100.0, 100.0);
        } else if matches!(&*word, "thousand" | "million") {
            let factor = if word == "million" { 1e6 } else { 1e3 };
            let Some(count) = current.filter(|_| total == 0.0 || total >= factor * 1e3) else { break };
            total += count * factor;
            (current, unit, room) = (None, factor, 1e3);
        } else {
            break;
        }
        end += gap + word.len();
    }
    if end == 0 {
        return None;
    }
    let value = total + current.unwrap_or(0.0);
    Some(Number { low: value, high: value, unit, vague: false, len: end })
}

fn word_at(text: &str) -> String {
    text.chars().take_while(char::is_ascii_alphabetic).take(10).map(|c| c.to_ascii_lowercase()).collect()
}

fn small(word: &str) -> Option<f64> {
    const ONES: [&str; 19] = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let ones = ONES.iter().position(|it| *it == word).map(|at| at as f64 + 1.0);
    ones.or_else(|| TENS.iter().position(|it| *it == word).map(|at| (at as f64 + 2.0) * 10.0))
}

/// 三万五千, 2万5千, 一千零五十, 一万五 (15,000), 二〇〇〇, 一点五万, 二十多万, 两三千.
fn chinese(text: &str) -> Option<Number> {
    let (mut total, mut section, mut pending) = ((0.0, 0.0), (0.0, 0.0), None::<(f64, f64)>);
    let (mut unit, mut zero, mut vague, mut end) = (1.0, false, false, 0);
    while let Some(c) = text[end..].chars().next() {
        let rest = &text[end..];
        if c.is_ascii_digit() && pending.is_none() {
            let (value, len) = digits(rest);
            pending = Some((value, value));
            end += len;
            end += usize::from(text[end..].starts_with(' ') && text[end + 1..].starts_with(is_unit));
        } else if han_digit(c).is_some() && pending.is_none() {
            let run: Vec<f64> = rest.chars().map_while(han_digit).collect();
            end += run.len() * '一'.len_utf8();
            zero |= run[0] == 0.0;
            let next_unit = text[end..].starts_with(is_unit);
            let value = run.iter().fold(0.0, |sum, digit| sum * 10.0 + digit);
            pending = Some(match run[..] {
                [from, to] if from > 0.0 && from < to && (next_unit || unit > 1.0) => (from, to),
                _ => (value, value),
            });
            if let (Some((low, _)), Some(after)) = (pending, text[end..].strip_prefix('点')) {
                let run: String = after.chars().map_while(han_digit).map(|digit| digit.to_string()).collect();
                if let Ok(fraction) = format!("0.{run}").parse::<f64>()
                    && !run.is_empty()
                {
                    pending = Some((low + fraction, low + fraction));
                    end += '点'.len_utf8() * (1 + run.len());
                }
            }
        } else if c == '半' && (unit > 1.0 || rest.chars().nth(1).is_some_and(is_unit)) && pending.is_none() {
            if unit > 1.0 {
                section = (section.0 + unit / 2.0, section.1 + unit / 2.0);
            } else {
                pending = Some((0.5, 0.5));
            }
            end += c.len_utf8();
        } else if c == '几' {
            (vague, end) = (true, end + c.len_utf8());
        } else if matches!(c, '多' | '余' | '来') && end > 0 && rest.chars().nth(1).is_some_and(is_unit) {
            end += c.len_utf8();
        } else if let Some(value) = unit_value(c) {
            if value < 1e4 {
                let (low, high) = pending.take().unwrap_or((1.0, 1.0));
                section = (section.0 + low * value, section.1 + high * value);
            } else {
                let (low, high) = pending.take().unwrap_or((0.0, 0.0));
                let whole = (section.0 + low, section.1 + high);
                let whole = if whole.1 == 0.0 { (1.0, 1.0) } else { whole };
                total = ((total.0 + whole.0) * value, (total.1 + whole.1) * value);
                section = (0.0, 0.0);
            }
            (unit, zero, end) = (value, false, end + c.len_utf8());
        } else {
            break;
        }
    }
    if let Some((low, high)) = pending {
        // 一万五 is 15,000: a lone digit after a unit counts the next smaller unit.
        let factor = if unit > 10.0 && !zero && high < 10.0 { unit / 10.0 } else { 1.0 };
        section = (section.0 + low * factor, section.1 + high * factor);
    }
    (end > 0).then_some(Number { low: total.0 + section.0, high: total.1 + section.1, unit, vague, len: end })
}

fn han_digit(c: char) -> Option<f64> {
    "零一二三四五六七八九".chars().position(|digit| digit == c).map(|at| at as f64).or(match c {
        '〇' => Some(0.0),
        '两' => Some(2.0),
        _ => None,
    })
}

/// 十 to 亿.
pub(super) fn is_unit(c: char) -> bool {
    unit_value(c).is_some()
}

fn unit_value(c: char) -> Option<f64> {
    Some(match c {
        '十' => 10.0,
        '百' => 100.0,
        '千' => 1e3,
        '万' => 1e4,
        '亿' => 1e8,
        _ => return None,
    })
}

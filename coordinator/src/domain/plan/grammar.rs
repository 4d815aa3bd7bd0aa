//! The grammar of plans, in llguidance's dialect of Lark.
//!
//! From the main point to the end of the line is one terminal: between terminals the lexer takes the longest match, and
//! a main point that may hold any text would swallow the word count behind it. Within one terminal the automaton keeps
//! both readings open. In a main point no dash stands before a space, so ` - Word Count` begins in one place only; to
//! forbid the words by a negated expression instead made the slowest mask eight times slower. All lines share that
//! terminal: one for each number would build the automaton fifty times, and pass the engine's limits.

use super::budget::suitable_steps;
use crate::domain::language::Language;
use crate::domain::recipe::PlanRules;

/// Characters of a main point behind its first, at least and at most. Long enough for a sentence; a bound, because a small model would ramble on.
pub(super) const fn bounds(language: Language) -> (u32, u32) {
    match language {
        Language::En => (20, 240),
        Language::Zh => (6, 80),
    }
}

/// The grammar of the plans that [`super::parse()`] takes. With the required length it also holds the number of lines to
/// what suits that length.
pub fn grammar(rules: &PlanRules, language: Language, required: Option<u32>) -> String {
    let steps = suitable_steps(required, rules);
    let (few, many) = (*steps.start(), *steps.end());
    let words = number_between(rules.min_words, rules.max_words);
    let (before, after, rest) = match language {
        Language::En => {
            // No small letter: a line does not go on with the sentence of the one before.
            let point = point("[A-Z0-9\"']", bounds(language));
            ("Paragraph ", " - Main Point: ", format!("{point} - Word Count: ({words}) words"))
        }
        Language::Zh => {
            let point = point(r"[^\s\-–—]", bounds(language));
            ("段落", " - 主要内容：", format!("{point} - 字数：({words})字"))
        }
    };
    let mut text = format!("start: line1\nREST: /{rest}/\n");
    for number in 1..=many {
        let next = number + 1;
        let more = match number {
            last if last == many => String::new(),
            early if early < few => format!(" \"\\n\" line{next}"),
            _ => format!(" (\"\\n\" line{next})?"),
        };
        text.push_str(&format!("line{number}: \"{before}{number}{after}\" REST{more}\n"));
    }
    text
}

/// A main point: its first character, so many others, and perhaps a full stop. It is one sentence: a stop stands inside
/// only where no space follows, as in 3.5. A small model would otherwise ramble on to the bound, and be cut in a word.
fn point(first: &str, (min, max): (u32, u32)) -> String {
    format!(r"{first}([^\n\r\-–—.!?。！？]|[\-–—.!?][^\n\r \-–—.!?。！？]){{{min},{max}}}[.!?。！？]?")
}

/// A regular expression for the decimal numbers from `min` to `max`, without leading zeros.
fn number_between(min: u32, max: u32) -> String {
    let mut alternatives = Vec::new();
    let mut from = min;
    while from <= max {
        // The longest run from `from` of the form: a prefix, one digit range, then any digits.
        let mut unit = 1;
        while from.is_multiple_of(unit * 10) && from + unit * 10 - 1 <= max && from > 0 {
            unit *= 10;
        }
        let digit = from / unit % 10;
        let most = ((max - from + 1) / unit).min(10 - digit).max(1);
        let prefix = if from / unit >= 10 { (from / unit / 10).to_string() } else { String::new() };
        let range = if most == 1 { digit.to_string() } else { format!("[{digit}-{}]", digit + most - 1) };
        let free = unit.ilog10();
        let tail = if free == 0 { String::new() } else { format!("[0-9]{{{free}}}") };
        alternatives.push(format!("{prefix}{range}{tail}"));
        from += most * unit;
    }
    alternatives.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_range_holds_its_numbers_and_no_others() {
        for (min, max) in [(200, 1000), (1, 1), (1, 9), (7, 123), (99, 101), (250, 2500), (0, 12)] {
            let regex = regex::Regex::new(&format!("^({})$", number_between(min, max))).unwrap();
            for number in 0..3000 {
                assert_eq!(regex.is_match(&number.to_string()), (min..=max).contains(&number), "{number} {min} {max}");
            }
            assert!(!regex.is_match("0250"), "a leading zero");
        }
    }
}

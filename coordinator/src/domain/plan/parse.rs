//! From a model's text to a plan. Strict: what is not understood is an error with its line, never skipped.

use std::sync::LazyLock;

use regex::Regex;

use super::grammar::bounds;
use super::{PlanError, form};
use crate::domain::language::Language;
use crate::domain::plan::{Plan, Step};
use crate::domain::recipe::PlanRules;

/// Longest main point that is taken. A longer one is a text, not a plan.
const MAX_POINT_CHARS: usize = 1000;
/// A bad line is quoted in the error up to here.
const QUOTED_CHARS: usize = 80;

static EN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^paragraph\s+(\S+)\s*[-–—]\s*main point:\s*(.+)\s*[-–—]\s*word count:\s*(\S+)\s+words?\.?$")
        .expect("a constant expression")
});
static ZH: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^段落\s*(\S+?)\s*[-–—]\s*主要内容\s*[:：]\s*(.+)\s*[-–—]\s*字数\s*[:：]\s*(\S+?)\s*字。?$")
        .expect("a constant expression")
});

static EN_COUNT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)[-–—]\s+word count:").expect("a constant expression"));
static ZH_COUNT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[-–—]\s+字数\s*[:：]").expect("a constant expression"));

/// Reads the plan in `text`: only numbered lines in the language's form, blank lines aside.
pub fn parse(text: &str, rules: &PlanRules, language: Language) -> Result<Plan, PlanError> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let Some((number, point, words)) = split(line, language) else {
            let text = line.chars().take(QUOTED_CHARS).collect();
            return Err(PlanError::Stray { line: line_number, text, form: form(language) });
        };
        let want = steps.len() + 1;
        if digits(number) != Some(want as u32) {
            return Err(PlanError::Order { line: line_number, number: number.into(), want });
        }
        let (min, max) = (rules.min_words, rules.max_words);
        let Some(words) = digits(words).filter(|words| (min..=max).contains(words)) else {
            return Err(PlanError::Words { line: line_number, words: words.into(), min, max });
        };
        steps.push(Step { main_point: whole(point, language).to_owned(), words });
        if steps.len() as u32 > rules.max_steps {
            let steps = text.lines().filter(|line| !line.trim().is_empty()).count();
            return Err(PlanError::Steps { steps, min: rules.min_steps, max: rules.max_steps });
        }
    }
    if steps.is_empty() {
        return Err(PlanError::Empty { want: format!("{} to {}", rules.min_steps, rules.max_steps) });
    }
    if (steps.len() as u32) < rules.min_steps {
        return Err(PlanError::Steps { steps: steps.len(), min: rules.min_steps, max: rules.max_steps });
    }
    Ok(Plan { steps })
}

/// Number, main point and word count of a line; none if it is not of the form.
fn split(line: &str, language: Language) -> Option<(&str, &str, &str)> {
    let regex = match language {
        Language::En => &*EN,
        Language::Zh => &*ZH,
    };
    let (_, parts) = regex.captures(line)?.extract::<3>();
    let [number, point, words] = parts;
    // Two word counts in one line: which one would hold?
    let twice = match language {
        Language::En => EN_COUNT.is_match(point),
        Language::Zh => ZH_COUNT.is_match(point),
    };
    let fits = point.chars().count() <= MAX_POINT_CHARS && !twice;
    fits.then_some((number, point.trim(), words))
}

/// The main point without the words before which the grammar's bound cut it: a sentence that fills it ends at its last comma.
fn whole(point: &str, language: Language) -> &str {
    let (_, longest) = bounds(language);
    if point.chars().count() != longest as usize + 1 || point.ends_with(['.', '!', '?', '。', '！', '？']) {
        return point;
    }
    let end = point.rfind([',', ';', '，', '；', '、']).filter(|end| *end > point.len() / 2);
    end.map_or(point, |end| &point[..end])
}

/// A number written in ASCII digits only, without sign, separator or leading zero.
fn digits(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

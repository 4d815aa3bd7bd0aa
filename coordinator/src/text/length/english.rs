//! Figures in English: "a 3,000-word essay", "between 2k and 3k words", "two thousand words".

use std::sync::LazyLock;

use regex::Regex;

use super::figure::{Bound, Figure, middle};

const NUMBER: &str = r"(?:\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)(?:\s?k\b|\s+(?:thousand|hundred)\b)?|(?:a|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty)[\s-]+(?:hundred|thousand)";

/// A number or a range of numbers before "word(s)".
static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    let range = format!(r"(?P<from>{NUMBER})(?:\s?words?)?\s*(?:-|–|—|~|to|and|or)\s*");
    Regex::new(&format!(
        r"(?i)(?:^|[^\w.,$€£/-])(?:{range})?(?P<number>{NUMBER})\s*(?P<plus>\+|or more|plus)?[\s-]*(?:chinese\s+characters|english\s+words?|words?)\b"
    ))
    .expect("a constant expression")
});

/// "word count: 3000", "a word limit of 2,000".
static COUNT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"(?i)\bword\s+(?P<kind>count|limit|target|length)\s*(?:should\s+be|must\s+be|is|of|:|=)*\s*(?:about|around|approximately|at\s+least)?\s*(?P<number>{NUMBER})\b"
    ))
    .expect("a constant expression")
});

/// What before a figure says that it is about something else. Looked for in the same sentence.
static OTHER_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        // A text that is there already.
        r"(?i)\b(?:this|these|that|those|my|his|her|their|its|following|above|below|attached|existing|previous|original)(?:\s+\w+){0,2}\s*$",
        // Work on a text that is there, named right before the figure.
        r"|\b(?:summari[sz]e|shorten|condense|translate|proofread|edit|review|analy[sz]e|read|rewrite|paraphrase|cut)(?:\s+(?:a|an|the|down))*\s*$",
        // Words as things to know, to count or to say.
        r"|\b(?:learn|learned|memori[sz]e|know|knows|teach|list|lists|vocabulary|dictionary|typed?|types|speak|said|spoke|reads?|worth|flashcards|first|last|top|most\s+common|translated)(?:\s+\w+){0,3}\s*$",
        r"|\b(?:contains?|containing|contained|has|had|have|with\s+a\s+vocabulary\s+of)(?:\s+(?:about|around|over|some|only|more\s+than|nearly))?\s*$",
    ))
    .expect("a constant expression")
});

/// What before a figure says that it is about the text, whatever else stands there.
static SELF_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)\b(?:in|within|using|to|at\s+least|at\s+most|no\s+less\s+than|not\s+less\s+than|no\s+fewer\s+than|",
        r"no\s+more\s+than|not\s+more\s+than|minimum|maximum|up\s+to|length|long|essay|story|article|report|",
        r"write|written|exactly)(?:\s+(?:of|is|should\s+be|about|around|approximately|roughly|some|over|a))*[\s:]*$"
    ))
    .expect("a constant expression")
});

/// What behind a figure says that it is about a part, a speed or a stock of words.
static OTHER_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^[\s,(]*(?:(?:long\s+)?(?:each|apiece|per\b|every\b|an?\s+(?:day|minute|hour|week|month|page|chapter|section)|a\s+piece|/)|",
        r"(?:for|in)\s+(?:each|every)\b|",
        r"in\s+(?:the\s+)?(?:\w+\s+)?(?:dictionary|language|vocabulary|corpus|english|chinese|french|german)\b|",
        r"(?:that|which|from|known|spoken|vocabulary|list\b|document|problems?|puzzles?|of\s+(?:vocabulary|context))\b)"
    ))
    .expect("a constant expression")
});

static LEAST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:at\s+least|no\s+less\s+than|not\s+less\s+than|no\s+fewer\s+than|more\s+than|over|minimum(?:\s+of)?|min\.?)[\s:]*(?:a|of)?\s*$")
        .expect("a constant expression")
});

static MOST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:at\s+most|no\s+more\s+than|not\s+more\s+than|fewer\s+than|less\s+than|under|below|up\s+to|maximum(?:\s+of)?|max\.?|not\s+exceed(?:ing)?)[\s:]*(?:a|of)?\s*$")
        .expect("a constant expression")
});

pub(super) fn figures(text: &str) -> Vec<Figure> {
    let mut figures = Vec::new();
    for found in WORDS.captures_iter(text) {
        let (Some(whole), Some(number)) = (found.get(0), found.name("number")) else { continue };
        let from = found.name("from");
        let start = from.map_or(number.start(), |from| from.start());
        let (before, after) = (sentence_before(&text[..start]), &text[whole.end()..]);
        let about_other = OTHER_BEFORE.is_match(before) && !SELF_BEFORE.is_match(before);
        if about_other || OTHER_AFTER.is_match(after) {
            continue;
        }
        let Some(mut words) = value(number.as_str()) else { continue };
        if let Some(low) = from.and_then(|from| value_like(from.as_str(), number.as_str())) {
            words = middle(low.min(words), words.max(low));
        }
        let bound = if from.is_some() {
            Bound::About
        } else if found.name("plus").is_some() || LEAST.is_match(before) || after.trim_start().starts_with("or more") {
            Bound::Least
        } else if MOST.is_match(before)
            || ["or less", "or fewer", "max"].iter().any(|end| after.trim_start().starts_with(end))
        {
            Bound::Most
        } else {
            Bound::About
        };
        figures.push(Figure { words, bound });
    }
    for found in COUNT.captures_iter(text) {
        if let Some(words) = value(&found["number"]) {
            let bound = if found["kind"].eq_ignore_ascii_case("limit") { Bound::Most } else { Bound::About };
            figures.push(Figure { words, bound });
        }
    }
    figures
}

/// The end of `text` that belongs to the sentence that goes on behind it.
fn sentence_before(text: &str) -> &str {
    let start = text.rfind(['\n', '!', '?', ';', ':']).map_or(0, |at| at + 1);
    let start = text.rfind(". ").map_or(start, |at| start.max(at + 2));
    &text[start..]
}

/// The value of the first number of a range. "2-3k words" means 2k to 3k.
fn value_like(from: &str, to: &str) -> Option<u32> {
    let low = value(from)?;
    let to = to.trim().to_ascii_lowercase();
    let unit = if to.ends_with('k') || to.ends_with("thousand") { 1000 } else { 1 };
    Some(if low < 100 && unit > 1 { low * unit } else { low })
}

/// "3,000", "2.5k", "20 thousand", "two thousand".
fn value(text: &str) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase().replace(',', "");
    let (number, unit) = if let Some(number) = text.strip_suffix('k') {
        (number, 1000.0)
    } else if let Some(number) = text.strip_suffix("thousand") {
        (number, 1000.0)
    } else if let Some(number) = text.strip_suffix("hundred") {
        (number, 100.0)
    } else {
        (text.as_str(), 1.0)
    };
    let number = number.trim_matches([' ', '-', '\n', '\t']);
    let number = match number {
        "a" | "one" => 1.0,
        "two" => 2.0,
        "three" => 3.0,
        "four" => 4.0,
        "five" => 5.0,
        "six" => 6.0,
        "seven" => 7.0,
        "eight" => 8.0,
        "nine" => 9.0,
        "ten" => 10.0,
        "eleven" => 11.0,
        "twelve" => 12.0,
        "fifteen" => 15.0,
        "twenty" => 20.0,
        "thirty" => 30.0,
        "forty" => 40.0,
        "fifty" => 50.0,
        digits => digits.parse::<f64>().ok()?,
    };
    let words = (number * unit).round();
    (words <= f64::from(u32::MAX)).then_some(words as u32)
}

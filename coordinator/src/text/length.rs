//! The length that an instruction's text asks for, in words (Chinese characters count as words).
//!
//! A small grammar: `normal` maps variants of one character to one; `number` reads a numeral; `figure` joins numerals to
//! ranges and units; `english` and `chinese` know what the words around a figure say of it. A figure counts only where it is
//! said of the text to be written: "learn 3,000 words", "this 5,000-word article", "500 words per chapter", "认识3000个汉字"
//! say nothing of the text's length. When in doubt the answer is none: a wrong length ruins a document, a missing one only
//! leaves the plan free.
//!
//! What a figure means:
//! - a range ("between 2k and 3k words", "2000到3000字") is its middle, so that a text a little off is inside still;
//! - a least ("at least 2000 words") or most ("up to 800 words") is that number, as evaluations of length take it, and
//!   both together are a range;
//! - a total ("3,000 words in total", "共三万字") wins over everything else;
//! - of several figures the largest counts: the smaller ones are parts. Parts alone ("five articles of 800 words each") are
//!   no length of the whole;
//! - a vague number ("several thousand words", "几千字") is none.

mod bound;
mod chinese;
mod english;
mod figure;
mod normal;
mod number;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use bound::Bound;
use figure::{Figure, middle};

/// Figures outside are about something else: "describe yourself in 3 words", "a corpus of 5,000,000 words".
const SENSIBLE: RangeInclusive<u32> = 50..=200_000;

/// Words asked for, or none if the text does not say.
pub fn required(text: &str) -> Option<u32> {
    let mut figures = figure::figures(&normal::normalise(text));
    figures.retain(|figure| SENSIBLE.contains(&figure.words));
    if figures.iter().any(|figure| figure.total) {
        figures.retain(|figure| figure.total);
    }
    resolve(&figures)
}

fn resolve(figures: &[Figure]) -> Option<u32> {
    let of = |bound| figures.iter().filter(move |figure| figure.bound == bound).map(|figure| figure.words).max();
    match (of(Bound::About), of(Bound::Least), of(Bound::Most)) {
        (Some(about), Some(least), Some(most)) if (least..=most).contains(&about) => Some(about),
        (_, Some(least), Some(most)) if least < most => Some(middle(least, most)),
        // "2,000 words, 2,200 at most"; a figure far below the most is a part.
        (Some(about), None, Some(most)) if (most / 2..=most).contains(&about) => Some(about),
        (about, least, most) => about.max(least).max(most),
    }
}

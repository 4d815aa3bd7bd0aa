//! The length that an instruction's text asks for, in words (Chinese characters count as words).
//!
//! A figure counts only where it is said of the text to be written. Each language finds its figures with one pattern and
//! then looks at what stands around each: "learn 3,000 words", "this 5,000-word article", "500 words per chapter", "3000个
//! 汉字" say nothing of the text's length. When in doubt the answer is none: a wrong length ruins a document, a missing
//! one only leaves the plan free.
//!
//! What a figure means:
//! - a range ("between 2k and 3k words", "2000到3000字") is its middle, so that a text a little off is inside still;
//! - a least ("at least 2000 words") or most ("up to 800 words") is that number, as evaluations of length take it, and
//!   both together are a range;
//! - of several figures the largest counts: the smaller ones are parts.

mod chinese;
mod english;
mod figure;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use figure::{Bound, middle};

/// Figures outside are about something else: "describe yourself in 3 words", "a corpus of 5,000,000 words".
const SENSIBLE: RangeInclusive<u32> = 50..=200_000;

/// Words asked for, or none if the text does not say.
pub fn required(text: &str) -> Option<u32> {
    let mut figures = english::figures(text);
    figures.extend(chinese::figures(text));
    figures.retain(|figure| SENSIBLE.contains(&figure.words));
    let of = |bound| figures.iter().filter(move |figure| figure.bound == bound).map(|figure| figure.words).max();
    match (of(Bound::About), of(Bound::Least), of(Bound::Most)) {
        (None, Some(least), Some(most)) if least < most => Some(middle(least, most)),
        (about, least, most) => about.max(least).max(most),
    }
}

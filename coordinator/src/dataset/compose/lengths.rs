//! The lengths that are asked for: log-uniform over a range, in figures that a person would write.

use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::domain::language::Language;

/// Words that a range may have as its ends. Figures outside are not read as the length of a text
/// ([`crate::text::length::required`]).
const BOUNDS: RangeInclusive<u32> = 50..=200_000;
/// Leading digits of figures that a person writes, in tenths.
const FIGURES: [u32; 17] = [10, 12, 15, 18, 20, 22, 25, 28, 30, 35, 40, 45, 50, 60, 70, 80, 90];

/// A range of lengths in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lengths(RangeInclusive<u32>);

impl Default for Lengths {
    fn default() -> Self {
        Self(2_000..=32_000)
    }
}

/// `2000-32000`; one number is a range of itself.
impl FromStr for Lengths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        let words = |text: &str| text.trim().parse().ok().filter(|words| BOUNDS.contains(words));
        match (words(least), words(most)) {
            (Some(least), Some(most)) if least <= most => Ok(Self(least..=most)),
            _ => Err(format!(
                "invalid lengths {text:?}: expected MIN-MAX in words, {} to {}, such as 2000-32000",
                BOUNDS.start(),
                BOUNDS.end()
            )),
        }
    }
}

impl Lengths {
    /// The range that a pair of numbers states, if it is one.
    pub(super) fn of([least, most]: [u32; 2]) -> Option<Self> {
        (BOUNDS.contains(&least) && BOUNDS.contains(&most) && least <= most).then_some(Self(least..=most))
    }

    pub(super) fn contains(&self, words: u32) -> bool {
        self.0.contains(&words)
    }

    /// The length at `quantile`, 0 to 1, of a log-uniform distribution, as the nearest figure of the range that a person would
    /// write. A range without one gives its own numbers.
    pub(super) fn at(&self, quantile: f64) -> u32 {
        let (least, most) = (f64::from(*self.0.start()), f64::from(*self.0.end()));
        let exact = least * (most / least).powf(quantile);
        let distance = |words: &u32| (f64::from(*words) / exact).ln().abs();
        let decades = (1..=5).map(|power| 10_u32.pow(power));
        let figures = decades.flat_map(|decade| FIGURES.map(|tenths| tenths * decade / 10));
        let nearest = figures.filter(|words| self.contains(*words)).min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.unwrap_or(exact.round() as u32)
    }
}

/// The number as a person of the language writes it.
pub(super) fn written(words: u32, language: Language) -> String {
    match language {
        Language::En => longhand_proto::number::grouped(words.into()),
        // 12,000 is 1.2万.
        Language::Zh if words >= 10_000 && words.is_multiple_of(100) => format!("{}万", f64::from(words) / 10_000.0),
        Language::Zh => words.to_string(),
    }
}

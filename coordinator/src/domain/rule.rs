//! A rule: what it measures of a document, and the threshold that a recipe gives it. The rules themselves are values of
//! [`Rule`], one a file, in [`crate::text::filter`].

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::section::Assembled;

/// On which side of its threshold a value is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Values below the threshold reject the document.
    AtLeast,
    /// Values above the threshold reject the document.
    AtMost,
}

impl Bound {
    /// True if `value` passes; the threshold itself does.
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::AtLeast => value >= threshold,
            Self::AtMost => value <= threshold,
        }
    }
}

/// How much of a document a rule must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// One section at a time: what a document has is at most what its sections have, added up (places) or the largest of them
    /// (shares).
    Section,
    /// A section and those before it.
    SoFar,
    /// The whole document.
    Document,
}

/// The value of a rule's key in a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Threshold {
    /// `true` allows no occurrence, `false` turns the rule off.
    Switch(bool),
    /// A whole number: words, tokens, places.
    Count(u32),
    /// A share from 0 to 1, a score from 0 to 100.
    Number(f64),
}

impl From<u32> for Threshold {
    fn from(count: u32) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Threshold {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Threshold {
    fn from(switch: bool) -> Self {
        Self::Switch(switch)
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(switch) => switch.fmt(f),
            Self::Count(count) => count.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// What a rule saw in a document, before its threshold is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// In the unit that [`Rule::measures`] names.
    pub value: f64,
    /// An excerpt of the place that decided the value; empty if there is none.
    pub detail: String,
}

impl Measure {
    /// A number of places, and an excerpt of the first of them.
    pub(crate) fn count(places: usize, first: Option<String>) -> Self {
        Self { value: places as f64, detail: first.unwrap_or_default() }
    }
}

/// One rule: everything that is known of it.
#[derive(Debug)]
pub struct Rule {
    /// As it stands in `rejected.jsonl` and in the report.
    pub name: &'static str,
    /// Key of its threshold in the recipe's table `filters`.
    pub key: &'static str,
    /// What the value is, in words.
    pub measures: &'static str,
    /// How much of a document it must see.
    pub stage: Stage,
    /// On which side of the threshold a value is good.
    pub bound: Bound,
    /// The threshold of a recipe that does not name the key; also the kind of all thresholds of this rule.
    pub default: Threshold,
    /// The threshold that no document fails.
    pub off: Threshold,
    /// Thresholds that a recipe may state. A switch has no range.
    pub range: RangeInclusive<f64>,
    /// True for the rules of the first version: a stored recipe always names them. Any other rule that a stored recipe does
    /// not name was added later, and stays off for it.
    pub first_version: bool,
    /// Measures a document; none if there is nothing to measure.
    pub measure: fn(&Assembled<'_>) -> Option<Measure>,
}

impl Rule {
    /// Thresholds of rules that count places: more than any document has turns the rule off.
    pub const PLACES: RangeInclusive<f64> = 0.0..=Self::MAX_PLACES as f64;
    /// The threshold that turns a rule off that counts places.
    pub const MAX_PLACES: u32 = 1_000_000;
    /// Thresholds of rules that measure a share.
    pub const SHARE: RangeInclusive<f64> = 0.0..=1.0;

    /// The threshold as a number; none if the recipe switched the rule off.
    pub fn threshold(&self, filters: &Filters) -> Option<f64> {
        match filters.get(self) {
            Threshold::Switch(on) => on.then_some(0.0),
            Threshold::Count(count) => Some(count.into()),
            Threshold::Number(number) => Some(number),
        }
    }

    /// Measures a document; none if it has nothing to measure.
    pub fn measure(&self, document: &Assembled<'_>) -> Option<Measure> {
        (self.measure)(document)
    }

    /// True if the threshold is `true` or `false`.
    pub fn is_switch(&self) -> bool {
        matches!(self.default, Threshold::Switch(_))
    }

    /// `stated` as a threshold of this rule.
    ///
    /// # Errors
    /// What was expected, if it is of another kind or out of range.
    fn checked(&self, stated: Threshold) -> Result<Threshold, String> {
        let (least, most) = (self.range.start(), self.range.end());
        let (threshold, number) = match (self.default, stated) {
            (Threshold::Switch(_), Threshold::Switch(_)) => return Ok(stated),
            (Threshold::Count(_), Threshold::Count(count)) => (stated, f64::from(count)),
            (Threshold::Number(_), Threshold::Count(count)) => (Threshold::Number(count.into()), count.into()),
            (Threshold::Number(_), Threshold::Number(number)) => (stated, number),
            (Threshold::Switch(_), _) => return Err("true or false".into()),
            (Threshold::Count(_), _) => return Err(format!("a whole number, {least} to {most}")),
            (Threshold::Number(_), _) => return Err(format!("a number, {least} to {most}")),
        };
        if self.range.contains(&number) { Ok(threshold) } else { Err(format!("{least} to {most}")) }
    }
}

/// The thresholds of a recipe by key. `Filters::default()` has the default of every rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Filters(Vec<(String, Threshold)>);

/// A threshold that its rule does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThresholdError {
    pub(crate) key: &'static str,
    /// As the recipe states it.
    pub(crate) value: String,
    pub(crate) expected: String,
}

impl Filters {
    /// The thresholds of `rules` in their order: as `stated`, or `other` where that names none.
    pub(crate) fn of<'a>(
        rules: impl IntoIterator<Item = &'a Rule>,
        stated: &Self,
        other: impl Fn(&Rule) -> Threshold,
    ) -> Result<Self, ThresholdError> {
        let threshold = |rule: &'a Rule| {
            let threshold = match stated.find(rule.key) {
                Some(value) => rule.checked(value).map_err(|expected| ThresholdError {
                    key: rule.key,
                    value: value.to_string(),
                    expected,
                })?,
                None => other(rule),
            };
            Ok((rule.key.to_owned(), threshold))
        };
        rules.into_iter().map(threshold).collect::<Result<_, _>>().map(Self)
    }

    /// The default thresholds of `rules`, in their order.
    pub(crate) fn defaults<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        Self(rules.into_iter().map(|rule| (rule.key.to_owned(), rule.default)).collect())
    }

    /// The threshold of a rule.
    pub fn get(&self, rule: &Rule) -> Threshold {
        self.find(rule.key).unwrap_or(rule.default)
    }

    /// Changes the threshold of a rule. Its range is not checked, so that a caller can turn a rule off.
    pub fn set(&mut self, rule: &Rule, threshold: impl Into<Threshold>) {
        let threshold = threshold.into();
        match self.0.iter_mut().find(|(known, _)| known == rule.key) {
            Some((_, known)) => *known = threshold,
            None => self.0.push((rule.key.to_owned(), threshold)),
        }
    }

    fn find(&self, key: &str) -> Option<Threshold> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, threshold)| *threshold)
    }

    /// With another threshold under a key, for tests.
    #[cfg(test)]
    pub(crate) fn with(mut self, key: &str, threshold: impl Into<Threshold>) -> Self {
        self.0.iter_mut().find(|(known, _)| known == key).expect("a key of a rule").1 = threshold.into();
        self
    }
}

impl Serialize for Filters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, threshold)| (key, threshold)))
    }
}

/// Reads the keys that are there; `Filters::of` checks them and adds the others.
impl<'de> Deserialize<'de> for Filters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = Filters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of thresholds")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Filters, A::Error> {
                let mut thresholds = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    thresholds.push(entry);
                }
                Ok(Filters(thresholds))
            }
        }

        deserializer.deserialize_map(Table)
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl Visitor<'_> for Value {
            type Value = Threshold;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, true or false")
            }

            fn visit_bool<E: de::Error>(self, switch: bool) -> Result<Threshold, E> {
                Ok(Threshold::Switch(switch))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Threshold, E> {
                // A number that is no count is out of every range.
                Ok(u32::try_from(number).map_or(Threshold::Number(number as f64), Threshold::Count))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Threshold, E> {
                Ok(u32::try_from(number).map_or(Threshold::Number(number as f64), Threshold::Count))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Threshold, E> {
                Ok(Threshold::Number(number))
            }
        }

        deserializer.deserialize_any(Value)
    }
}

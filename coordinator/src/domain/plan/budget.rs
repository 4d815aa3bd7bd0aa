//! How many steps, and how many words each.

use std::ops::RangeInclusive;

use super::PlanError;
use crate::domain::plan::{Plan, Step};
use crate::domain::recipe::PlanRules;

/// Words that the steps of a plan add up to: the required length with the recipe's headroom.
pub(super) fn total(required: u32, rules: &PlanRules) -> u32 {
    (f64::from(required) * f64::from(rules.headroom)).round() as u32
}

/// Numbers of steps that can add up to `total`. Empty if none can.
fn possible_steps(total: u32, rules: &PlanRules) -> RangeInclusive<u32> {
    let few = total.div_ceil(rules.max_words).max(rules.min_steps);
    // A text shorter than the shortest step is one short step.
    let many = (total / rules.min_words).max(1).min(rules.max_steps);
    few..=many
}

/// Numbers of steps that suit `total`: as many as leave each step some way from both bounds, where that is possible.
/// A small model plans well only if it is told how many lines to write.
pub fn suitable_steps(required: Option<u32>, rules: &PlanRules) -> RangeInclusive<u32> {
    let all = rules.min_steps..=rules.max_steps;
    let Some(required) = required else { return all };
    let total = total(required, rules);
    let possible = possible_steps(total, rules);
    if possible.is_empty() {
        return all;
    }
    let short = (rules.min_words + rules.min_words / 4).min(rules.max_words);
    let long = (short + short / 2).min(rules.max_words);
    let many = (total / short).clamp(*possible.start(), *possible.end());
    let few = total.div_ceil(long).clamp(*possible.start(), many);
    few..=many
}

impl Plan {
    /// Sum of the steps' words.
    pub fn words(&self) -> u64 {
        self.steps.iter().map(|step| u64::from(step.words)).sum()
    }

    /// The same steps with word budgets in the same proportions, within the recipe's bounds, that add up to `required`
    /// times the headroom exactly.
    pub fn scale(&self, required: u32, rules: &PlanRules) -> Result<Self, PlanError> {
        let want = total(required, rules);
        let possible = possible_steps(want, rules);
        if possible.is_empty() {
            let PlanRules { max_steps, max_words, .. } = *rules;
            return Err(PlanError::Unreachable { want, max_steps, max_words });
        }
        let steps = self.steps.len();
        // Only a text shorter than the shortest step goes below the bound.
        let (min, max) = (rules.min_words.min(want), rules.max_words);
        let (least, most) = (steps as u64 * u64::from(min), steps as u64 * u64::from(max));
        if !(least..=most).contains(&u64::from(want)) || steps == 0 {
            let (few, many) = (*possible.start(), *possible.end());
            return Err(PlanError::Sum { steps, min, max, least, most, want, few, many });
        }
        let budgets = share_out(&self.steps, want, min, max);
        let scaled = self.steps.iter().zip(budgets);
        Ok(Self { steps: scaled.map(|(step, words)| Step { words, ..step.clone() }).collect() })
    }
}

/// Budgets in proportion to the steps' words, clamped to the bounds, of sum `want`, which the bounds allow.
fn share_out(steps: &[Step], want: u32, min: u32, max: u32) -> Vec<u32> {
    let at = |factor: f64| -> Vec<u32> {
        let scaled = steps.iter().map(|step| (f64::from(step.words.max(1)) * factor).floor());
        scaled.map(|words| words.clamp(f64::from(min), f64::from(max)) as u32).collect()
    };
    // The sum grows with the factor, from all at the least to all at the most.
    let (mut low, mut high) = (0.0, f64::from(max) + 1.0);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if at(middle).iter().sum::<u32>() <= want { low = middle } else { high = middle }
    }
    let mut budgets = at(low);
    let mut left = want - budgets.iter().sum::<u32>();
    // What rounding left over: at most one word a step for those that are not at the bound, in order.
    while left > 0 {
        for words in budgets.iter_mut().filter(|words| **words < max) {
            if left > 0 {
                *words += 1;
                left -= 1;
            }
        }
    }
    budgets
}

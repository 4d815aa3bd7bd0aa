//! How many words the next section is to have, and how many its prompt asks for. Length belongs to the document: a section
//! may miss its count, and the sections after it make up for that. Both are pure functions of plan and sections, so the same
//! seed gives the same text whatever other documents do.

use super::plan::Plan;
use super::recipe::SectionRules;
use super::section::{Rejection, Section};

/// How far a section's count may move from its step's.
const CARRY: (f64, f64) = (0.6, 1.6);
/// The most that a model is taken to write, and the least, of what it is asked for.
const RATIO: (f64, f64) = (0.5, 1.5);
/// Rules of lengths. A draft that one of them rejected tells what the model makes of a number.
const LENGTH_RULES: [&str; 3] = ["score_length", "too_short", "section_words"];
/// With each draft that such a rule rejected the text is held to more of its words, up to a bound: last, and least good, as a
/// text that may not end is padded.
const FLOOR_STEP: f32 = 0.2;
const MAX_FLOOR: f32 = 0.8;
/// Prompts ask for round numbers, in steps of this many words.
const ROUND: u32 = 10;

/// Words of the next section.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SectionBudget {
    /// That the section is to have.
    pub target: u32,
    /// That its prompt asks for.
    pub asked: u32,
    /// Share of the target before which it cannot end.
    pub floor: f32,
}

impl SectionBudget {
    /// The budget of the step after the written `sections`, which must have one. `rejections`: of the texts that were
    /// written for it before.
    pub fn next(rules: &SectionRules, plan: &Plan, sections: &[Section], rejections: &[Rejection]) -> Self {
        let step = plan.steps[sections.len()].words;
        let target = if rules.carry_over { carried(plan, sections, step) } else { step };
        let asked = if rules.calibrate { calibrated(target, sections, rejections) } else { target };
        let missed = rejections.iter().filter(|rejection| is_about_length(rejection)).count();
        let floor = (rules.floor + FLOOR_STEP * missed as f32).min(rules.floor.max(MAX_FLOOR));
        Self { target, asked, floor }
    }
}

/// The step's words, times what is missing of the plan's sum over what the steps left have of it.
fn carried(plan: &Plan, sections: &[Section], step: u32) -> u32 {
    let written: u64 = sections.iter().map(|section| u64::from(section.words)).sum();
    let left: u64 = plan.steps[sections.len()..].iter().map(|step| u64::from(step.words)).sum();
    let missing = plan.words().saturating_sub(written);
    let factor = missing as f64 / left.max(1) as f64;
    (f64::from(step) * factor.clamp(CARRY.0, CARRY.1)).round().max(1.0) as u32
}

fn is_about_length(rejection: &Rejection) -> bool {
    LENGTH_RULES.contains(&rejection.rule.as_str())
}

/// The number to ask for to get `target`: divided by the share of the words asked for that the texts so far have, as if one
/// text more had had exactly what it was asked for.
fn calibrated(target: u32, sections: &[Section], rejections: &[Rejection]) -> u32 {
    let taken = sections.iter().map(|section| (section.asked(), section.words));
    let missed = rejections.iter().filter(|rejection| is_about_length(rejection));
    let texts: Vec<(u32, u32)> =
        taken.chain(missed.map(|rejection| (rejection.asked_words, rejection.words))).collect();
    let asked: u64 = texts.iter().map(|(asked, _)| u64::from(*asked)).sum();
    if asked == 0 {
        return target;
    }
    let written: u64 = texts.iter().map(|(_, words)| u64::from(*words)).sum();
    let prior = asked as f64 / texts.len() as f64;
    let ratio = ((written as f64 + prior) / (asked as f64 + prior)).clamp(RATIO.0, RATIO.1);
    let exact = f64::from(target) / ratio;
    ((exact / f64::from(ROUND)).round() as u32 * ROUND).max(ROUND)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Step;
    use super::super::section::tests::{rejection, section};
    use super::*;

    fn plan(words: &[u32]) -> Plan {
        Plan { steps: words.iter().map(|words| Step { main_point: "a point".into(), words: *words }).collect() }
    }

    fn budget(carry_over: bool, calibrate: bool, steps: &[u32], written: &[(u32, u32)]) -> (u32, u32) {
        let rules = SectionRules { carry_over, calibrate, ..SectionRules::default() };
        let sections: Vec<Section> = written.iter().map(|(words, asked)| section(*words, *asked)).collect();
        let SectionBudget { target, asked, floor: _ } = SectionBudget::next(&rules, &plan(steps), &sections, &[]);
        (target, asked)
    }

    #[test]
    fn without_either_rule_a_step_keeps_its_words() {
        assert_eq!(budget(false, false, &[300, 300], &[(100, 300)]), (300, 300));
    }

    #[test]
    fn what_is_missing_is_spread_over_the_steps_left_within_bounds() {
        assert_eq!(budget(true, false, &[300; 4], &[(210, 300)]), (330, 330), "90 words over three steps");
        assert_eq!(budget(true, false, &[300; 4], &[(390, 300)]), (270, 270), "90 words too many");
        assert_eq!(budget(true, false, &[300, 300], &[(20, 300)]).0, 480, "at most 1.6 times");
        assert_eq!(budget(true, false, &[300, 300], &[(900, 300)]).0, 180, "at least 0.6 times");
    }

    #[test]
    fn a_model_that_writes_less_than_asked_is_asked_for_more() {
        assert_eq!(budget(false, true, &[300, 300], &[(150, 300)]), (300, 400), "300 / ((150 + 300) / 600)");
        assert_eq!(budget(false, true, &[300; 9], &[(150, 300); 8]).1, 540, "300 / ((8 * 150 + 300) / 2_700)");
        assert_eq!(budget(false, true, &[300; 9], &[(600, 300); 8]).1, 200, "the ratio is bounded");
        assert_eq!(budget(false, true, &[300], &[]), (300, 300), "nothing is known yet");
        let draft = |rule: &str| rejection(rule, 100, 300);
        let next = |rule| SectionBudget::next(&SectionRules::default(), &plan(&[300]), &[], &[draft(rule)]);
        assert_eq!(next("score_length").asked, 450, "300 / ((100 + 300) / 600)");
        assert!((next("score_length").floor - 0.6).abs() < 1e-6 && next("damaged_words").floor == 0.4);
        assert_eq!(next("damaged_words").asked, 300, "a draft that broke off says nothing of lengths");
    }
}

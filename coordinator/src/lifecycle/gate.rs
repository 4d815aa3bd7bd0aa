//! The gate: whether a section is taken, asked as soon as it is written. It asks the rules that need only what is written so
//! far, with the recipe's thresholds: a section is rejected where the document as far as it goes would be rejected already.
//! With the last section the document is complete and all rules are asked: another end may save it.

use crate::domain::document::{Assembled, Rejection, Section, assemble};
use crate::domain::instruction::Instruction;
use crate::domain::plan::Plan;
use crate::domain::recipe::Recipe;
use crate::text::filter::{self, Measured};

/// The rule that rejects the newest of `sections`; none if it is taken. A text in one piece is judged when it is done.
pub(super) fn section(
    recipe: &Recipe,
    instruction: &Instruction,
    plan: &Plan,
    sections: &[Section],
) -> Option<Measured> {
    if recipe.section.tries == 0 || plan.is_single_piece() {
        return None;
    }
    let text = assemble(sections);
    let document = Assembled { instruction, plan, sections, text: &text };
    if sections.len() == plan.steps.len() {
        return filter::first_fired(&recipe.filters, &document);
    }
    filter::evaluate_so_far(&recipe.filters, &document)
}

/// Takes the best draft out: the one whose rule is asked latest, since the rules that are asked first explain most of a bad
/// text; of those with one rule the one nearest to its threshold.
pub(super) fn best(rejections: &mut [Rejection]) -> Option<Section> {
    let place = |rejection: &Rejection| filter::RULES.iter().position(|rule| rule.name == rejection.rule);
    let distance = |rejection: &Rejection| (rejection.value - rejection.threshold).abs();
    let drafts = rejections.iter_mut().filter(|rejection| rejection.draft.is_some());
    let best =
        drafts.min_by(|one, other| place(other).cmp(&place(one)).then(distance(one).total_cmp(&distance(other))));
    best.and_then(|rejection| rejection.draft.take()).map(|draft| *draft)
}

//! Documents longer than a model's window: what a prompt shows as it was written, and what a summary stands for.
//!
//! A summary is not made after every section but once the text since the last one has grown past `max_words`, and then
//! leaves `keep_words` of it alone. In between the prompts of a document share a growing prefix, as without summaries.

use crate::domain::document::{Document, Progress, Section, Summary};
use crate::domain::plan::Plan;
use crate::domain::recipe::Recipe;

impl Document {
    /// Number of the sections that the latest summary covers.
    fn covered(&self) -> usize {
        self.summaries.last().map_or(0, |summary| summary.sections as usize)
    }

    /// The latest summary, and the sections that prompts show as they were written.
    pub(super) fn view<'a>(&'a self, sections: &'a [Section]) -> (Option<&'a Summary>, &'a [Section]) {
        (self.summaries.last(), &sections[self.covered().min(sections.len())..])
    }

    /// Number of the sections that the next summary is to cover; none if all that is written can be shown.
    pub(super) fn to_cover(&self, recipe: &Recipe, sections: &[Section]) -> Option<usize> {
        let rules = &recipe.rolling;
        let covered = self.covered();
        if rules.max_words == 0 || words(sections.get(covered..)?) <= rules.max_words {
            return None;
        }
        // At least one section stays to go on from, and at least one goes.
        let mut until = sections.len() - 1;
        while until > covered + 1 && words(&sections[until..]) < rules.keep_words {
            until -= 1;
        }
        // A document that was taken up again may have several windows of text without a summary: one at a time.
        while until > covered + 1 && words(&sections[covered..until]) > rules.max_words {
            until -= 1;
        }
        (until > covered).then_some(until)
    }

    /// Where a document stands that has steps left.
    pub(super) fn onward(&self, recipe: &Recipe, plan: Plan, sections: Vec<Section>) -> Progress {
        match self.to_cover(recipe, &sections) {
            Some(_) => Progress::Summarising { plan, sections },
            None => Progress::Writing { plan, sections, kept: Vec::new() },
        }
    }

    /// Forgets the summaries that cover more than the first `sections` sections.
    pub(super) fn forget_after(&mut self, sections: usize) {
        self.summaries.retain(|summary| summary.sections as usize <= sections);
    }
}

fn words(sections: &[Section]) -> u32 {
    sections.iter().map(|section| section.words).sum()
}

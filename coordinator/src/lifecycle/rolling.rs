//! Documents longer than a model's window: what a prompt shows as it was written, and what a summary stands for.
//!
//! A summary is not made after every section but once the text since the last one has grown past `max_words`, and then
//! leaves `keep_words` of it alone. In between the prompts of a document share a growing prefix, as without summaries.

use crate::domain::document::{Document, Progress, Section, Summary};
use crate::domain::plan::Plan;
use crate::domain::recipe::Recipe;
use crate::text::prompt::Written;

impl Document {
    /// Number of the sections that the latest summary covers.
    fn summarised(&self) -> usize {
        self.summaries.last().map_or(0, |summary| summary.sections as usize)
    }

    /// The latest summary, and the sections that prompts show as they were written.
    pub(super) fn visible<'a>(&'a self, sections: &'a [Section]) -> (Option<&'a Summary>, &'a [Section]) {
        (self.summaries.last(), &sections[self.summarised().min(sections.len())..])
    }

    /// What a prompt shows of the sections.
    pub(super) fn written<'a>(&'a self, sections: &'a [Section]) -> Written<'a> {
        let summary = self.summaries.last();
        Written {
            sections,
            summary: summary.map(|summary| summary.text.as_str()),
            summarised: self.summarised(),
            rejections: &self.rejections,
        }
    }

    /// Number of the sections that the next summary is to cover; none if all that is written can be shown.
    pub(super) fn sections_to_summarise(&self, recipe: &Recipe, sections: &[Section]) -> Option<usize> {
        let rules = &recipe.rolling;
        let summarised = self.summarised();
        if rules.max_words == 0 || words(sections.get(summarised..)?) <= rules.max_words {
            return None;
        }
        // At least one section stays to go on from, and at least one goes.
        let mut until = sections.len() - 1;
        while until > summarised + 1 && words(&sections[until..]) < rules.keep_words {
            until -= 1;
        }
        // A requeued document may have several windows of text without a summary: one at a time.
        while until > summarised + 1 && words(&sections[summarised..until]) > rules.max_words {
            until -= 1;
        }
        (until > summarised).then_some(until)
    }

    /// The progress of a document that has steps left.
    pub(super) fn next_progress(&self, recipe: &Recipe, plan: Plan, sections: Vec<Section>) -> Progress {
        match self.sections_to_summarise(recipe, &sections) {
            Some(_) => Progress::Summarising { plan, sections },
            None => Progress::Writing { plan, sections, tail_sections: Vec::new() },
        }
    }

    /// Drops the summaries that cover more than the first `sections` sections.
    pub(super) fn drop_summaries_after(&mut self, sections: usize) {
        self.summaries.retain(|summary| summary.sections as usize <= sections);
    }
}

fn words(sections: &[Section]) -> u32 {
    sections.iter().map(|section| section.words).sum()
}

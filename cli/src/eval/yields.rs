//! What a text cost, what the recipe's rules say of it, and what a reader would strike out.

use std::collections::HashSet;

use longhand_coordinator::domain::document::{Assembled, Document, Progress, Verdict};
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::domain::rule::Filters;
use longhand_coordinator::text::{filter, shingles};
use serde::{Deserialize, Serialize};

/// Words of the runs that are looked for in the text before them.
const RUN: usize = 8;
/// Rules whose values count places where a text is about itself or repeats its prompt.
const TALK: [&str; 3] = ["assistant_talk", "commentary", "prompt_echo"];

/// The yield of one text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Yield {
    /// True if no rule of the recipe rejects the text.
    pub(super) accepted: bool,
    /// The rule that rejects it; otherwise empty.
    pub(super) rule: String,
    /// Tokens generated for it, those of discarded texts included, those of the judge not.
    pub(super) generated: u64,
    pub(super) sections: u32,
    /// Sections that were written again.
    pub(super) rewritten: u32,
    /// Share of the runs of eight words that stood in the text before.
    pub(super) repeated: f64,
    /// Places that echo the prompt, talk to the reader or comment on the text.
    pub(super) talk: f64,
}

impl Yield {
    /// Of a document that has ended, whatever rules it was written under.
    pub(super) fn of(document: &Document, recipe: &Recipe) -> Self {
        let judge: u64 = document.votes().iter().map(|vote| u64::from(vote.usage.generated)).sum();
        let sections = document.sections();
        let cost = Self {
            generated: u64::from(document.usage.generated).saturating_sub(judge),
            sections: sections.len() as u32,
            rewritten: sections.iter().map(|section| section.attempt.saturating_sub(1)).sum(),
            ..Self::default()
        };
        let Progress::Finished { plan, sections, text, .. } = &document.progress else { return cost };
        let assembled = Assembled { instruction: &document.instruction, plan, sections, text };
        let rule = match filter::evaluate(&recipe.filters, &assembled) {
            Verdict::Accepted => String::new(),
            Verdict::Rejected { rule, .. } => rule,
        };
        let measured = filter::measure_all(&Filters::default(), &assembled);
        let talk = measured.iter().filter(|measured| TALK.contains(&measured.rule)).map(|measured| measured.value);
        Self { accepted: rule.is_empty(), rule, repeated: repeated(text), talk: talk.sum(), ..cost }
    }
}

/// See [`Yield::repeated`]; 0 of a text without such a run.
fn repeated(text: &str) -> f64 {
    let words = shingles::word_hashes(text);
    let (mut seen, mut all, mut again) = (HashSet::new(), 0_u64, 0_u64);
    for run in shingles::shingles(&words, RUN) {
        all += 1;
        again += u64::from(!seen.insert(run));
    }
    again as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_there_before_is_repeated() {
        let once = "The ship left the harbour before dawn with nine men on board.";
        assert_eq!(repeated(once), 0.0);
        // Twelve words twice: 17 runs, of which the last five are the first five again.
        assert_eq!(repeated(&format!("{once} {once}")), 5.0 / 17.0);
        assert_eq!(repeated("Short."), 0.0);
    }
}

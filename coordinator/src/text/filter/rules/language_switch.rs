//! The rule about text that slips into another language.

use crate::domain::document::Assembled;
use crate::domain::language::{self, Language};
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::code::Fence;
use crate::text::filter::measure::worst;
use crate::text::filter::script::{Script, runs};
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "language_switch",
    key: "max_other_language",
    measures: "largest share of a section in another language",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Number(0.1),
    off: Threshold::Number(1.0),
    range: Rule::SHARE,
    first_version: false,
    measure,
};

/// A line of fewer words of a Latin script is too little to tell its language by.
const FEW: usize = 20;

/// The largest share of a section that is not in the document's language. Code and quotations do not count.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let own = document.instruction.language;
    let shares = document.sections.iter().map(|section| {
        let mut fence = Fence::default();
        let (mut all, mut foreign) = (0, 0);
        for line in section.text.lines().filter(|line| !fence.holds(line) && !line.trim_start().starts_with('>')) {
            let scripts = Scripts::of(line);
            all += scripts.all();
            foreign += scripts.foreign(own, line);
        }
        if all == 0 { 0.0 } else { f64::from(foreign) / f64::from(all) }
    });
    Some(worst(shares, |at, share| format!("section {}: {:.0} % of it is in another language", at + 1, share * 100.0)))
}

/// Words and characters of a line.
#[derive(Debug, Default)]
struct Scripts {
    latin: u32,
    han: u32,
    /// Kana, Hangul, Cyrillic and all others.
    other: u32,
}

impl Scripts {
    fn of(line: &str) -> Self {
        let mut scripts = Self::default();
        for run in runs(line) {
            let word = &line[run.range];
            let characters = word.chars().count() as u32;
            match run.script {
                Script::Latin => scripts.latin += 1,
                Script::Han => scripts.han += characters,
                // Letters of formulas.
                Script::Greek if characters <= 2 => {}
                Script::Other if word.contains(shingles::is_ideograph) => scripts.other += characters,
                Script::Greek | Script::Other => scripts.other += 1,
            }
        }
        scripts
    }

    fn all(&self) -> u32 {
        self.latin + self.han + self.other
    }

    fn foreign(&self, own: Language, line: &str) -> u32 {
        match own {
            // Names and terms may stand in Latin letters; a line that is mostly so is no Chinese.
            Language::Zh if self.latin > self.han => self.all(),
            Language::Zh => self.other,
            Language::En if self.latin as usize >= FEW && language::is_foreign(line) => self.all(),
            Language::En => self.han + self.other,
        }
    }
}

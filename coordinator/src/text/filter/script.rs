//! Which script letters belong to, and the runs of letters of one script in a line.

use std::ops::Range;

use crate::text::shingles;

/// A script, as far as the rules tell scripts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Latin,
    /// In formulas its letters stand in any text.
    Greek,
    Han,
    /// Kana, Hangul, Cyrillic and all others.
    Other,
}

impl Script {
    /// The script of a letter; none for other characters and for letters that are symbols, as ℝ and ª.
    pub(super) fn of(c: char) -> Option<Self> {
        match c {
            'a'..='z' | 'A'..='Z' => Some(Self::Latin),
            '\0'..='\u{bf}' | '\u{2000}'..='\u{2bff}' | '\u{1d400}'..='\u{1d7ff}' => None,
            '\u{3040}'..='\u{30ff}' if c != '・' => Some(Self::Other),
            '々' | '〇' => Some(Self::Han),
            _ if shingles::is_ideograph(c) => Some(Self::Han),
            _ if !c.is_alphabetic() => None,
            '\u{c0}'..='\u{2ff}' | '\u{1e00}'..='\u{1eff}' | '\u{ff00}'..='\u{ff60}' => Some(Self::Latin),
            '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => Some(Self::Greek),
            _ => Some(Self::Other),
        }
    }
}

/// A run of letters of one script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) script: Script,
    /// Its bytes in the line.
    pub(super) range: Range<usize>,
}

/// The runs of a line, in order. Accents that stand by themselves (U+0300 to U+036F) belong to the letter before them.
pub(super) fn runs(line: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, c) in line.char_indices() {
        let end = at + c.len_utf8();
        let last = runs.last_mut().filter(|run| run.range.end == at);
        match (Script::of(c), last) {
            (None, Some(last)) if matches!(c, '\u{300}'..='\u{36f}') => last.range.end = end,
            (Some(script), Some(last)) if last.script == script => last.range.end = end,
            (Some(script), _) => runs.push(Run { script, range: at..end }),
            (None, _) => {}
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_script_changes() {
        let line = "the锅炉 and μm, Arquitetра café 3D の";
        let runs = runs(line);
        let got: Vec<_> = runs.iter().map(|run| (run.script, &line[run.range.clone()])).collect();
        use Script::{Greek, Han, Latin, Other};
        assert_eq!(
            got,
            [
                (Latin, "the"),
                (Han, "锅炉"),
                (Latin, "and"),
                (Greek, "μ"),
                (Latin, "m"),
                (Latin, "Arquitet"),
                (Other, "ра"),
                (Latin, "café"),
                (Latin, "D"),
                (Other, "の"),
            ]
        );
    }
}

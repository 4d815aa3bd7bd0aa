//! Which rows fill a quota: a fair draw that depends on their content and the seed only.

use std::collections::HashMap;

use super::Candidate;
use crate::document::Language;
use crate::units;

/// For each candidate, whether it is chosen.
pub(super) fn choose(candidates: &[Candidate], quotas: &HashMap<Language, u64>) -> Vec<bool> {
    let mut chosen = vec![true; candidates.len()];
    for (language, quota) in quotas {
        let of_language = candidates.iter().enumerate().filter(|(_, row)| row.language == *language);
        let mut rows: Vec<usize> = of_language.map(|(at, _)| at).collect();
        rows.sort_unstable_by_key(|at| (candidates[*at].key, *at));
        for at in rows.into_iter().skip(usize::try_from(*quota).unwrap_or(usize::MAX)) {
            chosen[at] = false;
        }
    }
    chosen
}

/// A random number that the content and the seed decide.
pub(super) fn key(seed: u64, content: u128) -> u64 {
    units::mix(units::mix(seed ^ 0x5eed) ^ content as u64)
}

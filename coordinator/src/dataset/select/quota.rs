//! Which rows fill a quota: a fair draw that depends on their content and the seed only.

use std::collections::HashMap;

use super::row_rules::Intent;
use super::topic;
use crate::domain::language::Language;
use crate::text::shingles;

/// A row that passed every rule, until the quotas choose.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) line: u64,
    pub(super) language: Language,
    pub(super) intent: Intent,
    /// Random, and the same for the same content and seed.
    pub(super) key: u64,
    /// Hashes of its words, where topics are asked for.
    pub(super) words: Box<[u32]>,
}

/// What the draw made of a candidate.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct QuotaDecision {
    pub(super) left_out: bool,
    /// Where quotas are shared among topics: the candidate's.
    pub(super) topic: Option<usize>,
}

/// Draws. With `topics`, a quota is shared evenly among so many: one row of each in turn, as long as it has any.
pub(super) fn draw(candidates: &[Candidate], quotas: &HashMap<Language, u64>, topics: usize) -> Vec<QuotaDecision> {
    let mut decisions = vec![QuotaDecision::default(); candidates.len()];
    for (language, quota) in quotas {
        let of_language = candidates.iter().enumerate().filter(|(_, row)| row.language == *language);
        let mut rows: Vec<usize> = of_language.map(|(at, _)| at).collect();
        rows.sort_unstable_by_key(|at| (candidates[*at].key, *at));
        if topics > 0 {
            let words: Vec<&[u32]> = rows.iter().map(|at| &*candidates[*at].words).collect();
            let mut drawn = vec![0; topics];
            let mut turns = Vec::with_capacity(rows.len());
            for (at, topic) in rows.iter().zip(topic::topics(&words, topics)) {
                decisions[*at].topic = Some(topic);
                turns.push((drawn[topic], *at));
                drawn[topic] += 1;
            }
            turns.sort_by_key(|(turn, _)| *turn);
            rows = turns.into_iter().map(|(_, at)| at).collect();
        }
        for at in rows.into_iter().skip(usize::try_from(*quota).unwrap_or(usize::MAX)) {
            decisions[at].left_out = true;
        }
    }
    decisions
}

/// A random number that the content and the seed decide.
pub(super) fn key(seed: u64, content: u128) -> u64 {
    shingles::mix(shingles::mix(seed ^ 0x5eed) ^ content as u64)
}

//! How a corpus fills a trainer's context window: lengths in tokens, and the number of windows that packed records need.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use longhand_proto::task::Message;
use serde::{Deserialize, Serialize};

/// Tokens of a window. Most trainers skip longer records.
pub const WINDOW: u32 = 32_768;

/// Counts the tokens of a conversation.
pub type Count = dyn Fn(&[Message]) -> u32 + Send + Sync;

/// A tokenizer that counts, given by the exporting program.
#[derive(Clone)]
pub struct TokenCount {
    /// Name of the tokenizer, for the card.
    pub name: String,
    /// Counts tokens.
    pub count: Arc<Count>,
}

impl fmt::Debug for TokenCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCount").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Lengths and packing of the records. Field names are those of `stats.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packing {
    pub tokenizer: String,
    pub window: u32,
    pub records: u64,
    /// Records longer than a window.
    pub too_long: u64,
    /// Mean tokens of a record.
    pub mean: f64,
    pub min: u32,
    pub median: u32,
    pub p95: u32,
    pub max: u32,
    /// Windows that the other records need.
    pub windows: u64,
    /// Share of their tokens that is used.
    pub fill: f64,
}

impl Packing {
    /// Packs by best fit, longest first, as trainers do; none without records.
    pub(super) fn of(tokenizer: &str, mut lengths: Vec<u32>) -> Option<Self> {
        lengths.sort_unstable();
        let (min, max) = (*lengths.first()?, *lengths.last()?);
        let at = |share: f64| lengths[((lengths.len() - 1) as f64 * share).round() as usize];
        let fitting = lengths.partition_point(|length| *length <= WINDOW);
        // Number of windows by free tokens.
        let mut free_windows: BTreeMap<u32, u64> = BTreeMap::new();
        let (mut windows, mut used) = (0u64, 0u64);
        for length in lengths[..fitting].iter().rev() {
            let free = free_windows.range(length..).next().map(|(free, _)| *free);
            match free {
                Some(free) => match free_windows.get_mut(&free) {
                    Some(count) if *count > 1 => *count -= 1,
                    _ => drop(free_windows.remove(&free)),
                },
                None => windows += 1,
            }
            *free_windows.entry(free.unwrap_or(WINDOW) - length).or_default() += 1;
            used += u64::from(*length);
        }
        Some(Self {
            tokenizer: tokenizer.into(),
            window: WINDOW,
            records: lengths.len() as u64,
            too_long: (lengths.len() - fitting) as u64,
            mean: lengths.iter().map(|length| f64::from(*length)).sum::<f64>() / lengths.len() as f64,
            min,
            median: at(0.5),
            p95: at(0.95),
            max,
            windows,
            fill: if windows == 0 { 0.0 } else { used as f64 / (windows * u64::from(WINDOW)) as f64 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_share_windows_as_tightly_as_they_can() {
        let packing = Packing::of("t", vec![20_000, 12_768, 30_000, 2_768, 40_000, 16_384, 16_384]).unwrap();
        assert_eq!((packing.windows, packing.fill, packing.too_long), (3, 1.0, 1));
        assert_eq!((packing.min, packing.median, packing.max, packing.records), (2_768, 16_384, 40_000, 7));
        let packing = Packing::of("t", vec![20_000; 3]).unwrap();
        assert_eq!(packing.windows, 3, "no two of them fit together");
        assert_eq!(Packing::of("t", vec![WINDOW, WINDOW + 1]).unwrap().windows, 1);
        assert_eq!(Packing::of("t", Vec::new()), None);
    }
}

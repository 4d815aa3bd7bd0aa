//! Finds texts that say nearly the same: MinHash with locality-sensitive hashing, then a comparison.
//!
//! A text is the set of its shingles of five words (single characters where a script writes no spaces), blind to
//! case and punctuation. Two texts are as similar as the share of shingles that they have in common (Jaccard). To compare
//! each text with all others would take for ever, so [`Signature`] holds 96 minima of hashes of the set: two texts agree
//! in each with the probability of their similarity. The minima are cut into bands, and only texts that agree in a whole
//! band are compared, by their sketches: exactly up to 128 shingles, by a sample of 128 beyond.
//!
//! The width of a band follows the threshold: the widest one by which a pair at the threshold meets with a probability
//! of 0.99 or more. At 0.8 that is 16 bands of 6; a pair at 0.9 is then missed once in a hundred thousand.

mod minhash;
mod sketch;
mod table;
#[cfg(test)]
mod tests;

use minhash::{LANES, minima};
use sketch::{SketchStore, similarity, sketch};
use table::Table;

use crate::text::shingles;

/// Words of a shingle.
const SHINGLE_WORDS: usize = 5;
/// Probability with which a pair at the threshold must meet in a band.
const RECALL: f64 = 0.99;

/// What is kept of a text while it is looked for.
#[derive(Debug, Clone)]
pub struct Signature {
    minima: [u32; LANES],
    sketch: Vec<u32>,
}

impl Signature {
    /// The signature of a text.
    pub fn of(text: &str) -> Self {
        let words = shingles::word_hashes(text);
        // A text of fewer words is one shingle; of none, it is what it is.
        let mut shingles: Vec<u32> = match words.len() {
            0 => {
                vec![blake3::hash(text.trim().as_bytes()).as_bytes()[..4].iter().fold(0, |n, b| n << 8 | u32::from(*b))]
            }
            few => shingles::shingles(&words, few.min(SHINGLE_WORDS)).map(|shingle| shingle as u32).collect(),
        };
        let minima = minima(&shingles);
        sketch(&mut shingles);
        Self { minima, sketch: shingles }
    }
}

/// A text that was there before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Number of the text, in order of insertion from 0.
    pub text: u32,
    /// 0 to 1.
    pub similarity: f64,
}

/// Texts so far. Takes about 400 bytes a text of average length.
#[derive(Debug)]
pub struct Index {
    threshold: f64,
    /// Minima of one band.
    width: usize,
    bands: Vec<Table>,
    sketches: SketchStore,
}

impl Index {
    /// `threshold` is the least similarity at which two texts count as near duplicates, above 0 and up to 1.
    pub fn new(threshold: f64) -> Self {
        let width = width(threshold);
        Self {
            threshold,
            width,
            bands: (0..LANES / width).map(|_| Table::new()).collect(),
            sketches: SketchStore::default(),
        }
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.sketches.len()
    }

    /// True if it holds no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most similar text at or above the threshold, the earliest of equals.
    pub fn nearest(&self, text: &Signature) -> Option<Match> {
        let mut best: Option<Match> = None;
        let mut seen: Vec<u32> = Vec::new();
        for (band, table) in self.band_hashes(text).zip(&self.bands) {
            for id in table.get(band) {
                if seen.contains(&id) {
                    continue;
                }
                // Long lists of candidates are rare; the same one in many bands is not.
                if seen.len() < 64 {
                    seen.push(id);
                }
                let similarity = similarity(&text.sketch, self.sketches.get(id));
                let found = Match { text: id, similarity };
                let better = |best: &Match| (similarity, best.text) > (best.similarity, id);
                if similarity >= self.threshold && best.as_ref().is_none_or(better) {
                    best = Some(found);
                }
            }
        }
        best
    }

    /// All texts at or above the threshold.
    pub fn all(&self, text: &Signature) -> Vec<Match> {
        let mut ids: Vec<u32> =
            self.band_hashes(text).zip(&self.bands).flat_map(|(tag, table)| table.get(tag)).collect();
        ids.sort_unstable();
        ids.dedup();
        let matches =
            ids.into_iter().map(|id| Match { text: id, similarity: similarity(&text.sketch, self.sketches.get(id)) });
        matches.filter(|found| found.similarity >= self.threshold).collect()
    }

    /// Adds a text, and gives its number.
    pub fn insert(&mut self, text: &Signature) -> u32 {
        let id = self.sketches.add(&text.sketch);
        let tags: Vec<u32> = self.band_hashes(text).collect();
        for (tag, table) in tags.into_iter().zip(&mut self.bands) {
            table.insert(tag, id);
        }
        id
    }

    /// Adds a text unless a near duplicate is there.
    pub fn insert_new(&mut self, text: &Signature) -> Result<u32, Match> {
        match self.nearest(text) {
            Some(found) => Err(found),
            None => Ok(self.insert(text)),
        }
    }

    fn band_hashes<'a>(&self, text: &'a Signature) -> impl Iterator<Item = u32> + use<'a> {
        text.minima
            .chunks_exact(self.width)
            .map(|band| band.iter().fold(0, |tag, lane| shingles::mix(tag ^ u64::from(*lane)).wrapping_add(1)) as u32)
    }
}

/// The widest band with the recall wanted.
fn width(threshold: f64) -> usize {
    let recall = |width: usize| 1.0 - (1.0 - threshold.powi(width as i32)).powi((LANES / width) as i32);
    (1..=8).rev().find(|width| recall(*width) >= RECALL).unwrap_or(1)
}

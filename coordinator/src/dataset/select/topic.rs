//! Topics: which instructions are about the same thing, so that no subject fills a quota alone.
//!
//! A text is the set of its words (pairs of characters in Chinese), each weighing more the fewer texts hold it. k-means over
//! the directions of these vectors puts texts together; it is made of a sample, and all texts go to the nearest topic.

use std::collections::HashMap;

use crate::domain::language::Language;
use crate::text::shingles;

/// Words that a text is known by: its first ones.
const WORDS: usize = 128;
/// Texts that the topics are made of.
const SAMPLE: usize = 20_000;
/// Words that are told apart, the most frequent ones. Bounds memory to so many floats a topic.
const VOCABULARY: usize = 16_384;
/// A word that more than one in so many texts holds says nothing of what they are about.
const COMMON: usize = 2;
/// Times that the topics are moved to the middle of their texts. They hardly move after that.
const ROUNDS: usize = 10;

/// Hashes of the words that stand for a text, each once.
pub(super) fn words(text: &str, language: Language) -> Box<[u32]> {
    let run = match language {
        Language::En => 1,
        Language::Zh => 2,
    };
    let mut words: Vec<u32> =
        shingles::shingles(&shingles::word_hashes(text), run).take(WORDS).map(|word| word as u32).collect();
    words.sort_unstable();
    words.dedup();
    words.into()
}

/// The topic of each text, below `count`. The same texts in the same order have the same topics.
pub(super) fn topics(texts: &[&[u32]], count: usize) -> Vec<usize> {
    let vocabulary = Vocabulary::of(texts);
    let step = texts.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<Vector> = texts.iter().step_by(step).map(|text| vocabulary.vector(text)).collect();
    let mut centroids = Centroids::begin(&sample, count, vocabulary.places.len());
    for _ in 0..ROUNDS {
        centroids.update_centroids(&sample);
    }
    texts.iter().map(|text| centroids.nearest(&vocabulary.vector(text))).collect()
}

/// Places of the words that count, and their weights; of length 1.
type Vector = Vec<(usize, f32)>;

#[derive(Debug)]
struct Vocabulary {
    places: HashMap<u32, (usize, f32)>,
}

impl Vocabulary {
    fn of(texts: &[&[u32]]) -> Self {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for word in texts.iter().flat_map(|text| *text) {
            *counts.entry(*word).or_default() += 1;
        }
        let mut words: Vec<(u32, usize)> =
            counts.into_iter().filter(|(_, count)| *count > 1 && *count * COMMON <= texts.len()).collect();
        words.sort_unstable_by_key(|(word, count)| (std::cmp::Reverse(*count), *word));
        words.truncate(VOCABULARY);
        let weight = |count: usize| (texts.len() as f32 / count as f32).ln();
        let places = words.into_iter().enumerate().map(|(place, (word, count))| (word, (place, weight(count))));
        Self { places: places.collect() }
    }

    fn vector(&self, text: &[u32]) -> Vector {
        let mut vector: Vector = text.iter().filter_map(|word| self.places.get(word)).copied().collect();
        let length = vector.iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|(_, weight)| *weight /= length);
        vector
    }
}

/// The middle of each topic, all of length 1.
#[derive(Debug)]
struct Centroids {
    topics: usize,
    /// By word, then by topic, so that a text is compared with all topics at once.
    weights: Vec<f32>,
}

impl Centroids {
    /// Texts of the sample, drawn so that they are far from each other (k-means++).
    fn begin(sample: &[Vector], topics: usize, words: usize) -> Self {
        let mut centroids = Self { topics, weights: vec![0.0; topics * words] };
        let mut far = vec![1.0; sample.len()];
        for topic in 0..topics {
            let mut draw = shingles::mix(topic as u64) as f64 / u64::MAX as f64 * far.iter().sum::<f64>();
            let drawn = far.iter().position(|far| {
                draw -= far;
                draw < 0.0
            });
            // Fewer kinds of texts than topics.
            let Some(drawn) = drawn else { break };
            for (word, weight) in &sample[drawn] {
                centroids.weights[word * topics + topic] = *weight;
            }
            for (text, far) in sample.iter().zip(&mut far) {
                let near: f32 =
                    text.iter().map(|(word, weight)| weight * centroids.weights[word * topics + topic]).sum();
                *far = far.min(f64::from(1.0 - near).max(0.0).powi(2));
            }
            far[drawn] = 0.0;
        }
        centroids
    }

    fn nearest(&self, text: &Vector) -> usize {
        let mut near = vec![0.0; self.topics];
        for (word, weight) in text {
            let row = &self.weights[word * self.topics..(word + 1) * self.topics];
            near.iter_mut().zip(row).for_each(|(near, other)| *near += weight * other);
        }
        near.iter().enumerate().fold(0, |best, (topic, value)| if *value > near[best] { topic } else { best })
    }

    fn update_centroids(&mut self, sample: &[Vector]) {
        let mut sums = vec![0.0; self.weights.len()];
        for text in sample {
            let topic = self.nearest(text);
            for (word, weight) in text {
                sums[word * self.topics + topic] += weight;
            }
        }
        let mut lengths = vec![0.0f32; self.topics];
        for row in sums.chunks_exact(self.topics) {
            lengths.iter_mut().zip(row).for_each(|(length, weight)| *length += weight * weight);
        }
        for row in sums.chunks_exact_mut(self.topics) {
            row.iter_mut().zip(&lengths).for_each(|(weight, length)| *weight /= length.sqrt().max(f32::MIN_POSITIVE));
        }
        self.weights = sums;
    }
}

//! The validation split: whole clusters of similar instructions, so that validation has no instruction that is nearly the
//! same as one of training.

use std::collections::HashMap;

use crate::text::shingles;
use crate::text::similarity::{Index, Signature};

/// Least similarity of instructions in a cluster. Lower than for near duplicates: to separate similar instructions is worse
/// here than to keep different ones together.
const SIMILARITY: f64 = 0.6;

/// Clusters of instructions (union-find), built in order of submission.
#[derive(Debug)]
pub(super) struct Clusters {
    index: Index,
    /// Parent of each instruction; the root of a cluster is its own parent.
    parents: Vec<u32>,
    keys: Vec<u64>,
}

impl Clusters {
    pub(super) fn new() -> Self {
        Self { index: Index::new(SIMILARITY), parents: Vec::new(), keys: Vec::new() }
    }

    pub(super) fn add(&mut self, instruction: &str) {
        let signature = Signature::of(instruction);
        let near = self.index.all(&signature);
        let number = self.index.insert(&signature);
        self.parents.push(number);
        self.keys.push(shingles::fingerprint(instruction));
        for found in near {
            let (a, b) = (self.root(found.text), self.root(number));
            // The earlier one becomes the root, so the result does not depend on the order of the matches.
            self.parents[a.max(b) as usize] = a.min(b);
        }
    }

    fn root(&self, mut at: u32) -> u32 {
        while self.parents[at as usize] != at {
            at = self.parents[at as usize];
        }
        at
    }

    /// For each instruction, true if it is in the validation split: clusters in an order determined by content and seed, as
    /// many as fit into `share` of the records (at least one record, if there is a cluster of one).
    pub(super) fn validation(&self, share: f64, seed: u64) -> Vec<bool> {
        let roots: Vec<u32> = (0..self.parents.len()).map(|at| self.root(at as u32)).collect();
        let mut sizes: HashMap<u32, usize> = HashMap::new();
        for root in &roots {
            *sizes.entry(*root).or_default() += 1;
        }
        let mut room = if share > 0.0 && sizes.len() > 1 { ((roots.len() as f64 * share) as usize).max(1) } else { 0 };
        let mut order: Vec<u32> = sizes.keys().copied().collect();
        order.sort_unstable_by_key(|root| (shingles::mix(seed ^ self.keys[*root as usize]), *root));
        let mut chosen: HashMap<u32, bool> = HashMap::new();
        for root in order {
            let fits = sizes[&root] <= room;
            room -= if fits { sizes[&root] } else { 0 };
            chosen.insert(root, fits);
        }
        roots.iter().map(|root| chosen[root]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixty instructions, each in three wordings.
    fn instructions() -> Vec<String> {
        const TOPICS: [&str; 12] =
            ["tea", "salt", "glass", "paper", "iron", "wool", "clay", "rope", "ink", "honey", "copper", "silk"];
        let plain = |k: usize| {
            let (topic, other) = (TOPICS[k % 12], TOPICS[(k / 12 + k + 1) % 12]);
            format!(
                "Tell how {topic} and {other} made the fortune of town number {k}, in six chapters for children please"
            )
        };
        let wordings: [fn(String) -> String; 3] =
            [|it| it, |it| it.to_uppercase() + "!", |it| format!("{it} and thank you")];
        wordings.iter().flat_map(|word| (0..60).map(move |k| word(plain(k)))).collect()
    }

    fn clusters(instructions: &[String]) -> Clusters {
        let mut clusters = Clusters::new();
        instructions.iter().for_each(|text| clusters.add(text));
        clusters
    }

    #[test]
    fn wordings_of_one_instruction_stay_on_one_side() {
        let instructions = instructions();
        let sides = clusters(&instructions).validation(0.1, 7);
        let chosen = sides.iter().filter(|side| **side).count();
        assert!((9..=18).contains(&chosen), "{chosen} of 180");
        for k in 0..60 {
            assert!(sides[k] == sides[k + 60] && sides[k] == sides[k + 120], "{}", instructions[k]);
        }
        assert_ne!(sides, clusters(&instructions).validation(0.1, 8), "the seed draws");
        assert_eq!(sides, clusters(&instructions).validation(0.1, 7));
    }

    #[test]
    fn training_is_never_left_without_a_record() {
        let same = vec!["Write a long story about a lighthouse and its keeper.".to_owned(); 5];
        assert_eq!(clusters(&same).validation(0.5, 1), [false; 5]);
        let instructions = instructions();
        assert!(clusters(&instructions).validation(0.0, 1).iter().all(|side| !side));
        assert_eq!(clusters(&instructions[..4]).validation(0.01, 1).iter().filter(|side| **side).count(), 1);
        assert!(clusters(&[]).validation(0.5, 1).is_empty());
    }
}

//! Means with bootstrap intervals.

use serde::{Deserialize, Serialize};

/// Resamples: the ends of an interval move by less than a tenth of a point between seeds.
const RESAMPLES: usize = 4_000;

/// A mean, and the middle 95 % of the means of samples drawn again from the same values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Mean {
    pub(super) n: usize,
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// None without values. `key` selects the random stream: the same values, seed and key give the same interval.
pub(super) fn mean(values: &[f64], seed: u64, key: &str) -> Option<Mean> {
    let pairs: Vec<(f64, f64)> = values.iter().map(|value| (*value, 1.0)).collect();
    ratio(&pairs, seed, key)
}

/// The sum of the first numbers over the sum of the second, which are not negative. None if the latter is 0. A sample that
/// draws only zeros below has no ratio and is left out.
pub(super) fn ratio(values: &[(f64, f64)], seed: u64, key: &str) -> Option<Mean> {
    let n = values.len();
    let of = |(above, below): (f64, f64)| (below > 0.0).then(|| above / below);
    let add = |sum: (f64, f64), value: &(f64, f64)| (sum.0 + value.0, sum.1 + value.1);
    let mean = of(values.iter().fold((0.0, 0.0), add))?;
    let mut hash = blake3::Hasher::new_derive_key("longhand bootstrap v1");
    let mut draws = hash.update(&seed.to_le_bytes()).update(key.as_bytes()).finalize_xof();
    let mut draw = || {
        let mut bytes = [0; 8];
        draws.fill(&mut bytes);
        // The modulo bias is about 1e-19 of n.
        &values[(u64::from_le_bytes(bytes) % n as u64) as usize]
    };
    let samples = (0..RESAMPLES).map(|_| (0..n).fold((0.0, 0.0), |sum, _| add(sum, draw())));
    let mut means: Vec<f64> = samples.filter_map(of).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[(share * (means.len().max(1) - 1) as f64).round() as usize];
    Some(Mean { n, mean, low: at(0.025), high: at(0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_as_wide_as_theory_says_and_repeats_by_seed() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let it = mean(&values, 7, "all").unwrap();
        // The standard error of the mean of 0..100 is 2.887.
        assert_eq!(it.mean, 49.5);
        assert!((it.high - it.low - 2.0 * 1.96 * 2.887).abs() < 0.6, "{it:?}");
        assert_eq!(mean(&values, 7, "all"), Some(it));
        assert_ne!(mean(&values, 8, "all"), Some(it));
        assert_ne!(mean(&values, 7, "zh"), Some(it));
    }

    #[test]
    fn one_value_has_no_spread_and_none_no_mean() {
        assert_eq!(mean(&[3.0], 1, ""), Some(Mean { n: 1, mean: 3.0, low: 3.0, high: 3.0 }));
        assert_eq!(mean(&[], 1, ""), None);
    }
}

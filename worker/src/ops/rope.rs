//! Rotary positions.

use std::f64::consts::TAU;

/// Which two elements of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// (2i, 2i+1): GGUF files of the llama architecture, whose q and k rows were permuted for it.
    Interleaved,
    /// (i, i + d/2): safetensors, and GGUF files of the other architectures.
    Half,
}

/// Stretching of rope frequencies for long contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Every frequency divided by `factor`.
    Linear { factor: f32 },
    /// Llama 3: short waves stay, waves longer than the original context are stretched by `factor`, those between are mixed.
    Llama3 { factor: f32, low_freq_factor: f32, high_freq_factor: f32, original_context: usize },
    /// YaRN: pairs that turn more than `beta_fast` times in the original context stay, those that turn less than `beta_slow`
    /// times are stretched by `factor`, those between are mixed. `truncate` rounds the two limits outwards to whole pairs.
    Yarn { factor: f32, beta_fast: f32, beta_slow: f32, truncate: bool, original_context: usize, magnitude: f32 },
    /// A divisor of each frequency: LongRoPE, and what GGUF files carry in `rope_freqs.weight`; one for each pair that rotates.
    Factors { divisors: Vec<f32>, magnitude: f32 },
}

impl RopeScaling {
    /// The context that it makes of the original one, where that is not what files state.
    pub(crate) fn context(&self) -> Option<usize> {
        match self {
            Self::Yarn { factor, original_context, .. } => {
                Some((*original_context as f64 * f64::from(*factor)) as usize)
            }
            Self::Linear { .. } | Self::Llama3 { .. } | Self::Factors { .. } => None,
        }
    }

    /// What cosines and sines are multiplied with.
    fn magnitude(&self) -> f32 {
        match self {
            Self::Linear { .. } | Self::Llama3 { .. } => 1.0,
            Self::Yarn { magnitude, .. } | Self::Factors { magnitude, .. } => *magnitude,
        }
    }
}

/// How each of a head's `head_dim / 2` pairs turns: radians per position, and what cosine and sine are multiplied with. The
/// first `rotated` elements of a head rotate; pairs of the others stand still.
pub(crate) fn turns(head_dim: usize, rotated: usize, base: f32, scaling: Option<&RopeScaling>) -> Vec<[f32; 2]> {
    let magnitude = scaling.map_or(1.0, RopeScaling::magnitude);
    let mut turns = vec![[0.0, 1.0]; head_dim / 2];
    for (pair, turn) in turns.iter_mut().take(rotated / 2).enumerate() {
        let frequency = f64::from(base).powf(-2.0 * pair as f64 / rotated as f64);
        *turn = [scaled(frequency, pair, rotated, base, scaling) as f32, magnitude];
    }
    turns
}

/// Rotates heads.
#[derive(Debug)]
pub(crate) struct Rope {
    turns: Vec<[f32; 2]>,
    style: RopeStyle,
    rotated: usize,
}

impl Rope {
    /// `turns`: one per pair, of [`turns`]; of each head `rotated` elements rotate.
    pub(crate) fn new(turns: Vec<[f32; 2]>, style: RopeStyle, rotated: usize) -> Self {
        Self { turns, style, rotated }
    }

    /// Cosine and sine of each pair at a position, one after the other. The angle is a float32 product, as in the
    /// implementations that models are trained with.
    pub(crate) fn angles(&self, position: usize, out: &mut [[f32; 2]]) {
        for (out, [radians, magnitude]) in out.iter_mut().zip(&self.turns) {
            let angle = f64::from(position as f32 * radians);
            *out = [angle.cos() as f32 * magnitude, angle.sin() as f32 * magnitude];
        }
    }

    /// Rotates one head in place.
    #[inline]
    pub(crate) fn rotate(&self, head: &mut [f32], angles: &[[f32; 2]]) {
        let rotate_pair =
            |a: &mut f32, b: &mut f32, [cos, sin]: [f32; 2]| (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
        let head = &mut head[..self.rotated];
        match self.style {
            RopeStyle::Interleaved => {
                for (pair, &angle) in head.chunks_exact_mut(2).zip(angles) {
                    let [a, b] = pair else { unreachable!("pairs") };
                    rotate_pair(a, b, angle);
                }
            }
            RopeStyle::Half => {
                let (first, second) = head.split_at_mut(self.rotated / 2);
                for ((a, b), &angle) in first.iter_mut().zip(second).zip(angles) {
                    rotate_pair(a, b, angle);
                }
            }
        }
    }
}

fn scaled(frequency: f64, pair: usize, rotated: usize, base: f32, scaling: Option<&RopeScaling>) -> f64 {
    match scaling {
        None => frequency,
        Some(RopeScaling::Linear { factor }) => frequency / f64::from(*factor),
        Some(RopeScaling::Factors { divisors, .. }) => frequency / f64::from(divisors[pair]),
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }) => {
            let (low, high) = (f64::from(*low_freq_factor), f64::from(*high_freq_factor));
            let turns = *original_context as f64 * frequency / TAU;
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            frequency * (kept + (1.0 - kept) / f64::from(*factor))
        }
        Some(RopeScaling::Yarn { factor, beta_fast, beta_slow, truncate, original_context, .. }) => {
            // The pair that turns this often in the original context.
            let pair_of = |turns: f32| {
                let waves = *original_context as f64 / (f64::from(turns) * TAU);
                rotated as f64 * waves.ln() / (2.0 * f64::from(base).ln())
            };
            let (mut low, mut high) = (pair_of(*beta_fast), pair_of(*beta_slow));
            if *truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            (low, high) = (low.max(0.0), high.min(rotated as f64 - 1.0));
            let width = if low == high { 0.001 } else { high - low };
            let stretched = ((pair as f64 - low) / width).clamp(0.0, 1.0);
            frequency * (1.0 - stretched + stretched / f64::from(*factor))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const BASE: f32 = 500_000.0;

    fn frequencies(scaling: Option<&RopeScaling>) -> Vec<f32> {
        turns(128, 128, BASE, scaling).into_iter().map(|[radians, _]| radians).collect()
    }

    #[test]
    fn llama3_keeps_short_waves_and_stretches_long_ones() {
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
        let (scaled, plain) = (frequencies(Some(&scaling)), frequencies(None));
        assert_eq!(scaled[0], 1.0);
        assert_eq!(scaled[10], plain[10]);
        assert_eq!(scaled[63], plain[63] / 8.0);
        // Computed by the published formula: wavelength of pair 32 is 4443, between 8192 / 4 and 8192 / 1.
        let turns = 8192.0 / (TAU / f64::from(plain[32]));
        let smooth = (turns - 1.0) / 3.0;
        let want = (1.0 - smooth) * f64::from(plain[32]) / 8.0 + smooth * f64::from(plain[32]);
        assert!((f64::from(scaled[32]) - want).abs() < 1e-9);
    }

    #[test]
    fn yarn_keeps_pairs_that_turn_often_and_stretches_those_that_turn_seldom() {
        let (factor, original_context, magnitude) = (4.0, 32_768, 1.14);
        let scaling =
            RopeScaling::Yarn { factor, beta_fast: 32.0, beta_slow: 1.0, truncate: true, original_context, magnitude };
        let (scaled, plain) = (frequencies(Some(&scaling)), frequencies(None));
        assert_eq!((scaled[0], scaled[24]), (1.0, plain[24]));
        assert_eq!(scaled[63], plain[63] / 4.0);
        assert!(scaled[32] < plain[32] && scaled[32] > plain[32] / 4.0);
    }

    #[test]
    fn what_does_not_rotate_stands_still() {
        let divisors = vec![2.0; 16];
        let rope = |style| {
            let scaling = RopeScaling::Factors { divisors: divisors.clone(), magnitude: 1.5 };
            Rope::new(turns(64, 32, BASE, Some(&scaling)), style, 32)
        };
        for style in [RopeStyle::Half, RopeStyle::Interleaved] {
            let (rope, mut angles, mut head) = (rope(style), vec![[0.0; 2]; 32], vec![1.0; 64]);
            rope.angles(2, &mut angles);
            rope.rotate(&mut head, &angles);
            assert_eq!(angles[0], [1_f32.cos() * 1.5, 1_f32.sin() * 1.5]);
            assert!((head[0] - 1.5 * (1_f32.cos() - 1_f32.sin())).abs() < 1e-6, "{style:?}");
            assert_eq!(head[32..], [1.0; 32], "{style:?}");
            assert_eq!(angles[16..], [[1.0, 0.0]; 16], "{style:?}");
        }
    }

    #[test]
    fn both_styles_rotate_the_same_pairs_in_their_own_order() {
        let rope = |style| Rope::new(turns(128, 128, BASE, None), style, 128);
        let (half, interleaved) = (rope(RopeStyle::Half), rope(RopeStyle::Interleaved));
        let head: Vec<f32> = (0..128).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut angles = vec![[0.0; 2]; 64];
        let mut a = head.clone();
        half.angles(77, &mut angles);
        half.rotate(&mut a, &angles);
        let mut b: Vec<f32> = (0..128).map(|i| head[i / 2 + i % 2 * 64]).collect();
        interleaved.rotate(&mut b, &angles);
        for i in 0..128 {
            assert_eq!(a[i / 2 + i % 2 * 64], b[i]);
        }
        assert!((a[0] - (head[0] * 77_f32.cos() - head[64] * 77_f32.sin())).abs() < 1e-6);
    }
}

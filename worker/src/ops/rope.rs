//! Rotary positions.

use std::f64::consts::TAU;

/// Which two elements of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// (2i, 2i+1): GGUF files of the llama architecture, whose q and k rows were permuted for it.
    Interleaved,
    /// (i, i + d/2): safetensors, and GGUF files of the Qwen architectures.
    Half,
}

/// Stretching of rope frequencies for long contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Every frequency divided by `factor`.
    Linear { factor: f32 },
    /// Llama 3: short waves stay, waves longer than the original context are stretched by `factor`, those between are mixed.
    Llama3 { factor: f32, low_freq_factor: f32, high_freq_factor: f32, original_context: usize },
    /// Divisors of each frequency, as GGUF files carry them in `rope_freqs.weight`; length head_dim / 2.
    Factors(Vec<f32>),
}

/// Radians per position of each of a head's `head_dim / 2` pairs.
pub(crate) fn frequencies(head_dim: usize, base: f32, scaling: Option<&RopeScaling>) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|pair| {
            let exponent = 2.0 * pair as f64 / head_dim as f64;
            scaled(f64::from(base).powf(-exponent), pair, scaling) as f32
        })
        .collect()
}

/// Rotates heads.
#[derive(Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f32>,
    style: RopeStyle,
}

impl Rope {
    /// `frequencies`: one per pair, of [`frequencies`].
    pub(crate) fn new(frequencies: Vec<f32>, style: RopeStyle) -> Self {
        Self { frequencies, style }
    }

    /// Cosine and sine of each pair at a position, one after the other. The angle is a float32 product, as in the
    /// implementations that models are trained with.
    pub(crate) fn angles(&self, position: usize, out: &mut [[f32; 2]]) {
        for (out, frequency) in out.iter_mut().zip(&self.frequencies) {
            let angle = f64::from(position as f32 * frequency);
            *out = [angle.cos() as f32, angle.sin() as f32];
        }
    }

    /// Rotates one head in place.
    #[inline]
    pub(crate) fn rotate(&self, head: &mut [f32], angles: &[[f32; 2]]) {
        let rotate_pair =
            |a: &mut f32, b: &mut f32, [cos, sin]: [f32; 2]| (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
        match self.style {
            RopeStyle::Interleaved => {
                for (pair, &angle) in head.chunks_exact_mut(2).zip(angles) {
                    let [a, b] = pair else { unreachable!("pairs") };
                    rotate_pair(a, b, angle);
                }
            }
            RopeStyle::Half => {
                let (first, second) = head.split_at_mut(angles.len());
                for ((a, b), &angle) in first.iter_mut().zip(second).zip(angles) {
                    rotate_pair(a, b, angle);
                }
            }
        }
    }
}

fn scaled(frequency: f64, pair: usize, scaling: Option<&RopeScaling>) -> f64 {
    match scaling {
        None => frequency,
        Some(RopeScaling::Linear { factor }) => frequency / f64::from(*factor),
        Some(RopeScaling::Factors(factors)) => frequency / f64::from(factors[pair]),
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }) => {
            let (low, high) = (f64::from(*low_freq_factor), f64::from(*high_freq_factor));
            let turns = *original_context as f64 * frequency / TAU;
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            frequency * (kept + (1.0 - kept) / f64::from(*factor))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const BASE: f32 = 500_000.0;

    #[test]
    fn llama3_keeps_short_waves_and_stretches_long_ones() {
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
        let scaled = frequencies(128, BASE, Some(&scaling));
        let plain = frequencies(128, BASE, None);
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
    fn both_styles_rotate_the_same_pairs_in_their_own_order() {
        let rope = |style| Rope::new(frequencies(128, BASE, None), style);
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

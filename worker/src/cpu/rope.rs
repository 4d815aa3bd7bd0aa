//! Rotary positions.

use std::f64::consts::TAU;

use crate::model::{ModelConfig, RopeScaling, RopeStyle};

/// Angle per position of each of a head's pairs.
#[derive(Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f32>,
    style: RopeStyle,
}

/// By how much each of a head's pairs turns from position to position.
pub(crate) fn frequencies(config: &ModelConfig) -> Vec<f32> {
    (0..config.head_dim / 2)
        .map(|pair| {
            let exponent = 2.0 * pair as f64 / config.head_dim as f64;
            let plain = f64::from(config.rope_base).powf(-exponent);
            scaled(plain, pair, config.rope_scaling.as_ref()) as f32
        })
        .collect()
}

impl Rope {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self { frequencies: frequencies(config), style: config.rope_style }
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
        let turn =
            |a: &mut f32, b: &mut f32, [cos, sin]: [f32; 2]| (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
        match self.style {
            RopeStyle::Interleaved => {
                for (pair, &angle) in head.chunks_exact_mut(2).zip(angles) {
                    let [a, b] = pair else { unreachable!("pairs") };
                    turn(a, b, angle);
                }
            }
            RopeStyle::Half => {
                let (first, second) = head.split_at_mut(angles.len());
                for ((a, b), &angle) in first.iter_mut().zip(second).zip(angles) {
                    turn(a, b, angle);
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
        // Llama 3: short waves stay, waves longer than the original context are stretched, those between are mixed.
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
    use crate::model::Family;

    fn config(scaling: Option<RopeScaling>, style: RopeStyle) -> ModelConfig {
        ModelConfig {
            family: Family::Llama,
            layers: 1,
            dim: 128,
            ffn: 128,
            heads: 1,
            kv_heads: 1,
            head_dim: 128,
            vocab: 10,
            context: 100,
            rope_base: 500_000.0,
            rope_scaling: scaling,
            rope_style: style,
            norm_eps: 1e-5,
            tied: true,
            qkv_bias: false,
            qk_norm: false,
        }
    }

    #[test]
    fn llama3_keeps_short_waves_and_stretches_long_ones() {
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
        let scaled = Rope::new(&config(Some(scaling), RopeStyle::Half)).frequencies;
        let plain = Rope::new(&config(None, RopeStyle::Half)).frequencies;
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
    fn both_styles_turn_the_same_pairs_in_their_own_order() {
        let (half, interleaved) = (config(None, RopeStyle::Half), config(None, RopeStyle::Interleaved));
        let head: Vec<f32> = (0..128).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut angles = vec![[0.0; 2]; 64];
        let mut a = head.clone();
        Rope::new(&half).angles(77, &mut angles);
        Rope::new(&half).rotate(&mut a, &angles);
        let mut b: Vec<f32> = (0..128).map(|i| head[i / 2 + i % 2 * 64]).collect();
        Rope::new(&interleaved).rotate(&mut b, &angles);
        for i in 0..128 {
            assert_eq!(a[i / 2 + i % 2 * 64], b[i]);
        }
        assert!((a[0] - (head[0] * 77_f32.cos() - head[64] * 77_f32.sin())).abs() < 1e-6);
    }
}

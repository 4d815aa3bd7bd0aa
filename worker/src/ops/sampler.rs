//! From logits to a token: pure, and the reference for every device's own sampling.
//!
//! The order is fixed: bias, repetition penalty, mask, temperature, top-k, top-p of what top-k kept, min-p, draw. Among
//! equal logits the lower id counts as the greater one, so every set is well defined. Temperature 0 takes the greatest
//! logit and draws nothing.

use super::exp2::exp2_one;
use super::vector::{LANES, max_num};
use crate::device::{RngKey, SampleError, SampleParams};

/// Reusable memory of one sampling thread.
#[derive(Debug, Default)]
pub struct Sampler {
    candidates: Vec<Candidate>,
    peaks: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: u32,
    logit: f32,
    /// Probability times a constant.
    weight: f32,
}

impl Candidate {
    /// Likelier first, then the lower id.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.logit.total_cmp(&self.logit).then(self.token.cmp(&other.token))
    }
}

/// Logits that are scanned together when the greatest ones are looked for.
const STRIP: usize = 64;

impl Sampler {
    /// Chooses a token. `logits` are changed in place as bias, penalty and mask say.
    pub fn sample(&mut self, logits: &mut [f32], params: &SampleParams) -> Result<u32, SampleError> {
        process_logits(logits, params);
        let max = max_logit(logits)?;
        let sampling = &params.sampling;
        if sampling.temperature <= 0.0 {
            let token = logits.iter().position(|logit| *logit == max);
            return token.map(|token| token as u32).ok_or(SampleError::NothingAllowed);
        }
        // In powers of two, relative to the likeliest.
        let sharpness = std::f32::consts::LOG2_E / sampling.temperature;
        let weight = |logit: f32| exp2_one((logit - max) * sharpness);
        let total = self.gather(logits, params, weight);
        if sampling.top_p < 1.0 {
            self.apply_top_p(f64::from(sampling.top_p) * total);
        }
        if sampling.min_p > 0.0 {
            self.candidates.retain(|candidate| candidate.weight >= sampling.min_p);
        }
        Ok(self.draw(uniform(params.key, params.position)))
    }

    /// Collects the tokens that top-k keeps and that later steps can still want, with their weights. Gives the weight of
    /// all that top-k keeps, if top-p will ask for it.
    fn gather(&mut self, logits: &[f32], params: &SampleParams, weight: impl Fn(f32) -> f32) -> f64 {
        let (top_k, top_p) = (params.sampling.top_k as usize, params.sampling.top_p);
        let limited = (1..logits.len()).contains(&top_k);
        let least = if limited { self.topk_threshold(logits, top_k) } else { f32::NEG_INFINITY };
        self.candidates.clear();
        let strip_weight = |strip: &[f32]| f64::from(strip.iter().map(|logit| weight(*logit)).sum::<f32>());
        let mut total = 0.0;
        if !limited && top_p < 1.0 {
            total = logits.chunks(STRIP).map(strip_weight).sum();
        }
        // Tokens this light are less than half of what top-p drops even if all are: it would not come to them.
        let negligible = ((1.0 - f64::from(top_p)).max(0.0) * total / logits.len() as f64 * 0.5) as f32;
        for (index, strip) in logits.chunks(STRIP).enumerate() {
            if limited && self.peaks[index] < least {
                continue;
            }
            for (at, &logit) in strip.iter().enumerate() {
                if logit >= least && logit > f32::NEG_INFINITY {
                    let weight = weight(logit);
                    if weight > negligible {
                        self.candidates.push(Candidate { token: (index * STRIP + at) as u32, logit, weight });
                    }
                }
            }
        }
        if limited && self.candidates.len() > top_k {
            self.candidates.select_nth_unstable_by(top_k - 1, Candidate::order);
            self.candidates.truncate(top_k);
            self.candidates.sort_unstable_by_key(|candidate| candidate.token);
        }
        if limited {
            total = self.candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
        }
        total
    }

    /// A logit that at least `count` logits reach: the `count`-th greatest of all strips' peaks.
    fn topk_threshold(&mut self, logits: &[f32], count: usize) -> f32 {
        self.peaks.clear();
        self.peaks.extend(logits.chunks(STRIP).map(|strip| strip.iter().copied().fold(f32::NEG_INFINITY, max_num)));
        if count > self.peaks.len() {
            return f32::NEG_INFINITY;
        }
        let mut peaks = self.peaks.clone();
        *peaks.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
    }

    /// Keeps the fewest likeliest candidates whose weights together reach `wanted`; always at least one.
    fn apply_top_p(&mut self, wanted: f64) {
        let count = self.candidates.len();
        let mut sorted = 0;
        let mut sum = 0.0;
        // Sorting more only when the likeliest so far do not reach: mostly a few dozen do.
        let mut next = 128;
        while sorted < count {
            let end = next.min(count);
            if end < count {
                self.candidates[sorted..].select_nth_unstable_by(end - sorted - 1, Candidate::order);
            }
            self.candidates[sorted..end].sort_unstable_by(Candidate::order);
            for at in sorted..end {
                sum += f64::from(self.candidates[at].weight);
                if sum >= wanted {
                    self.candidates.truncate(at + 1);
                    return;
                }
            }
            (sorted, next) = (end, next * 8);
        }
    }

    fn draw(&self, uniform: f64) -> u32 {
        let total: f64 = self.candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
        let mut left = uniform * total;
        for candidate in &self.candidates {
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Rounding can leave a trace of the whole; the likeliest candidate always has weight.
        self.candidates.iter().max_by(|a, b| b.order(a)).map_or(0, |candidate| candidate.token)
    }
}

/// Bias, repetition penalty and mask, in this order.
fn process_logits(logits: &mut [f32], params: &SampleParams) {
    for &(token, bias) in &params.bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += bias;
        }
    }
    let penalty = params.sampling.repetition_penalty;
    if penalty != 1.0 {
        for &token in &params.penalised {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }
    if let Some(mask) = &params.mask {
        let words = mask.iter().copied().chain(std::iter::repeat(0));
        for (logits, word) in logits.chunks_mut(32).zip(words) {
            if word != u32::MAX {
                for (bit, logit) in logits.iter_mut().enumerate() {
                    *logit = if word >> bit & 1 == 1 { *logit } else { f32::NEG_INFINITY };
                }
            }
        }
    }
}

/// The greatest logit; an error if there is none to choose.
fn max_logit(logits: &[f32]) -> Result<f32, SampleError> {
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut nan = [false; LANES];
    for chunk in logits.chunks(LANES) {
        for ((max, nan), logit) in max.iter_mut().zip(&mut nan).zip(chunk) {
            *nan |= logit.is_nan();
            *max = max_num(*logit, *max);
        }
    }
    let max = max.into_iter().fold(f32::NEG_INFINITY, max_num);
    if nan.contains(&true) || max == f32::INFINITY {
        return Err(SampleError::NotNumbers);
    }
    if max == f32::NEG_INFINITY { Err(SampleError::NothingAllowed) } else { Ok(max) }
}

/// The random number of a position, in 0..1: always the same for the same key.
fn uniform(key: RngKey, position: u32) -> f64 {
    let counter = [position, 0, key.stream as u32, (key.stream >> 32) as u32];
    let [high, low, ..] = philox(counter, [key.seed as u32, (key.seed >> 32) as u32]);
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// Philox4x32-10 (Salmon et al., SC 2011): a random number generator without state.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        let high = |product: u64| (product >> 32) as u32;
        counter = [high(b) ^ counter[1] ^ key[0], b as u32, high(a) ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests;

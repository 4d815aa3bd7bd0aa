//! Attention of up to sixteen queries of one KV head over one segment of positions.
//!
//! Positions are cut into segments of 256, always at multiples of 256. A segment's softmax is computed on its own and
//! gives a partial result (weighted sum of values, greatest score, sum of weights); partial results are folded in the
//! order of positions. Who computes a segment, and together with which other queries, has no influence on the bits.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::isa::Isa;
use super::lanes::{self, LANES, Vector};

pub(crate) const SEGMENT: usize = 256;

/// Queries of one call at most.
pub(crate) const QUERIES: usize = 16;

/// Floats of a partial result: the weighted values, then greatest score and sum of weights.
pub(crate) const fn partial_len(width: usize) -> usize {
    width + LANES
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// Words of bf16 pairs, scaled by log2(e) / sqrt(head_dim): `[query][width / 2]`.
    pub(crate) queries: &'a [u32],
    /// Positions of the segment that each query sees: at least 1 and at most 16 x pieces.
    pub(crate) visible: &'a [usize],
    /// The segment's KV pieces, 1 to 16.
    pub(crate) pieces: &'a [&'a [u32]],
    /// Padded head width.
    pub(crate) width: usize,
    /// Pieces that are read after these: they are fetched meanwhile.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "plain Rust cannot ask"))]
    pub(crate) ahead: &'a [&'a [u32]],
}

/// Writes a partial result per query to `out`, [`partial_len`] floats each.
pub(crate) fn segment(isa: Isa, call: &Call<'_>, out: &mut [f32]) {
    let len = partial_len(call.width);
    let count = call.visible.len();
    assert!((1..=QUERIES).contains(&count) && out.len() >= count * len);
    assert!((1..=SEGMENT / 16).contains(&call.pieces.len()) && call.width.is_multiple_of(LANES));
    assert!(call.pieces.iter().all(|piece| piece.len() == super::kv::piece_words(call.width)));
    assert!(call.queries.len() == count * call.width / 2);
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa` holds what the processor was found to have, and the lengths were checked.
        Isa::Avx512 { amx: true, .. } => unsafe { amx::segment(call, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 { bf16: true, .. } => unsafe { avx512::segment(call, out) },
        isa => portable::segment(isa, call, out),
    }
}

#[inline(always)]
fn fold_body<V: Vector>(total: &mut [f32], part: &[f32]) {
    let width = total.len() - LANES;
    let (values, [greatest, weight, ..]) = total.split_at_mut(width) else { unreachable!("a partial result") };
    let (part_values, [part_greatest, part_weight, ..]) = part.split_at(width) else {
        unreachable!("a partial result")
    };
    let most = lanes::greater(*greatest, *part_greatest);
    let mut exponents = [0.0; LANES];
    (exponents[0], exponents[1]) = (*greatest - most, part_greatest - most);
    let mut powers = [0.0; LANES];
    lanes::exp2(V::load(&exponents)).store(&mut powers);
    let [keep, add, ..] = powers;
    for (values, part) in values.chunks_exact_mut(LANES).zip(part_values.chunks_exact(LANES)) {
        let kept = V::load(values).mul(V::splat(keep));
        kept.add(V::load(part).mul(V::splat(add))).store(values);
    }
    *weight = *weight * keep + part_weight * add;
    *greatest = most;
}

super::isa::per_isa! {
    /// Adds the partial result of later positions to that of earlier ones.
    pub(crate) fn fold(total: &mut [f32], part: &[f32]) = fold_body;
}

#[cfg(test)]
mod tests;

//! Attention of up to sixteen queries of one KV head over one segment of positions.
//!
//! Positions are cut into segments of 256, always at multiples of 256. A segment's softmax is computed on its own and
//! gives a partial result (weighted sum of values, greatest score, sum of weights); partial results are folded in the
//! order of positions. Who computes a segment, and together with which other queries, has no influence on the bits.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod call;
mod portable;

pub(crate) use self::call::{Call, QUERIES, SEGMENT, partial_len};
use super::isa::Isa;
use crate::ops::exp2::exp2;
use crate::ops::vector::{LANES, Vector, max_num};

/// Writes a partial result per query to `out`, [`partial_len`] floats each.
pub(crate) fn segment(isa: Isa, call: &Call<'_>, out: &mut [f32]) {
    let len = partial_len(call.width);
    let count = call.visible.len();
    assert!((1..=QUERIES).contains(&count) && out.len() >= count * len);
    assert!((1..=SEGMENT / 16).contains(&call.kv_blocks.len()) && call.width.is_multiple_of(LANES));
    assert!(call.kv_blocks.iter().all(|kv_block| kv_block.len() == super::kv::kv_block_words(call.width)));
    assert!(call.hidden.len() == count);
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
    let (values, [row_max, row_sum, ..]) = total.split_at_mut(width) else { unreachable!("a partial result") };
    let (part_values, [part_max, part_sum, ..]) = part.split_at(width) else { unreachable!("a partial result") };
    let max = max_num(*row_max, *part_max);
    let mut exponents = [0.0; LANES];
    (exponents[0], exponents[1]) = (*row_max - max, part_max - max);
    let mut powers = [0.0; LANES];
    exp2(V::load(&exponents)).store(&mut powers);
    let [rescale, add, ..] = powers;
    for (values, part) in values.chunks_exact_mut(LANES).zip(part_values.chunks_exact(LANES)) {
        let kept = V::load(values).mul(V::splat(rescale));
        kept.add(V::load(part).mul(V::splat(add))).store(values);
    }
    *row_sum = *row_sum * rescale + part_sum * add;
    *row_max = max;
}

super::isa::per_isa! {
    /// Adds the partial result of later positions to that of earlier ones.
    pub(crate) fn fold(total: &mut [f32], part: &[f32]) = fold_body;
}

#[cfg(test)]
mod tests;

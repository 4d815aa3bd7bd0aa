//! What a kernel of attention is called with, and what it gives.

use crate::ops::vector::LANES;

/// Positions of a segment.
pub(crate) const SEGMENT: usize = 256;

/// Queries of one call at most.
pub(crate) const QUERIES: usize = 16;

/// Floats of a partial result: the weighted values, then greatest score and sum of weights.
pub(crate) const fn partial_len(width: usize) -> usize {
    width + LANES
}

/// Queries of one KV head, and the segment that they attend to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// Words of bf16 pairs, scaled by log2(e) / sqrt(head_dim): `[query][width / 2]`.
    pub(crate) queries: &'a [u32],
    /// Positions of the segment that each query sees: at least 1 and at most 16 x KV blocks.
    pub(crate) visible: &'a [usize],
    /// Positions at the segment's start that each query does not see; all, where that is not less than `visible`.
    pub(crate) hidden: &'a [usize],
    /// The segment's KV blocks, 1 to 16.
    pub(crate) kv_blocks: &'a [&'a [u32]],
    /// Padded head width.
    pub(crate) width: usize,
    /// KV blocks that are read after these: they are fetched meanwhile.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "plain Rust cannot ask"))]
    pub(crate) prefetch: &'a [&'a [u32]],
}

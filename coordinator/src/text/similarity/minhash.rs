//! Minima of many hashes of a set: the arithmetic that decides how fast duplicates are found.

/// Hashes. 96 are divided by every width of a band from 1 to 4, by 6 and by 8, and fill six vectors of 512 bits.
pub(super) const LANES: usize = 96;

/// Lanes whose minima stay in registers while the set is read.
const BLOCK: usize = 32;

/// `FACTORS[i] * x + OFFSETS[i]` is a permutation of all 32-bit numbers, as the factors are odd.
static FACTORS: [u32; LANES] = constants(1, 1);
static OFFSETS: [u32; LANES] = constants(2, 0);

const fn constants(seed: u64, odd: u32) -> [u32; LANES] {
    let mut out = [0; LANES];
    let mut i = 0;
    while i < LANES {
        out[i] = (crate::text::shingles::mix(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + i as u64) >> 16) as u32 | odd;
        i += 1;
    }
    out
}

/// Hash `i` of `x`.
#[inline(always)]
pub(super) fn hash(i: usize, x: u32) -> u32 {
    FACTORS[i].wrapping_mul(x).wrapping_add(OFFSETS[i])
}

/// The minimum of each hash over `set`.
pub(super) fn minima(set: &[u32]) -> [u32; LANES] {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: this processor has what the function was compiled for; it was asked in the line above.
            return unsafe { minima_avx512(set) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { minima_avx2(set) };
        }
    }
    minima_portable(set)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn minima_avx512(set: &[u32]) -> [u32; LANES] {
    minima_portable(set)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn minima_avx2(set: &[u32]) -> [u32; LANES] {
    minima_portable(set)
}

#[inline(always)]
fn minima_portable(set: &[u32]) -> [u32; LANES] {
    let mut minima = [u32::MAX; LANES];
    for block in 0..LANES / BLOCK {
        let at = block * BLOCK;
        let mut least = [u32::MAX; BLOCK];
        for x in set {
            for (i, least) in least.iter_mut().enumerate() {
                *least = (*least).min(hash(at + i, *x));
            }
        }
        minima[at..at + BLOCK].copy_from_slice(&least);
    }
    minima
}

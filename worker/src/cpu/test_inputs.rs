//! Random inputs for the tests that hold kernels against their references.

use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::DType;

/// Numbers between -1 and 1.
pub(crate) fn floats(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// `count` weights in the file layout of `dtype`: random bits, and scales of a size that occurs.
pub(crate) fn weights(dtype: DType, count: usize, seed: u64) -> Vec<u8> {
    let numbers = floats(count, seed);
    match dtype {
        DType::F32 => return numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => return numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        DType::BF16 => return numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 | DType::Q4K | DType::Q5K | DType::Q6K => {}
        DType::Q2K | DType::Q3K | DType::Iq4Nl | DType::Iq4Xs => {}
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bytes: Vec<u8> = (0..count / dtype.block() * dtype.block_bytes()).map(|_| rng.random()).collect();
    // Where a block has its half floats.
    let halves: &[usize] = match dtype {
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q6K => &[208],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::F32 | DType::F16 | DType::BF16 | DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
        DType::Iq4Nl | DType::Iq4Xs => &[0],
    };
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for at in halves {
            block[*at..at + 2].copy_from_slice(&f16::from_f32(rng.random_range(-0.02..0.02)).to_le_bytes());
        }
    }
    bytes
}

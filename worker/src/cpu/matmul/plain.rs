//! The reference for the vector kernels, and the code for processors that have none.

use half::{bf16, f16};

use super::call::{Floats, Out, Quantised};
use crate::cpu::matrix::{Kind, run_bytes};
use crate::ops::vector::LANES;

fn half_at(bytes: &[u8], lane: usize) -> f32 {
    f16::from_le_bytes([bytes[lane * 2], bytes[lane * 2 + 1]]).to_f32()
}

pub(super) fn quantised(kind: Kind, call: Quantised<'_>, rows: usize, out: &mut Out) {
    let nibbles = matches!(kind, Kind::Nibble | Kind::NibbleMin);
    let halves = if kind == Kind::ByteHalves { 2 } else { 1 };
    let (bytes, scale_bytes, min_bytes) = run_bytes(nibbles, kind.zero().is_none(), halves == 2);
    let stride = bytes + scale_bytes + min_bytes;
    out[..rows].fill([0.0; LANES]);
    for (run, tile) in call.rows.iter().zip(call.tile.chunks_exact(stride)) {
        let (weights, rest) = tile.split_at(bytes);
        let (scales, mins) = rest.split_at(scale_bytes);
        for half in 0..halves {
            let scales = &scales[half * LANES * 2..][..LANES * 2];
            let groups = half * 4..if halves == 2 { half * 4 + 4 } else { 8 };
            for (r, out) in out[..rows].iter_mut().enumerate() {
                let sum = if halves == 2 { run.halves[half][r] } else { run.sum[r] };
                let mut dots = [0_i32; LANES];
                for group in groups.clone() {
                    for (lane, dot) in dots.iter_mut().enumerate() {
                        for i in 0..4 {
                            let q = if nibbles {
                                weights[group % 4 * 64 + lane * 4 + i] >> (group / 4 * 4) & 15
                            } else {
                                weights[group * 64 + lane * 4 + i]
                            };
                            *dot += i32::from(q) * i32::from(run.q[r][group * 4 + i]);
                        }
                    }
                }
                for lane in 0..LANES {
                    let scale = half_at(scales, lane);
                    let min = match kind.zero() {
                        Some(_) => -call.zero * scale,
                        None => half_at(mins, lane),
                    };
                    out[lane] += dots[lane] as f32 * (scale * run.scale[r]) + min * sum;
                }
            }
        }
    }
}

pub(super) fn floats(kind: Kind, call: Floats<'_>, rows: usize, out: &mut Out) {
    let bytes = if kind == Kind::F32 { 4 } else { 2 };
    out[..rows].fill([0.0; LANES]);
    for (weights, values) in call.tile.chunks_exact(LANES * bytes).zip(call.rows) {
        let weights: [f32; LANES] = std::array::from_fn(|lane| {
            let at = &weights[lane * bytes..][..bytes];
            match kind {
                Kind::F32 => f32::from_le_bytes([at[0], at[1], at[2], at[3]]),
                Kind::F16 => f16::from_le_bytes([at[0], at[1]]).to_f32(),
                Kind::BF16 => bf16::from_le_bytes([at[0], at[1]]).to_f32(),
                Kind::NibbleMin | Kind::Nibble | Kind::ByteMin | Kind::Byte { .. } | Kind::ByteHalves => {
                    unreachable!("{kind:?} is quantised")
                }
            }
        });
        for r in 0..rows {
            for lane in 0..LANES {
                out[r][lane] += weights[lane] * values[r];
            }
        }
    }
}

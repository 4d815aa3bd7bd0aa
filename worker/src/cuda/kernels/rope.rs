//! Between the projections and attention: biases, head norms, rotary positions, and the write to the pool.

use half::bf16;

use super::check::{self, Chance, CheckError, Checked, near};
use super::kv::{INSTANCES, KvFormat, KvShape};
use super::{ROPE, norm};
use crate::cuda::gpu::{Buffer, Gpu, GpuError, Kernel, Launch, Ptr};

/// Instances as [`KvShape::instance`] counts them.
const ENTRIES: [&str; INSTANCES] = [
    "rope_32_bf16",
    "rope_64_bf16",
    "rope_80_bf16",
    "rope_96_bf16",
    "rope_128_bf16",
    "rope_32_fp8",
    "rope_64_fp8",
    "rope_80_fp8",
    "rope_96_fp8",
    "rope_128_fp8",
];
/// Heads of one block, a warp each.
const WARPS: usize = 4;

/// The slot of a row that only fills up a launch: nothing of it is written.
pub const NO_SLOT: u32 = u32::MAX;

/// Cosine and sine of `positions[row] * frequencies[pair]`, once a step for all layers.
#[derive(Debug, Clone, Copy)]
pub struct Angles {
    /// u32 `[rows]`
    pub positions: Ptr,
    /// f32 `[pairs]`: scaled as the model wants it.
    pub frequencies: Ptr,
    /// f32 `[rows][pairs][2]`
    pub angles: Ptr,
    pub rows: usize,
    /// Half a head's width.
    pub pairs: usize,
}

impl Angles {
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        let args = [
            self.positions.into(),
            self.frequencies.into(),
            self.angles.into(),
            (self.rows as u32).into(),
            (self.pairs as u32).into(),
        ];
        let launch = Launch::new((self.rows * self.pairs).div_ceil(128), 128);
        gpu.launch(&Kernel { source: &ROPE, entry: "rope_angles" }, launch, &args)
    }
}

/// Queries, keys and values of all rows: bias added, heads normalised, queries and keys turned; queries scaled, keys and
/// values into the pool.
#[derive(Debug, Clone, Copy)]
pub struct Rope {
    /// bf16 `[rows][heads + 2 kv_heads][head_dim]`
    pub qkv: Ptr,
    /// f32 `[heads + 2 kv_heads][head_dim]`, or null.
    pub bias: Ptr,
    /// f32 `[head_dim]` of each query head, or null.
    pub query_norm: Ptr,
    /// The same of each key head.
    pub key_norm: Ptr,
    pub eps: f32,
    /// f32 `[rows][head_dim / 2][2]`: of [`Angles`].
    pub angles: Ptr,
    /// u32 `[rows]`: block * 16 + position in it, or [`NO_SLOT`]. Rows of one sequence stand in their order.
    pub slots: Ptr,
    /// bf16 `[rows][heads][head_dim]`, scaled by log2(e) / sqrt(head_dim).
    pub queries: Ptr,
    /// The layer's pool.
    pub pool: Ptr,
    pub rows: usize,
    pub heads: usize,
    pub shape: KvShape,
    /// Pairs are (2i, 2i + 1), else (i, i + head_dim / 2).
    pub interleaved: bool,
}

/// What queries are multiplied with, so that a weight of attention is 2^score.
fn scale(head_dim: usize) -> f32 {
    std::f32::consts::LOG2_E / (head_dim as f32).sqrt()
}

impl Rope {
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        let all = self.heads + 2 * self.shape.kv_heads;
        let launch = Launch {
            grid: [self.rows as u32, all.div_ceil(WARPS) as u32, 1],
            block: [WARPS as u32 * 32, 1, 1],
            shared: 0,
        };
        let args = [
            self.qkv.into(),
            self.bias.into(),
            self.query_norm.into(),
            self.key_norm.into(),
            self.eps.into(),
            scale(self.shape.head_dim).into(),
            self.angles.into(),
            self.slots.into(),
            self.queries.into(),
            self.pool.into(),
            (self.rows as u32).into(),
            (self.heads as u32).into(),
            (self.shape.kv_heads as u32).into(),
            u32::from(self.interleaved).into(),
        ];
        gpu.launch(&Kernel { source: &ROPE, entry: ENTRIES[self.shape.instance()] }, launch, &args)
    }
}

fn turned(head: &[f32], angles: &[[f64; 2]], interleaved: bool) -> Vec<f32> {
    let mut out = vec![0.0; head.len()];
    for (pair, [cos, sin]) in angles.iter().enumerate() {
        let (a, b) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + head.len() / 2) };
        let (x, y) = (f64::from(head[a]), f64::from(head[b]));
        (out[a], out[b]) = ((x * cos - y * sin) as f32, (x * sin + y * cos) as f32);
    }
    out
}

pub(crate) fn check(gpu: &dyn Gpu) -> Checked {
    let mut chance = Chance::new(4);
    // Rows, heads, KV heads, head width, with bias, with norms, interleaved.
    let cases = [
        (1, 1, 1, 64, false, false, true),
        (37, 9, 3, 64, false, false, true),
        (70, 7, 1, 128, true, false, false),
        (5, 4, 2, 128, false, true, false),
        (19, 2, 2, 80, true, true, true),
        (19, 2, 1, 96, false, false, false),
    ];
    for format in [KvFormat::Bf16, KvFormat::Fp8] {
        for (rows, heads, kv_heads, head_dim, with_bias, with_norms, interleaved) in cases {
            let shape = KvShape { kv_heads, head_dim, format };
            let (all, what) =
                (heads + 2 * kv_heads, format!("rope {rows} x {heads} + {kv_heads} x {head_dim} {format:?}"));
            let qkv = chance.bf16s(rows * all * head_dim, 4.0);
            let bias = chance.floats(all * head_dim, 2.0);
            let norms = [chance.floats(head_dim, 1.5), chance.floats(head_dim, 1.5)];
            let frequencies: Vec<f32> =
                (0..head_dim / 2).map(|pair| 500_000_f32.powf(-2.0 * pair as f32 / head_dim as f32)).collect();
            // Two sequences one behind the other, the second far on; the last row of many only fills up.
            let position = |row: usize| if row < rows / 2 { row } else { 100_000 + row };
            let positions: Vec<u32> = (0..rows).map(|row| position(row) as u32).collect();
            let filler = rows > 2;
            let blocks = rows.div_ceil(16) + 2;
            let order = chance.shuffled(blocks as u32);
            let mut slots: Vec<u32> = (0..rows).map(|row| row as u32 + if row < rows / 2 { 0 } else { 17 }).collect();
            slots.iter_mut().for_each(|slot| *slot = order[*slot as usize / 16] * 16 + *slot % 16);
            if filler {
                slots[rows - 1] = NO_SLOT;
            }

            let (qkv_at, bias_at) = (Buffer::from_slice(gpu, &qkv)?, Buffer::from_slice(gpu, &bias)?);
            let (q_norm_at, k_norm_at) = (Buffer::from_slice(gpu, &norms[0])?, Buffer::from_slice(gpu, &norms[1])?);
            let (positions_at, slots_at) = (Buffer::from_slice(gpu, &positions)?, Buffer::from_slice(gpu, &slots)?);
            let frequencies_at = Buffer::from_slice(gpu, &frequencies)?;
            let angles = Buffer::<f32>::new(gpu, rows * head_dim)?;
            let queries = Buffer::<bf16>::new(gpu, rows * heads * head_dim)?;
            // What an earlier sequence left.
            let before = vec![0xff_u8; blocks * shape.block_bytes()];
            let pool = Buffer::from_slice(gpu, &before)?;
            let pairs = head_dim / 2;
            let angles_of = Angles {
                positions: positions_at.ptr(),
                frequencies: frequencies_at.ptr(),
                angles: angles.ptr(),
                rows,
                pairs,
            };
            angles_of.launch(gpu)?;
            let given = |is: bool, at: Ptr| if is { at } else { Ptr::NULL };
            let rope = Rope {
                qkv: qkv_at.ptr(),
                bias: given(with_bias, bias_at.ptr()),
                query_norm: given(with_norms, q_norm_at.ptr()),
                key_norm: given(with_norms, k_norm_at.ptr()),
                eps: 1e-6,
                angles: angles.ptr(),
                slots: slots_at.ptr(),
                queries: queries.ptr(),
                pool: pool.ptr(),
                rows,
                heads,
                shape,
                interleaved,
            };
            rope.launch(gpu)?;

            let exact = |row: usize| -> Vec<[f64; 2]> {
                let angle = |frequency: &f32| f64::from(positions[row] as f32 * frequency);
                frequencies.iter().map(|frequency| [angle(frequency).cos(), angle(frequency).sin()]).collect()
            };
            let want: Vec<f32> = (0..rows).flat_map(exact).flatten().map(|x| x as f32).collect();
            near(&format!("{what}: angles"), &angles.to_vec(gpu)?, &want, 1e-7, 1e-6)?;

            let (got_queries, got_pool) = (check::wide(&queries.to_vec(gpu)?), pool.to_vec(gpu)?);
            for row in 0..rows {
                for head in 0..all {
                    let numbers = check::wide(&qkv[(row * all + head) * head_dim..][..head_dim]);
                    let bias =
                        bias[head * head_dim..][..head_dim].iter().map(|bias| if with_bias { *bias } else { 0.0 });
                    let mut want: Vec<f32> = numbers.iter().zip(bias).map(|(x, bias)| x + bias).collect();
                    let is_value = head >= heads + kv_heads;
                    if with_norms && !is_value {
                        want = norm::twin(&want, &norms[usize::from(head >= heads)], 1e-6);
                    }
                    if !is_value {
                        want = turned(&want, &exact(row), interleaved);
                    }
                    let what = format!("{what}: row {row} head {head}");
                    if filler && row == rows - 1 {
                        continue;
                    }
                    if head < heads {
                        want.iter_mut().for_each(|x| *x *= scale(head_dim));
                        near(
                            &what,
                            &got_queries[(row * heads + head) * head_dim..][..head_dim],
                            &want,
                            1e-5,
                            check::BF16,
                        )?;
                        continue;
                    }
                    let (slot, kv_head) = (slots[row] as usize, (head - heads) % kv_heads);
                    let got = shape.read(&got_pool, slot, kv_head, is_value);
                    match format {
                        KvFormat::Bf16 => near(&what, &got, &want, 1e-5, check::BF16)?,
                        KvFormat::Fp8 => {
                            let most = want.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                            let scale = shape.scale(&got_pool, slot, kv_head, is_value);
                            near(&format!("{what}: scale"), &[scale], &[most / 448.0], 0.0, 1e-4)?;
                            // Half a unit of three bits of mantissa, or of the smallest numbers.
                            near(&what, &got, &want, scale / 1000.0, 1.0 / 15.9)?;
                        }
                    }
                    let alone = slot.is_multiple_of(2) && !slots.contains(&(slot as u32 + 1));
                    // The scale next to it is nobody's yet.
                    let mut cleared = got_pool.clone();
                    shape.clear_value(&mut cleared, slot + usize::from(alone));
                    if alone && cleared != got_pool {
                        return Err(CheckError::Wrong(format!("{what}: what stood beside it was not cleared")));
                    }
                }
            }
            let untouched = |slot: usize| {
                !slots.contains(&(slot as u32)) && (slot.is_multiple_of(2) || !slots.contains(&(slot as u32 - 1)))
            };
            for slot in (0..blocks * 16).filter(|slot| untouched(*slot)) {
                let read =
                    |pool: &[u8]| (0..kv_heads).flat_map(|head| shape.read(pool, slot, head, true)).all(f32::is_nan);
                if !read(&got_pool) {
                    return Err(CheckError::Wrong(format!("{what}: wrote to slot {slot}, which no row has")));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn rope_follows_its_slow_twin() {
        crate::cuda::kernels::check::on_host(super::check);
    }
}

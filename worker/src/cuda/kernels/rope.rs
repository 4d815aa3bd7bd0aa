//! Between the projections and attention: biases, head norms, rotary positions, and the write to the pool.

use half::bf16;

use super::check::{self, CheckError, CheckResult, assert_close};
use super::kv::{INSTANCES, KvFormat, KvShape};
use super::norm;
use super::sources::ROPE;
use super::test_rng::TestRng;
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

/// Cosine and sine of `positions[row] * turns[pair][0]`, times `turns[pair][1]`, once a step for all layers.
#[derive(Debug, Clone, Copy)]
pub struct Angles {
    /// u32 `[rows]`
    pub positions: Ptr,
    /// f32 `[pairs][2]`: scaled as the model wants it.
    pub turns: Ptr,
    /// f32 `[rows][pairs][2]`
    pub angles: Ptr,
    /// Rows of the batch, padding included.
    pub rows: usize,
    /// Half a head's width.
    pub pairs: usize,
}

impl Angles {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        let args = [
            self.positions.into(),
            self.turns.into(),
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
    /// Added to the mean of squares.
    pub eps: f32,
    /// f32 `[rows][head_dim / 2][2]`: of [`Angles`].
    pub angles: Ptr,
    /// u32 `[rows]`: block * 16 + position in it, or [`NO_SLOT`]. Rows of one sequence stand in their order.
    pub slots: Ptr,
    /// bf16 `[rows][heads][head_dim]`, scaled by log2(e) / sqrt(head_dim).
    pub queries: Ptr,
    /// The layer's pool.
    pub pool: Ptr,
    /// Rows of the batch, padding included.
    pub rows: usize,
    /// Query heads.
    pub heads: usize,
    /// Shape of the pool.
    pub shape: KvShape,
    /// Pairs are (2i, 2i + 1), else (i, i + rotated / 2).
    pub interleaved: bool,
    /// Leading elements of a head that rotate; a multiple of 4.
    pub rotated: usize,
}

/// What queries are multiplied with, so that a weight of attention is 2^score.
fn scale(head_dim: usize) -> f32 {
    std::f32::consts::LOG2_E / (head_dim as f32).sqrt()
}

impl Rope {
    /// Queues the launch; errors are those of [`Gpu::launch`].
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
            (self.rotated as u32).into(),
        ];
        gpu.launch(&Kernel { source: &ROPE, entry: ENTRIES[self.shape.instance()] }, launch, &args)
    }
}

/// Queries, keys and values of rows before rope, and where they go.
struct Case {
    what: String,
    rows: usize,
    heads: usize,
    shape: KvShape,
    qkv: Vec<bf16>,
    bias: Option<Vec<f32>>,
    /// Of queries and keys.
    norms: Option<[Vec<f32>; 2]>,
    interleaved: bool,
    rotated: usize,
    turns: Vec<[f32; 2]>,
    positions: Vec<u32>,
    blocks: usize,
    slots: Vec<u32>,
}

/// What the kernels made of a [`Case`].
struct Output {
    angles: Vec<f32>,
    queries: Vec<f32>,
    pool: Vec<u8>,
}

const EPS: f32 = 1e-6;

impl Case {
    fn new(
        rng: &mut TestRng,
        shape: KvShape,
        (rows, heads): (usize, usize),
        (with_bias, with_norms, interleaved, rotated): (bool, bool, bool, usize),
    ) -> Self {
        let KvShape { kv_heads, head_dim, format } = shape;
        let all = heads + 2 * kv_heads;
        let qkv = rng.bf16s(rows * all * head_dim, 4.0);
        let bias = rng.floats(all * head_dim, 2.0);
        let norms = [rng.floats(head_dim, 1.5), rng.floats(head_dim, 1.5)];
        let turn = |pair: usize| match pair < rotated / 2 {
            true => [500_000_f32.powf(-2.0 * pair as f32 / rotated as f32), 1.25],
            false => [0.0, 1.0],
        };
        // Two sequences one behind the other, the second far on; the last row of many is padding.
        let position = |row: usize| if row < rows / 2 { row } else { 100_000 + row };
        let blocks = rows.div_ceil(16) + 2;
        let order = rng.shuffled(blocks as u32);
        let mut slots: Vec<u32> = (0..rows).map(|row| row as u32 + if row < rows / 2 { 0 } else { 17 }).collect();
        slots.iter_mut().for_each(|slot| *slot = order[*slot as usize / 16] * 16 + *slot % 16);
        if rows > 2 {
            slots[rows - 1] = NO_SLOT;
        }
        Self {
            what: format!("rope {rows} x {heads} + {kv_heads} x {head_dim} {format:?}"),
            rows,
            heads,
            shape,
            qkv,
            bias: with_bias.then_some(bias),
            norms: with_norms.then_some(norms),
            interleaved,
            rotated,
            turns: (0..head_dim / 2).map(turn).collect(),
            positions: (0..rows).map(|row| position(row) as u32).collect(),
            blocks,
            slots,
        }
    }

    fn run(&self, gpu: &dyn Gpu) -> Result<Output, GpuError> {
        let (rows, head_dim) = (self.rows, self.shape.head_dim);
        let (qkv, slots) = (Buffer::from_slice(gpu, &self.qkv)?, Buffer::from_slice(gpu, &self.slots)?);
        let bias = self.bias.as_ref().map(|bias| Buffer::from_slice(gpu, bias)).transpose()?;
        let norm = |which: usize| self.norms.as_ref().map(|norms| Buffer::from_slice(gpu, &norms[which])).transpose();
        let (query_norm, key_norm) = (norm(0)?, norm(1)?);
        let positions = Buffer::from_slice(gpu, &self.positions)?;
        let turns = Buffer::from_slice(gpu, self.turns.as_flattened())?;
        let angles = Buffer::<f32>::new(gpu, rows * head_dim)?;
        let queries = Buffer::<bf16>::new(gpu, rows * self.heads * head_dim)?;
        // What an earlier sequence left.
        let pool = Buffer::from_slice(gpu, &vec![0xff_u8; self.blocks * self.shape.block_bytes()])?;
        let (positions, turns, pairs) = (positions.ptr(), turns.ptr(), head_dim / 2);
        Angles { positions, turns, angles: angles.ptr(), rows, pairs }.launch(gpu)?;
        let optional = |buffer: &Option<Buffer<f32>>| buffer.as_ref().map_or(Ptr::NULL, Buffer::ptr);
        let rope = Rope {
            qkv: qkv.ptr(),
            bias: optional(&bias),
            query_norm: optional(&query_norm),
            key_norm: optional(&key_norm),
            eps: EPS,
            angles: angles.ptr(),
            slots: slots.ptr(),
            queries: queries.ptr(),
            pool: pool.ptr(),
            rows,
            heads: self.heads,
            shape: self.shape,
            interleaved: self.interleaved,
            rotated: self.rotated,
        };
        rope.launch(gpu)?;
        let (angles, queries) = (angles.to_vec(gpu)?, check::to_f32(&queries.to_vec(gpu)?));
        Ok(Output { angles, queries, pool: pool.to_vec(gpu)? })
    }

    /// Cosines and sines of a row.
    fn angles(&self, row: usize) -> Vec<[f64; 2]> {
        let angle = |[radians, magnitude]: &[f32; 2]| {
            let angle = f64::from(self.positions[row] as f32 * radians);
            [angle.cos(), angle.sin()].map(|x| x * f64::from(*magnitude))
        };
        self.turns.iter().map(angle).collect()
    }

    /// The reference for one head of a row: bias, norm and rotation. Heads are those of queries, keys and values.
    fn reference(&self, row: usize, head: usize) -> Vec<f32> {
        let KvShape { kv_heads, head_dim, .. } = self.shape;
        let all = self.heads + 2 * kv_heads;
        let mut x = check::to_f32(&self.qkv[(row * all + head) * head_dim..][..head_dim]);
        if let Some(bias) = &self.bias {
            x.iter_mut().zip(&bias[head * head_dim..]).for_each(|(x, bias)| *x += bias);
        }
        if head >= self.heads + kv_heads {
            return x;
        }
        if let Some(norms) = &self.norms {
            x = norm::reference(&x, &norms[usize::from(head >= self.heads)], EPS);
        }
        rotated(&x, &self.angles(row), self.interleaved, self.rotated)
    }

    fn check(&self, gpu: &dyn Gpu) -> CheckResult {
        let output = self.run(gpu)?;
        let angles: Vec<f32> = (0..self.rows).flat_map(|row| self.angles(row)).flatten().map(|x| x as f32).collect();
        assert_close(&format!("{}: angles", self.what), &output.angles, &angles, 2e-7, 1e-6)?;
        for row in (0..self.rows).filter(|row| self.slots[*row] != NO_SLOT) {
            for head in 0..self.heads + 2 * self.shape.kv_heads {
                self.check_head(&output, row, head)?;
            }
        }
        let written = |slot: usize| self.slots.contains(&(slot as u32));
        // The second of a pair of positions is cleared with the first.
        let touched = |slot: usize| written(slot) || (!slot.is_multiple_of(2) && written(slot - 1));
        for slot in (0..self.blocks * 16).filter(|slot| !touched(*slot)) {
            let mut values = (0..self.shape.kv_heads).flat_map(|head| self.shape.read(&output.pool, slot, head, true));
            if !values.all(f32::is_nan) {
                let what = format!("{}: wrote to slot {slot}, which no row has", self.what);
                return Err(CheckError::Failed(what));
            }
        }
        Ok(())
    }

    fn check_head(&self, output: &Output, row: usize, head: usize) -> CheckResult {
        let KvShape { kv_heads, head_dim, format } = self.shape;
        let what = format!("{}: row {row} head {head}", self.what);
        let mut want = self.reference(row, head);
        if head < self.heads {
            want.iter_mut().for_each(|x| *x *= scale(head_dim));
            let got = &output.queries[(row * self.heads + head) * head_dim..][..head_dim];
            return assert_close(&what, got, &want, 1e-5, check::BF16);
        }
        let (slot, kv_head) = (self.slots[row] as usize, (head - self.heads) % kv_heads);
        let is_value = head >= self.heads + kv_heads;
        let got = self.shape.read(&output.pool, slot, kv_head, is_value);
        match format {
            KvFormat::Bf16 => assert_close(&what, &got, &want, 1e-5, check::BF16)?,
            KvFormat::Fp8 => {
                let max = want.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                let scale = self.shape.scale(&output.pool, slot, kv_head, is_value);
                assert_close(&format!("{what}: scale"), &[scale], &[max / 448.0], 0.0, 1e-4)?;
                // Half a unit of three bits of mantissa, or of the smallest numbers.
                assert_close(&what, &got, &want, scale / 1000.0, 1.0 / 15.9)?;
            }
        }
        let alone = slot.is_multiple_of(2) && !self.slots.contains(&(slot as u32 + 1));
        // The scale next to it is nobody's yet.
        let mut cleared = output.pool.clone();
        self.shape.clear_value(&mut cleared, slot + usize::from(alone));
        match alone && cleared != output.pool {
            true => Err(CheckError::Failed(format!("{what}: the position beside it was not cleared"))),
            false => Ok(()),
        }
    }
}

fn rotated(head: &[f32], angles: &[[f64; 2]], interleaved: bool, rotated: usize) -> Vec<f32> {
    let mut out = head.to_vec();
    for (pair, [cos, sin]) in angles.iter().enumerate().take(rotated / 2) {
        let (a, b) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + rotated / 2) };
        let (x, y) = (f64::from(head[a]), f64::from(head[b]));
        (out[a], out[b]) = ((x * cos - y * sin) as f32, (x * sin + y * cos) as f32);
    }
    out
}

pub(crate) fn check(gpu: &dyn Gpu) -> CheckResult {
    let mut rng = TestRng::new(4);
    // Rows, heads, KV heads, head width, with bias, with norms, interleaved, rotated.
    let cases = [
        (1, 1, 1, 64, false, false, true, 64),
        (37, 9, 3, 64, false, false, true, 64),
        (70, 7, 1, 128, true, false, false, 128),
        (5, 4, 2, 128, false, true, false, 96),
        (19, 2, 2, 80, true, true, true, 80),
        (19, 2, 1, 96, false, false, false, 96),
        (11, 2, 1, 64, true, false, false, 20),
        (11, 2, 1, 64, false, false, true, 32),
    ];
    for format in [KvFormat::Bf16, KvFormat::Fp8] {
        for (rows, heads, kv_heads, head_dim, with_bias, with_norms, interleaved, rotated) in cases {
            let shape = KvShape { kv_heads, head_dim, format };
            Case::new(&mut rng, shape, (rows, heads), (with_bias, with_norms, interleaved, rotated)).check(gpu)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn rope_follows_its_reference() {
        crate::cuda::kernels::check::on_host(super::check);
    }
}

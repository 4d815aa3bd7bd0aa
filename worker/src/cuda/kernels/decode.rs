//! Attention of single tokens.

use half::bf16;

use super::check::{self, CheckError, CheckResult, assert_close};
use super::kv::attention::Case;
use super::kv::{HEAD_DIMS, INSTANCES, KvFormat, KvShape, Span};
use super::sources::DECODE;
use super::test_rng::TestRng;
use crate::cuda::gpu::{Buffer, Gpu, GpuError, Kernel, Launch, Ptr};

/// Instances as [`KvShape::instance`] counts them.
const ENTRIES: [&str; INSTANCES] = [
    "decode_32_bf16",
    "decode_64_bf16",
    "decode_80_bf16",
    "decode_96_bf16",
    "decode_128_bf16",
    "decode_32_fp8",
    "decode_64_fp8",
    "decode_80_fp8",
    "decode_96_fp8",
    "decode_128_fp8",
];
const WARPS: usize = 4;
/// Pieces of a warp's ring, from the best that there is room for.
const DEPTHS: [usize; 2] = [3, 2];
/// Query heads of one block at most.
const ROWS: usize = 16;
/// Blocks that a multiprocessor holds at once.
const RESIDENT: usize = 2;
const COMBINE_WARPS: usize = 8;
/// What folding them has room for; more would be shorter than folding them takes.
pub const MAX_SPLITS: usize = 64;

/// As [`super::prefill::Prefill`], for spans of one row.
#[derive(Debug, Clone, Copy)]
pub struct Decode {
    /// bf16 `[rows][heads][head_dim]`, scaled by log2(e) / sqrt(head_dim).
    pub queries: Ptr,
    /// The layer's pool.
    pub pool: Ptr,
    /// u32: all block tables.
    pub tables: Ptr,
    /// [`Span`] `[count]`, of one row or none.
    pub spans: Ptr,
    /// bf16 `[rows][heads][head_dim]`
    pub out: Ptr,
    /// f32 `[count][heads][splits][head_dim]`; not touched if there is one split.
    pub partial: Ptr,
    /// f32 `[count][heads][splits][2]`; the same.
    pub weights: Ptr,
    /// Spans.
    pub count: usize,
    /// Query heads.
    pub heads: usize,
    /// Shape of the pool.
    pub shape: KvShape,
    /// Parts that each context is cut into, see [`splits`].
    pub splits: usize,
}

/// Blocks of one span and split.
fn blocks(heads: usize, kv_heads: usize) -> usize {
    kv_heads * (heads / kv_heads).div_ceil(ROWS)
}

/// How many splits fill a GPU of that many multiprocessors with `spans` sequences. It does not ask how long they are: a
/// recorded launch serves all lengths, and a split without positions costs next to nothing. A row's bits depend on its
/// number of splits: whoever wants the same bits in every batch takes a fixed number.
pub fn splits(multiprocessors: u32, spans: usize, heads: usize, kv_heads: usize) -> usize {
    let blocks = (spans * blocks(heads, kv_heads)).max(1);
    let room = multiprocessors as usize * RESIDENT;
    ((room + blocks / 2) / blocks).clamp(1, MAX_SPLITS)
}

impl Decode {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        // Consumer cards have 99 KiB of shared memory for a block, others from 163 KiB on.
        let room = |depth: &usize| self.ring_bytes(*depth) <= gpu.properties().shared;
        self.launch_with(gpu, DEPTHS.into_iter().find(room).unwrap_or(DEPTHS[1]))
    }

    fn ring_bytes(&self, depth: usize) -> u32 {
        (WARPS * depth * self.shape.smem_tile_bytes()) as u32
    }

    fn launch_with(&self, gpu: &dyn Gpu, depth: usize) -> Result<(), GpuError> {
        let Self { heads, shape, splits, .. } = *self;
        let launch = Launch {
            grid: [splits as u32, blocks(heads, shape.kv_heads) as u32, self.count as u32],
            block: [WARPS as u32 * 32, 1, 1],
            shared: self.ring_bytes(depth),
        };
        let args = [
            self.queries.into(),
            self.pool.into(),
            self.tables.into(),
            self.spans.into(),
            self.out.into(),
            self.partial.into(),
            self.weights.into(),
            (heads as u32).into(),
            (shape.kv_heads as u32).into(),
            (depth as u32).into(),
        ];
        gpu.launch(&Kernel { source: &DECODE, entry: ENTRIES[shape.instance()] }, launch, &args)?;
        if splits == 1 {
            return Ok(());
        }
        let launch = Launch {
            grid: [heads as u32, self.count as u32, 1],
            block: [COMBINE_WARPS as u32 * 32, 1, 1],
            shared: (COMBINE_WARPS * shape.head_dim * size_of::<f32>()) as u32,
        };
        let args = [
            self.partial.into(),
            self.weights.into(),
            self.spans.into(),
            self.out.into(),
            (shape.head_dim as u32).into(),
            (splits as u32).into(),
        ];
        gpu.launch(&Kernel { source: &DECODE, entry: "decode_combine" }, launch, &args)
    }
}

fn run(gpu: &dyn Gpu, case: &Case, splits: usize, depth: usize) -> Result<Vec<f32>, GpuError> {
    let spans: Vec<Span> = [Span::default()].iter().chain(&case.spans).copied().collect();
    let (queries, pool) = (Buffer::from_slice(gpu, &case.queries)?, Buffer::from_slice(gpu, &case.pool)?);
    let (tables, spans_at) = (Buffer::from_slice(gpu, &case.tables)?, Buffer::from_slice(gpu, &spans)?);
    let out = Buffer::<bf16>::new(gpu, case.queries.len())?;
    let parts = spans.len() * case.heads * splits;
    let partial = Buffer::<f32>::new(gpu, parts * case.shape.head_dim)?;
    let weights = Buffer::<f32>::new(gpu, parts * 2)?;
    let decode = Decode {
        queries: queries.ptr(),
        pool: pool.ptr(),
        tables: tables.ptr(),
        spans: spans_at.ptr(),
        out: out.ptr(),
        partial: partial.ptr(),
        weights: weights.ptr(),
        count: spans.len(),
        heads: case.heads,
        shape: case.shape,
        splits,
    };
    decode.launch_with(gpu, depth)?;
    Ok(check::to_f32(&out.to_vec(gpu)?))
}

pub(crate) fn check(gpu: &dyn Gpu) -> CheckResult {
    let mut rng = TestRng::new(6);
    // Group, KV heads, head width, splits, and the position of each sequence.
    let cases: [(usize, usize, usize, usize, &[usize]); 8] = [
        (1, 1, 64, 1, &[0]),
        (3, 3, 64, 1, &[0, 15, 16, 117]),
        // More splits than blocks: most are empty.
        (3, 1, 64, 7, &[5, 40, 200]),
        (4, 2, 128, 2, &[777]),
        (7, 1, 128, 3, &[31, 90]),
        (2, 1, 80, 2, &[50]),
        (16, 1, 96, 1, &[33]),
        // More heads than one block takes.
        (20, 1, 64, 2, &[70]),
    ];
    for format in [KvFormat::Bf16, KvFormat::Fp8] {
        for (group, kv_heads, head_dim, splits, positions) in cases {
            let sequences: Vec<(usize, usize)> = positions.iter().map(|position| (*position, 1)).collect();
            let case = Case::new(KvShape { kv_heads, head_dim, format }, group, &sequences, &mut rng);
            let what = format!("decode {group} x {kv_heads} heads of {head_dim} {format:?} {positions:?} / {splits}");
            let want = case.reference();
            for depth in DEPTHS {
                assert_close(
                    &format!("{what} {depth} deep"),
                    &run(gpu, &case, splits, depth)?,
                    &want,
                    0.004,
                    check::BF16,
                )?;
            }
        }
    }
    for _ in 0..6 {
        let (group, kv_heads) = (1 + rng.below(9) as usize, 1 + rng.below(3) as usize);
        let head_dim = HEAD_DIMS[rng.below(HEAD_DIMS.len() as u32) as usize];
        let format = if rng.below(2) == 0 { KvFormat::Bf16 } else { KvFormat::Fp8 };
        let (splits, sequences) = (1 + rng.below(40) as usize, 1 + rng.below(3));
        let sequences: Vec<(usize, usize)> = (0..sequences).map(|_| (rng.below(150) as usize, 1)).collect();
        let case = Case::new(KvShape { kv_heads, head_dim, format }, group, &sequences, &mut rng);
        let what = format!("decode {group} x {kv_heads} heads of {head_dim} {format:?} {sequences:?} / {splits}");
        assert_close(&what, &run(gpu, &case, splits, DEPTHS[0])?, &case.reference(), 0.004, check::BF16)?;
    }
    let alone =
        Case::new(KvShape { kv_heads: 2, head_dim: 64, format: KvFormat::Bf16 }, 2, &[(90, 1), (333, 1)], &mut rng);
    let both = run(gpu, &alone, 2, DEPTHS[0])?;
    let second = Case { spans: vec![Span { row: 1, ..alone.spans[1] }], ..alone };
    if both[both.len() / 2..] != run(gpu, &second, 2, DEPTHS[0])?[both.len() / 2..] {
        return Err(CheckError::Failed("decode: a row's bits depend on the rows beside it".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_follows_its_reference() {
        check::on_host(super::check);
    }

    #[test]
    fn splits_fill_the_gpu_and_no_more() {
        // Llama-3.1-8B on an H100: 132 multiprocessors, 32 heads, 8 KV heads.
        assert_eq!(splits(132, 1, 32, 8), 33);
        assert_eq!(splits(132, 8, 32, 8), 4);
        assert_eq!(splits(132, 64, 32, 8), 1);
        // One KV head for all: two blocks a sequence.
        assert_eq!(splits(132, 1, 32, 1), MAX_SPLITS);
    }
}

//! Attention of prompt chunks.

use half::bf16;

use super::check::{self, CheckResult, assert_close};
use super::kv::attention::Case;
use super::kv::{HEAD_DIMS, INSTANCES, KvFormat, KvShape, Span};
use super::sources::PREFILL;
use super::test_rng::TestRng;
use crate::cuda::gpu::{Buffer, Gpu, GpuError, Kernel, Launch, Ptr};

/// Instances as [`KvShape::instance`] counts them.
const ENTRIES: [&str; INSTANCES] = [
    "prefill_32_bf16",
    "prefill_64_bf16",
    "prefill_80_bf16",
    "prefill_96_bf16",
    "prefill_128_bf16",
    "prefill_32_fp8",
    "prefill_64_fp8",
    "prefill_80_fp8",
    "prefill_96_fp8",
    "prefill_128_fp8",
];
const THREADS: u32 = 128;
/// Pieces in shared memory: two that are read, two on their way.
const STAGES: usize = 4;

/// `out[row][head] = softmax(queries[row][head] . keys) . values`, each row over the positions up to its own.
#[derive(Debug, Clone, Copy)]
pub struct Prefill {
    /// bf16 `[rows][heads][head_dim]`, scaled by log2(e) / sqrt(head_dim).
    pub queries: Ptr,
    /// The layer's pool.
    pub pool: Ptr,
    /// u32: all block tables.
    pub tables: Ptr,
    /// [`Span`] `[spans]`, as [`Span::cut`] gives them.
    pub spans: Ptr,
    /// bf16 `[rows][heads][head_dim]`
    pub out: Ptr,
    /// Spans.
    pub count: usize,
    /// Query heads.
    pub heads: usize,
    /// Shape of the pool.
    pub shape: KvShape,
}

impl Prefill {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        let launch = Launch {
            grid: [self.count as u32, self.shape.kv_heads as u32, 1],
            block: [THREADS, 1, 1],
            shared: (STAGES * self.shape.smem_tile_bytes()) as u32,
        };
        let args = [
            self.queries.into(),
            self.pool.into(),
            self.tables.into(),
            self.spans.into(),
            self.out.into(),
            (self.heads as u32).into(),
            (self.shape.kv_heads as u32).into(),
        ];
        gpu.launch(&Kernel { source: &PREFILL, entry: ENTRIES[self.shape.instance()] }, launch, &args)
    }
}

/// Runs a case, its sequences cut into spans.
fn run(gpu: &dyn Gpu, case: &Case) -> Result<Vec<f32>, GpuError> {
    let group = case.heads / case.shape.kv_heads;
    // A span of no rows may stand anywhere.
    let spans: Vec<Span> = case.spans.iter().flat_map(|span| span.cut(group)).chain([Span::default()]).collect();
    let (queries, pool) = (Buffer::from_slice(gpu, &case.queries)?, Buffer::from_slice(gpu, &case.pool)?);
    let (tables, spans_at) = (Buffer::from_slice(gpu, &case.tables)?, Buffer::from_slice(gpu, &spans)?);
    let out = Buffer::<bf16>::new(gpu, case.queries.len())?;
    let prefill = Prefill {
        queries: queries.ptr(),
        pool: pool.ptr(),
        tables: tables.ptr(),
        spans: spans_at.ptr(),
        out: out.ptr(),
        count: spans.len(),
        heads: case.heads,
        shape: case.shape,
    };
    prefill.launch(gpu)?;
    Ok(check::to_f32(&out.to_vec(gpu)?))
}

pub(crate) fn check(gpu: &dyn Gpu) -> CheckResult {
    let mut rng = TestRng::new(5);
    type Sequences = &'static [(usize, usize)];
    // Group, KV heads, head width, and (position, rows) of each sequence.
    let cases: [(usize, usize, usize, Sequences); 7] = [
        (1, 1, 64, &[(0, 1)]),
        (3, 2, 64, &[(0, 33), (7, 1), (31, 22)]),
        (4, 1, 128, &[(0, 70), (45, 5)]),
        (7, 1, 128, &[(100, 11)]),
        (2, 1, 80, &[(3, 40)]),
        (5, 1, 96, &[(16, 16)]),
        (64, 1, 64, &[(9, 3)]),
    ];
    for format in [KvFormat::Bf16, KvFormat::Fp8] {
        for (group, kv_heads, head_dim, sequences) in cases {
            let case = Case::new(KvShape { kv_heads, head_dim, format }, group, sequences, &mut rng);
            let what = format!("prefill {group} x {kv_heads} heads of {head_dim} {format:?} {sequences:?}");
            // Weights are rounded to bf16 before they meet the values.
            assert_close(&what, &run(gpu, &case)?, &case.reference(), 0.004, check::BF16)?;
        }
    }
    for _ in 0..6 {
        let (group, kv_heads) = (1 + rng.below(9) as usize, 1 + rng.below(2) as usize);
        let head_dim = HEAD_DIMS[rng.below(HEAD_DIMS.len() as u32) as usize];
        let format = if rng.below(2) == 0 { KvFormat::Bf16 } else { KvFormat::Fp8 };
        let sequences = 1 + rng.below(3);
        let sequences: Vec<(usize, usize)> =
            (0..sequences).map(|_| (rng.below(60) as usize, 1 + rng.below(30) as usize)).collect();
        let case = Case::new(KvShape { kv_heads, head_dim, format }, group, &sequences, &mut rng);
        let what = format!("prefill {group} x {kv_heads} heads of {head_dim} {format:?} {sequences:?}");
        assert_close(&what, &run(gpu, &case)?, &case.reference(), 0.004, check::BF16)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::host::Host;

    #[test]
    fn prefill_follows_its_reference() {
        check::on_host(super::check);
    }

    #[test]
    fn how_a_prompt_is_cut_into_chunks_changes_no_bit() {
        let gpu = Host::open(&crate::cuda::kernels::host::library().unwrap(), 1 << 30).unwrap();
        let shape = KvShape { kv_heads: 1, head_dim: 64, format: KvFormat::Bf16 };
        let whole = Case::new(shape, 3, &[(0, 61)], &mut TestRng::new(50));
        let at_once = run(&gpu, &whole).unwrap();
        let chunk = |position, rows| Span { row: position, rows, position, table: 0 };
        let cut = Case { spans: vec![chunk(0, 5), chunk(5, 1), chunk(6, 30), chunk(36, 25)], ..whole };
        assert_eq!(at_once, run(&gpu, &cut).unwrap());
    }
}

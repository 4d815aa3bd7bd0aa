//! Rows of the embedding matrix become the residual stream.

use super::check::{CheckError, CheckResult, assert_close};
use super::sources::EMBED;
use super::test_rng::TestRng;
use crate::cuda::gpu::{Buffer, Gpu, GpuError, Kernel, Launch, Ptr};
use crate::device::DEFERRED_TOKEN;

/// `x[row] = table[token of row]`; NaN for an id that the table does not have.
#[derive(Debug, Clone, Copy)]
pub struct Embed {
    /// u32 `[rows]`: ids, or [`DEFERRED_TOKEN`] and an index into `sampled`.
    pub tokens: Ptr,
    /// u32: ids that the step before chose; null if no token asks for them.
    pub sampled: Ptr,
    /// bf16 `[vocab][dim]`
    pub table: Ptr,
    /// f32 `[rows][dim]`
    pub x: Ptr,
    /// Rows of the batch.
    pub rows: usize,
    /// A multiple of 4.
    pub dim: usize,
    /// Rows of the table.
    pub vocab: usize,
}

impl Embed {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        assert!(self.dim.is_multiple_of(4), "rows are read by fours");
        let threads = (self.dim / 4).next_multiple_of(32).min(256);
        let args = [
            self.tokens.into(),
            self.sampled.into(),
            self.table.into(),
            self.x.into(),
            (self.dim as u32).into(),
            (self.vocab as u32).into(),
        ];
        gpu.launch(&Kernel { source: &EMBED, entry: "embed" }, Launch::new(self.rows, threads as u32), &args)
    }
}

pub(crate) fn check(gpu: &dyn Gpu) -> CheckResult {
    let mut rng = TestRng::new(2);
    for (rows, dim, vocab) in [(1, 4, 3), (513, 64, 77), (5, 1156, 300)] {
        let table = rng.bf16s(vocab * dim, 2.0);
        let sampled: Vec<u32> = (0..8).map(|_| rng.below(vocab as u32)).collect();
        let ids: Vec<u32> = (0..rows).map(|_| rng.below(vocab as u32)).collect();
        // Every third row takes what the step before chose; the last row of many asks for what does not exist.
        let mut tokens: Vec<u32> = ids
            .iter()
            .enumerate()
            .map(|(row, id)| if row % 3 == 2 { DEFERRED_TOKEN | (row % 8) as u32 } else { *id })
            .collect();
        let missing = rows > 1;
        if missing {
            tokens[rows - 1] = vocab as u32;
        }
        let (table_at, tokens_at) = (Buffer::from_slice(gpu, &table)?, Buffer::from_slice(gpu, &tokens)?);
        let (sampled_at, x) = (Buffer::from_slice(gpu, &sampled)?, Buffer::<f32>::new(gpu, rows * dim)?);
        let (tokens_at, sampled_at, table_at) = (tokens_at.ptr(), sampled_at.ptr(), table_at.ptr());
        Embed { tokens: tokens_at, sampled: sampled_at, table: table_at, x: x.ptr(), rows, dim, vocab }.launch(gpu)?;
        let got = x.to_vec(gpu)?;
        let there = if missing { rows - 1 } else { rows };
        let id = |row: usize| if row % 3 == 2 { sampled[row % 8] } else { ids[row] } as usize;
        let want: Vec<f32> =
            (0..there).flat_map(|row| &table[id(row) * dim..][..dim]).map(|number| number.to_f32()).collect();
        assert_close(&format!("embed {rows} x {dim}"), &got[..there * dim], &want, 0.0, 0.0)?;
        if !got[there * dim..].iter().all(|x| x.is_nan()) {
            return Err(CheckError::Failed("embed: an id beyond the vocabulary gave numbers".into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn embed_follows_its_reference() {
        crate::cuda::kernels::check::on_host(super::check);
    }
}

//! The gate of the feed-forward layer.

use half::bf16;

use super::SILU;
use super::check::{self, Chance, Checked, near};
use crate::cuda::gpu::{Buffer, Gpu, GpuError, Kernel, Launch, Ptr};

const THREADS: usize = 256;

/// `out[row][i] = silu(both[row][i]) * both[row][width + i]`
#[derive(Debug, Clone, Copy)]
pub struct SiluMul {
    /// bf16 `[rows][2 * width]`: gate, then up.
    pub both: Ptr,
    /// bf16 `[rows][width]`
    pub out: Ptr,
    pub rows: usize,
    /// A multiple of 8.
    pub width: usize,
}

impl SiluMul {
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        assert!(self.width.is_multiple_of(8), "rows are read by eights");
        let blocks = (self.rows * self.width / 8).div_ceil(THREADS);
        let args = [self.both.into(), self.out.into(), (self.rows as u32).into(), (self.width as u32).into()];
        gpu.launch(&Kernel { source: &SILU, entry: "silu_mul" }, Launch::new(blocks, THREADS as u32), &args)
    }
}

fn twin(gate: f32, up: f32) -> f32 {
    gate / (1.0 + (-gate).exp()) * up
}

pub(crate) fn check(gpu: &dyn Gpu) -> Checked {
    let mut chance = Chance::new(3);
    for (rows, width) in [(1, 8), (513, 40), (7, 1544)] {
        // From where the gate is shut to where it is open.
        let both = chance.bf16s(rows * 2 * width, 30.0);
        let (both_at, out) = (Buffer::from_slice(gpu, &both)?, Buffer::<bf16>::new(gpu, rows * width)?);
        SiluMul { both: both_at.ptr(), out: out.ptr(), rows, width }.launch(gpu)?;
        let both = check::wide(&both);
        let want: Vec<f32> = both
            .chunks_exact(2 * width)
            .flat_map(|row| row[..width].iter().zip(&row[width..]).map(|(gate, up)| twin(*gate, *up)))
            .collect();
        near(&format!("silu_mul {rows} x {width}"), &check::wide(&out.to_vec(gpu)?), &want, 1e-6, check::BF16)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn silu_follows_its_slow_twin() {
        crate::cuda::kernels::check::on_host(super::check);
    }
}

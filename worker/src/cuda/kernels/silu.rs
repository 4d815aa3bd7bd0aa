//! The gate of the feed-forward layer.

use half::bf16;

use super::check::{self, CheckResult, assert_close};
use super::sources::SILU;
use super::test_rng::TestRng;
use crate::cuda::gpu::{Buffer, Gpu, GpuError, Kernel, Launch, Ptr};

const THREADS: usize = 256;

/// `out[row][i] = silu(gate_up[row][i]) * gate_up[row][width + i]`, after the bias is added.
#[derive(Debug, Clone, Copy)]
pub struct SiluMul {
    /// bf16 `[rows][2 * width]`: gate, then up.
    pub gate_up: Ptr,
    /// f32 `[2 * width]`, or null.
    pub bias: Ptr,
    /// bf16 `[rows][width]`
    pub out: Ptr,
    /// Rows of input and output.
    pub rows: usize,
    /// A multiple of 8.
    pub width: usize,
}

impl SiluMul {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        assert!(self.width.is_multiple_of(8), "rows are read by fp8_rows");
        let blocks = (self.rows * self.width / 8).div_ceil(THREADS);
        let (rows, width) = (self.rows as u32, self.width as u32);
        let args = [self.gate_up.into(), self.bias.into(), self.out.into(), rows.into(), width.into()];
        gpu.launch(&Kernel { source: &SILU, entry: "silu_mul" }, Launch::new(blocks, THREADS as u32), &args)
    }
}

fn reference(gate: f32, up: f32) -> f32 {
    gate / (1.0 + (-gate).exp()) * up
}

pub(crate) fn check(gpu: &dyn Gpu) -> CheckResult {
    let mut rng = TestRng::new(3);
    for (rows, width, with_bias) in [(1, 8, false), (513, 40, true), (7, 1544, false), (3, 72, true)] {
        // From where the gate is shut to where it is open.
        let gate_up = rng.bf16s(rows * 2 * width, 30.0);
        let (gate_up_at, out) = (Buffer::from_slice(gpu, &gate_up)?, Buffer::<bf16>::new(gpu, rows * width)?);
        let bias = if with_bias { rng.floats(2 * width, 2.0) } else { vec![0.0; 2 * width] };
        let bias_at = with_bias.then(|| Buffer::from_slice(gpu, &bias)).transpose()?;
        let bias_ptr = bias_at.as_ref().map_or(Ptr::NULL, Buffer::ptr);
        SiluMul { gate_up: gate_up_at.ptr(), bias: bias_ptr, out: out.ptr(), rows, width }.launch(gpu)?;
        let mut gate_up = check::to_f32(&gate_up);
        gate_up.iter_mut().zip(bias.iter().cycle()).for_each(|(x, bias)| *x += bias);
        let want: Vec<f32> = gate_up
            .chunks_exact(2 * width)
            .flat_map(|row| row[..width].iter().zip(&row[width..]).map(|(gate, up)| reference(*gate, *up)))
            .collect();
        assert_close(
            &format!("silu_mul {rows} x {width}"),
            &check::to_f32(&out.to_vec(gpu)?),
            &want,
            1e-6,
            check::BF16,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn silu_follows_its_reference() {
        crate::cuda::kernels::check::on_host(super::check);
    }
}

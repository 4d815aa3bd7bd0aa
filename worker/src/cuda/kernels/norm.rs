//! RMS norms of the residual stream, and biases added to it.

use half::bf16;

use super::check::{self, CheckResult, assert_close};
use super::sources::NORM;
use super::test_rng::TestRng;
use crate::cuda::gpu::{Buffer, Gpu, GpuError, Kernel, Launch, Ptr};

/// `out[i] = x[row of i] / sqrt(mean of squares + eps) * weight`
#[derive(Debug, Clone, Copy)]
pub struct RmsNorm {
    /// f32 `[any][dim]`
    pub x: Ptr,
    /// u32 `[count]`: which rows; null takes the first `count`.
    pub rows: Ptr,
    /// f32 `[dim]`
    pub weight: Ptr,
    /// bf16 `[count][dim]`
    pub out: Ptr,
    /// Rows of the output.
    pub count: usize,
    /// A multiple of 4, at most 12,000 or so: a row lies in shared memory.
    pub dim: usize,
    /// Added to the mean of squares.
    pub eps: f32,
}

impl RmsNorm {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        assert!(self.dim.is_multiple_of(4), "rows are read by fours");
        let threads = (self.dim / 4).next_multiple_of(32).min(1024);
        let launch = Launch { shared: ((32 + self.dim) * 4) as u32, ..Launch::new(self.count, threads as u32) };
        let kernel = Kernel { source: &NORM, entry: "rms_norm" };
        let args = [
            self.x.into(),
            self.rows.into(),
            self.weight.into(),
            self.out.into(),
            (self.dim as u32).into(),
            self.eps.into(),
        ];
        gpu.launch(&kernel, launch, &args)
    }
}

/// `x[row] += bias`
#[derive(Debug, Clone, Copy)]
pub struct AddBias {
    /// f32 `[rows][dim]`
    pub x: Ptr,
    /// f32 `[dim]`
    pub bias: Ptr,
    /// Rows of the batch.
    pub rows: usize,
    /// A multiple of 4.
    pub dim: usize,
}

impl AddBias {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        assert!(self.dim.is_multiple_of(4), "rows are read by fours");
        let launch = Launch::new((self.rows * self.dim / 4).div_ceil(256), 256);
        let args = [self.x.into(), self.bias.into(), (self.rows as u32).into(), (self.dim as u32).into()];
        gpu.launch(&Kernel { source: &NORM, entry: "add_bias" }, launch, &args)
    }
}

/// The reference for one row.
pub(crate) fn reference(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mean = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / x.len() as f64;
    let inverse = 1.0 / (mean + f64::from(eps)).sqrt();
    x.iter().zip(weight).map(|(x, weight)| (f64::from(*x) * inverse * f64::from(*weight)) as f32).collect()
}

pub(crate) fn check(gpu: &dyn Gpu) -> CheckResult {
    let mut rng = TestRng::new(1);
    for (rows, dim) in [(1, 4), (37, 100), (3, 1160)] {
        let (x, bias) = (rng.floats(rows * dim, 3.0), rng.floats(dim, 1.5));
        let (x_at, bias_at) = (Buffer::from_slice(gpu, &x)?, Buffer::from_slice(gpu, &bias)?);
        AddBias { x: x_at.ptr(), bias: bias_at.ptr(), rows, dim }.launch(gpu)?;
        let want: Vec<f32> = x.iter().zip(bias.iter().cycle()).map(|(x, bias)| x + bias).collect();
        assert_close(&format!("add_bias {rows} x {dim}"), &x_at.to_vec(gpu)?, &want, 0.0, 0.0)?;
    }
    for (rows, dim, chosen) in
        [(1, 32, None), (3, 576, None), (513, 96, None), (2, 4100, None), (9, 896, Some([8, 0, 3]))]
    {
        let (x, weight) = (rng.floats(rows * dim, 3.0), rng.floats(dim, 1.5));
        let chosen: Option<Vec<u32>> = chosen.map(|rows| rows.to_vec());
        let count = chosen.as_ref().map_or(rows, Vec::len);
        let (x_at, weight_at) = (Buffer::from_slice(gpu, &x)?, Buffer::from_slice(gpu, &weight)?);
        let rows_at = chosen.as_ref().map(|rows| Buffer::from_slice(gpu, rows)).transpose()?;
        let out = Buffer::<bf16>::new(gpu, count * dim)?;
        let norm = RmsNorm {
            x: x_at.ptr(),
            rows: rows_at.as_ref().map_or(Ptr::NULL, Buffer::ptr),
            weight: weight_at.ptr(),
            out: out.ptr(),
            count,
            dim,
            eps: 1e-5,
        };
        norm.launch(gpu)?;
        let row = |i: usize| chosen.as_ref().map_or(i, |rows| rows[i] as usize);
        let want: Vec<f32> = (0..count).flat_map(|i| reference(&x[row(i) * dim..][..dim], &weight, 1e-5)).collect();
        assert_close(&format!("rms_norm {rows} x {dim}"), &check::to_f32(&out.to_vec(gpu)?), &want, 1e-6, check::BF16)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn norm_follows_its_reference() {
        crate::cuda::kernels::check::on_host(super::check);
    }
}

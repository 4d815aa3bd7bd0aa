//! Products in eight bits: rows of bf16 become e4m3 with one scale a row, and sums get their scales back.

use half::bf16;

use super::check::{BF16, CheckError, CheckResult, assert_close, to_f32};
use super::sources::QUANTISE;
use super::test_rng::TestRng;
use crate::cuda::gpu::{Buffer, Gpu, GpuError, Kernel, Launch, Ptr};
use crate::ops::fp8::{e4m3_to_f32, round_to_e4m3};

/// `x[row][i]` is about `out[row][i] * scales[row]`. A row that holds NaN or infinity has a scale that is no number.
#[derive(Debug, Clone, Copy)]
pub struct QuantiseRows {
    /// bf16 `[rows][width]`
    pub x: Ptr,
    /// e4m3 `[rows][width]`
    pub out: Ptr,
    /// f32 `[rows]`
    pub scales: Ptr,
    /// Rows of input and output.
    pub rows: usize,
    /// A multiple of 8.
    pub width: usize,
}

impl QuantiseRows {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        assert!(self.width.is_multiple_of(8), "rows are read by fp8_rows");
        let launch = Launch { shared: 128, ..Launch::new(self.rows, 256) };
        let args = [self.x.into(), self.out.into(), self.scales.into(), (self.width as u32).into()];
        gpu.launch(&Kernel { source: &QUANTISE, entry: "quantise_rows" }, launch, &args)
    }
}

const THREADS: usize = 256;

/// `sums[row][o] * row_scales[row] * scales[o]`, for a product of rows and weights that were both quantised.
#[derive(Debug, Clone, Copy)]
pub struct Rescale {
    /// f32 `[rows][width]`
    pub sums: Ptr,
    /// f32 `[rows]`
    pub row_scales: Ptr,
    /// f32 `[width]`
    pub scales: Ptr,
    /// `[rows][width]`: bf16 that is overwritten, or f32 that is added to.
    pub out: Ptr,
    /// Rows of input and output.
    pub rows: usize,
    /// A multiple of 4.
    pub width: usize,
    /// Whether the output is added to.
    pub add: bool,
}

impl Rescale {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        assert!(self.width.is_multiple_of(4), "rows are read by fours");
        let entry = if self.add { "rescale_add" } else { "rescale_into" };
        let blocks = (self.rows * self.width / 4).div_ceil(THREADS);
        let args = [
            self.sums.into(),
            self.row_scales.into(),
            self.scales.into(),
            self.out.into(),
            (self.rows as u32).into(),
            (self.width as u32).into(),
        ];
        gpu.launch(&Kernel { source: &QUANTISE, entry }, Launch::new(blocks, THREADS as u32), &args)
    }
}

pub(crate) fn check(gpu: &dyn Gpu) -> CheckResult {
    let mut rng = TestRng::new(9);
    for (rows, width) in [(1, 8), (65, 72), (3, 2056)] {
        let mut x = rng.bf16s(rows * width, 5.0);
        // From far below the row's greatest to zero.
        x.iter_mut().step_by(3).for_each(|x| *x = bf16::from_f32(x.to_f32() / 4096.0));
        if rows > 2 {
            x[width..2 * width].fill(bf16::ZERO);
            x[2 * width + 1] = bf16::NAN;
        }
        let x_at = Buffer::from_slice(gpu, &x)?;
        let (out, scales) = (Buffer::<u8>::new(gpu, rows * width)?, Buffer::<f32>::new(gpu, rows)?);
        QuantiseRows { x: x_at.ptr(), out: out.ptr(), scales: scales.ptr(), rows, width }.launch(gpu)?;
        let (out, scales, x) = (out.to_vec(gpu)?, scales.to_vec(gpu)?, to_f32(&x));
        for (row, x) in x.chunks_exact(width).enumerate() {
            let max = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            if rows > 2 && row == 2 {
                if !scales[row].is_nan() {
                    return Err(CheckError::Failed("quantise_rows: a row with NaN has a scale".into()));
                }
                continue;
            }
            let scale = if max == 0.0 { 1.0 } else { max / 448.0 };
            assert_close("quantise_rows: scale", &[scales[row]], &[scale], 0.0, 0.0)?;
            let got: Vec<f32> = out[row * width..][..width].iter().map(|byte| e4m3_to_f32(*byte)).collect();
            let want: Vec<f32> = x.iter().map(|x| round_to_e4m3(x / scale)).collect();
            assert_close(&format!("quantise_rows {rows} x {width}"), &got, &want, 0.0, 0.0)?;
        }
    }
    for (rows, width) in [(1, 4), (33, 76), (5, 2052)] {
        let (sums, old) = (rng.floats(rows * width, 100.0), rng.floats(rows * width, 3.0));
        let (row_scales, scales) = (rng.floats(rows, 0.1), rng.floats(width, 0.1));
        let (sums_at, added) = (Buffer::from_slice(gpu, &sums)?, Buffer::from_slice(gpu, &old)?);
        let (rows_at, scales_at) = (Buffer::from_slice(gpu, &row_scales)?, Buffer::from_slice(gpu, &scales)?);
        let out = Buffer::<bf16>::new(gpu, rows * width)?;
        let (sums_at, row_scales_at, scales_at) = (sums_at.ptr(), rows_at.ptr(), scales_at.ptr());
        for (out, add) in [(out.ptr(), false), (added.ptr(), true)] {
            Rescale { sums: sums_at, row_scales: row_scales_at, scales: scales_at, out, rows, width, add }
                .launch(gpu)?;
        }
        let want: Vec<f32> =
            (0..rows * width).map(|at| sums[at] * row_scales[at / width] * scales[at % width]).collect();
        assert_close(&format!("rescale_into {rows} x {width}"), &to_f32(&out.to_vec(gpu)?), &want, 1e-30, BF16)?;
        let want: Vec<f32> = want.iter().zip(&old).map(|(new, old)| new + old).collect();
        assert_close(&format!("rescale_add {rows} x {width}"), &added.to_vec(gpu)?, &want, 1e-6, 0.0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn rows_become_the_nearest_numbers_of_eight_bits_and_sums_get_their_scales_back() {
        crate::cuda::kernels::check::on_host(super::check);
    }
}

//! Weights of every type that the loader knows become bf16, at load.

use half::bf16;

use super::check::{CheckError, CheckResult};
use super::sources::DEQUANTISE;
use super::test_rng::TestRng;
use crate::cuda::gpu::{Arg, Buffer, Gpu, GpuError, Kernel, Launch, Ptr};
use crate::model::{DType, dequantize};

const THREADS: usize = 256;
/// Numbers of one thread.
const EACH: usize = 8;

/// `out[i]` is number i of `data`, rounded to bf16.
#[derive(Debug, Clone, Copy)]
pub struct Dequantise {
    /// Type of the numbers in the file.
    pub dtype: DType,
    /// The numbers as they lie in the file.
    pub data: Ptr,
    /// bf16 `[count]`
    pub out: Ptr,
    /// Whole blocks of the type.
    pub count: usize,
}

fn entry(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "dequantise_f32",
        DType::F16 => "dequantise_f16",
        DType::BF16 => "dequantise_bf16",
        DType::Q4_0 => "dequantise_q4_0",
        DType::Q4_1 => "dequantise_q4_1",
        DType::Q5_0 => "dequantise_q5_0",
        DType::Q5_1 => "dequantise_q5_1",
        DType::Q8_0 => "dequantise_q8_0",
        DType::Q4K => "dequantise_q4_k",
        DType::Q5K => "dequantise_q5_k",
        DType::Q6K => "dequantise_q6_k",
        DType::Q2K => "dequantise_q2_k",
        DType::Q3K => "dequantise_q3_k",
        DType::Iq4Nl => "dequantise_iq4_nl",
        DType::Iq4Xs => "dequantise_iq4_xs",
    }
}

impl Dequantise {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        assert!(self.count.is_multiple_of(self.dtype.block()), "{} numbers are not whole blocks", self.count);
        let launch = Launch::new(self.count.div_ceil(THREADS * EACH), THREADS as u32);
        let kernel = Kernel { source: &DEQUANTISE, entry: entry(self.dtype) };
        gpu.launch(&kernel, launch, &[self.data.into(), self.out.into(), Arg::U64(self.count as u64)])
    }
}

pub(crate) fn check(gpu: &dyn Gpu) -> CheckResult {
    let mut rng = TestRng::new(8);
    for dtype in DType::ALL {
        for blocks in [1, 37] {
            let count = blocks * dtype.block();
            let mut data: Vec<u8> = (0..blocks * dtype.block_bytes()).map(|_| rng.bits() as u8).collect();
            // Random bits make every number of every type but some that are not finite: those prove nothing.
            let mut want = vec![0.0; count];
            loop {
                dequantize(dtype, &data, &mut want).map_err(|error| CheckError::Failed(error.to_string()))?;
                let Some(odd) = want.iter().position(|number| !number.is_finite()) else { break };
                let block = odd / dtype.block() * dtype.block_bytes();
                data[block..block + dtype.block_bytes()].iter_mut().for_each(|byte| *byte = rng.bits() as u8);
            }
            let (data, out) = (Buffer::from_slice(gpu, &data)?, Buffer::<bf16>::new(gpu, count)?);
            Dequantise { dtype, data: data.ptr(), out: out.ptr(), count }.launch(gpu)?;
            let got = out.to_vec(gpu)?;
            if let Some(at) = (0..count).find(|at| got[*at].to_bits() != bf16::from_f32(want[*at]).to_bits()) {
                let (what, got) = (format!("dequantise {}", dtype.name()), got[at].to_f32());
                return Err(CheckError::Mismatch { what, index: at, got, want: want[at] });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_type_has_the_bits_of_its_reference() {
        crate::cuda::kernels::check::on_host(super::check);
    }
}

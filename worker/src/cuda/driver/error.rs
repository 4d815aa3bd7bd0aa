//! Errors of the driver, and what can be done about them.

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;

use crate::cuda::gpu::GpuError;

/// Logs that something could not be released; there is nothing else to do, as it ends with the process.
pub(super) fn log_failure<E: std::fmt::Display>(done: Result<(), E>) {
    if let Err(error) = done {
        tracing::debug!(%error, "a GPU resource was not released");
    }
}

/// The driver's name of an error, which is what people search for.
pub(super) fn name_of(error: DriverError) -> String {
    match (error.error_name(), error.error_string()) {
        (Ok(name), Ok(text)) => format!("{}: {}", name.to_string_lossy(), text.to_string_lossy()),
        (Ok(name), Err(_)) => name.to_string_lossy().into_owned(),
        (Err(_), _) => format!("{:?}", error.0),
    }
}

/// After these nothing works in this process any more: a kernel went astray, or the card is gone.
fn is_lost(error: CUresult) -> bool {
    matches!(
        error,
        CUresult::CUDA_ERROR_DEINITIALIZED
            | CUresult::CUDA_ERROR_INVALID_CONTEXT
            | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_TENSOR_MEMORY_LEAK
            | CUresult::CUDA_ERROR_CONTAINED
            | CUresult::CUDA_ERROR_MPS_CLIENT_TERMINATED
            | CUresult::CUDA_ERROR_EXTERNAL_DEVICE
            | CUresult::CUDA_ERROR_UNKNOWN
    )
}

/// Another process has the GPU: for itself, or all of its memory.
pub(super) fn is_busy(error: CUresult) -> bool {
    matches!(
        error,
        CUresult::CUDA_ERROR_OUT_OF_MEMORY
            | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUresult::CUDA_ERROR_INVALID_DEVICE
            | CUresult::CUDA_ERROR_CONTEXT_ALREADY_IN_USE
    )
}

/// The error of a call that failed.
pub(super) fn map_error(error: DriverError) -> GpuError {
    if is_lost(error.0) { GpuError::Lost(name_of(error)) } else { GpuError::Failed(name_of(error)) }
}

/// The same for the launch of a kernel, named.
pub(super) fn map_kernel_error(entry: &str, error: DriverError) -> GpuError {
    match map_error(error) {
        GpuError::Lost(what) => GpuError::Lost(format!("{entry}: {what}")),
        GpuError::Failed(what) => GpuError::Failed(format!("{entry}: {what}")),
        memory @ GpuError::Memory { .. } => memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errors after which CUDA's manual says that the process must end to use the GPU again.
    #[test]
    fn an_error_that_outlives_its_call_loses_the_device() {
        for error in [
            CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
            CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
            CUresult::CUDA_ERROR_ASSERT,
            CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
            CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
            CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
            CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
            CUresult::CUDA_ERROR_INVALID_PC,
            CUresult::CUDA_ERROR_LAUNCH_FAILED,
            CUresult::CUDA_ERROR_TENSOR_MEMORY_LEAK,
            CUresult::CUDA_ERROR_EXTERNAL_DEVICE,
            CUresult::CUDA_ERROR_CONTAINED,
        ] {
            assert!(is_lost(error), "{error:?}");
        }
        for error in
            [CUresult::CUDA_ERROR_INVALID_VALUE, CUresult::CUDA_ERROR_OUT_OF_MEMORY, CUresult::CUDA_ERROR_NOT_READY]
        {
            assert!(!is_lost(error), "{error:?}");
        }
    }
}

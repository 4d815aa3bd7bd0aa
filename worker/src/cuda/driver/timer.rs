//! Time on the GPU.

use std::time::Duration;

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUresult};

use super::error::{log_failure, map_error};
use crate::cuda::gpu::GpuError;

/// Two events around some work.
pub(super) struct Timer([sys::CUevent; 2]);

impl Timer {
    pub(super) fn new() -> Result<Self, GpuError> {
        let event = || result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map_err(map_error);
        Ok(Self([event()?, event()?]))
    }

    pub(super) fn begin(&self, stream: sys::CUstream) -> Result<(), GpuError> {
        // SAFETY: event and stream are alive.
        unsafe { result::event::record(self.0[0], stream) }.map_err(map_error)
    }

    /// Waits for the work.
    pub(super) fn end(&self, stream: sys::CUstream) -> Result<Duration, GpuError> {
        // SAFETY: as above; both events are recorded by now.
        let took = unsafe {
            result::event::record(self.0[1], stream).map_err(map_error)?;
            result::event::synchronize(self.0[1]).map_err(map_error)?;
            elapsed(self.0)?
        };
        Ok(Duration::from_secs_f64(f64::from(took.max(0.0)) / 1e3))
    }
}

type ElapsedTime = unsafe extern "C" fn(milliseconds: *mut f32, begin: sys::CUevent, end: sys::CUevent) -> CUresult;

/// Milliseconds between two events. cudarc calls this by the name that came with CUDA 12.8, and dies where the driver is
/// older; the first name is known to all.
///
/// # Safety
/// Both events are recorded, and over.
unsafe fn elapsed([begin, end]: [sys::CUevent; 2]) -> Result<f32, GpuError> {
    let missing = |error: libloading::Error| GpuError::Failed(error.to_string());
    let mut took = 0.0;
    // SAFETY: the driver was found when the GPU was taken; the function has this signature in all its versions.
    unsafe {
        sys::culib().get::<ElapsedTime>(c"cuEventElapsedTime".to_bytes_with_nul()).map_err(missing)?(
            &raw mut took,
            begin,
            end,
        )
    }
    .result()
    .map_err(map_error)?;
    Ok(took)
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        self.0.iter().for_each(|event| log_failure(unsafe { result::event::destroy(*event) }));
    }
}

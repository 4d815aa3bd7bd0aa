//! Finding a GPU, and checking that driver, libraries and card are recent enough.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult};
use cudarc::{cublaslt, driver};

use super::context::Context;
use super::error::{is_busy, name_of};
use super::open_error::GpuOpenError;
use crate::cuda::gpu::DeviceProperties;
use crate::cuda::nvrtc::{self, CompileError};

/// The oldest driver that is any use: CUDA 12.0.
const OLDEST_DRIVER: i32 = 12_000;
/// bf16 and asynchronous copies into shared memory came with this generation.
const OLDEST_GPU: (u32, u32) = (8, 0);

/// True if there is a driver to ask for a GPU.
fn driver_present() -> bool {
    // SAFETY: it only tries to load the library.
    unsafe { driver::sys::is_culib_present() }
}

/// The driver's version, such as 13000; only called when the driver is there.
fn driver_version() -> Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: the pointer is to a local.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version)
}

/// A GPU that can be used, by its number.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    ordinal: u32,
}

impl Probe {
    pub(super) fn new(ordinal: u32) -> Self {
        Self { ordinal }
    }

    /// Takes hold of the GPU.
    pub(super) fn open(self) -> Result<(Arc<Context>, DeviceProperties), GpuOpenError> {
        let (device, version) = self.find()?;
        let name = result::device::get_name(device).map_err(|error| self.failed(error))?;
        let attribute = |which| {
            // SAFETY: the device was found above.
            let value = unsafe { result::device::get_attribute(device, which) };
            value.map(|value| value.max(0) as u32).map_err(|error| self.failed(error))
        };
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if capability < OLDEST_GPU {
            return Err(GpuOpenError::GpuTooOld { name, capability });
        }
        let versions = libraries(version)?;
        // SAFETY: the device was found above.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(|error| self.busy(error))?;
        let context = Arc::new(Context { device, context, hung: AtomicBool::new(false) });
        context.enter().map_err(|error| self.failure(error.to_string()))?;
        // SAFETY: the device was found above.
        let memory = unsafe { result::device::total_mem(device) }.map_err(|error| self.failed(error))?;
        let properties = DeviceProperties {
            versions,
            name,
            capability,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            memory,
        };
        Ok((context, properties))
    }

    /// The device, and the driver's version.
    fn find(self) -> Result<(sys::CUdevice, i32), GpuOpenError> {
        if !driver_present() {
            return Err(GpuOpenError::NoDriver);
        }
        let version = driver_version().map_err(|error| self.failed(error))?;
        if version < OLDEST_DRIVER {
            return Err(GpuOpenError::DriverTooOld { have: version, need: "CUDA 12".into() });
        }
        match result::init() {
            Ok(()) => {}
            Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => return Err(GpuOpenError::NoDevice),
            Err(error) => return Err(self.failed(error)),
        }
        let found = result::device::get_count().map_err(|error| self.failed(error))?.max(0) as u32;
        if found == 0 {
            return Err(GpuOpenError::NoDevice);
        }
        if self.ordinal >= found {
            return Err(GpuOpenError::NoSuchDevice { asked: self.ordinal, found });
        }
        let device = result::device::get(self.ordinal as i32).map_err(|error| self.failed(error))?;
        Ok((device, version))
    }

    pub(super) fn failure(self, what: String) -> GpuOpenError {
        GpuOpenError::Failed { ordinal: self.ordinal, what }
    }

    pub(super) fn failed(self, error: DriverError) -> GpuOpenError {
        self.failure(name_of(error))
    }

    /// A failure that another process may be the reason of.
    pub(super) fn busy(self, error: DriverError) -> GpuOpenError {
        match is_busy(error.0) {
            true => GpuOpenError::Busy { ordinal: self.ordinal, what: name_of(error) },
            false => self.failed(error),
        }
    }
}

/// Versions of the driver and of the libraries beside it, in words; an error if one is missing or too new for the driver.
fn libraries(version: i32) -> Result<String, GpuOpenError> {
    let (major, minor) = nvrtc::version().ok_or(CompileError::Missing)?;
    if major as i32 > version / 1000 {
        return Err(GpuOpenError::DriverTooOld {
            have: version,
            need: format!("CUDA {major}.{minor}, as its libraries,"),
        });
    }
    // SAFETY: it only tries to load the library.
    if !unsafe { cublaslt::sys::is_culib_present() } {
        return Err(GpuOpenError::NoLibrary("libcublasLt"));
    }
    // SAFETY: the library is there.
    let blas = unsafe { cublaslt::sys::cublasLtGetVersion() };
    Ok(format!(
        "driver CUDA {}.{}, NVRTC {major}.{minor}, cuBLASLt {}.{}.{}",
        version / 1000,
        version % 1000 / 10,
        blas / 10_000,
        blas / 100 % 100,
        blas % 100
    ))
}

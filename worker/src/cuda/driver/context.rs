//! A process's hold of one GPU, and memory that belongs to it.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::{result, sys};

use super::error::{log_failure, map_error};
use crate::cuda::gpu::{GpuError, Ptr, Release};

/// A process's hold of one GPU.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) device: sys::CUdevice,
    pub(super) context: sys::CUcontext,
    /// A step did not end in time. Every call that waits for the GPU would wait for ever, also to release something.
    pub(super) hung: AtomicBool,
}

// SAFETY: a context may be used by any thread that has made it current, which `enter` does.
unsafe impl Send for Context {}
// SAFETY: as above; the driver itself locks.
unsafe impl Sync for Context {}

impl Context {
    /// Makes it the calling thread's: the device is built on one thread and decodes on another.
    pub(super) fn enter(&self) -> Result<(), GpuError> {
        if self.hung.load(Ordering::Relaxed) {
            return Err(GpuError::Lost("the GPU hangs".into()));
        }
        // SAFETY: the context lives as long as `self`.
        unsafe { result::ctx::set_current(self.context) }.map_err(map_error)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.hung.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: retained once, when the GPU was opened. Whatever fails here, the process's end does it.
        log_failure(unsafe { result::primary_ctx::release(self.device) });
    }
}

/// Memory of the GPU goes back to its context, which therefore outlives it.
impl Release for Context {
    fn release(&self, ptr: Ptr, _: usize) {
        // SAFETY: allocated by `allocate`, and released once. It waits for the GPU. In a dead context it fails, and then the
        // memory is gone with it.
        log_failure(self.enter().and_then(|()| unsafe { result::free_sync(ptr.0) }.map_err(map_error)));
    }
}

/// Pinned memory of the host.
#[derive(Debug)]
pub(super) struct Pinned(pub(super) Arc<Context>);

impl Release for Pinned {
    fn release(&self, ptr: Ptr, _: usize) {
        // SAFETY: allocated by `staging`, and released once.
        log_failure(
            self.0.enter().and_then(|()| unsafe { result::free_host(ptr.0 as *mut c_void) }.map_err(map_error)),
        );
    }
}

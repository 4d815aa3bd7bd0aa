//! Captured work.

use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::context::Context;
use super::error::{log_failure, map_error};
use crate::cuda::gpu::{GpuError, Graph};

/// Captured work, ready to be launched.
#[derive(Debug)]
pub(super) struct CapturedGraph {
    pub(super) graph: sys::CUgraph,
    pub(super) ready: sys::CUgraphExec,
    pub(super) stream: sys::CUstream,
    pub(super) context: Arc<Context>,
}

// SAFETY: a graph is used by one thread at a time, which has made the context current.
unsafe impl Send for CapturedGraph {}

impl Graph for CapturedGraph {
    fn replay(&self) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: made by `capture`; the device keeps the memory it works on, and its stream, as long as its graphs.
        unsafe { result::graph::launch(self.ready, self.stream) }.map_err(map_error)
    }
}

impl Drop for CapturedGraph {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made by `capture`, destroyed once.
            unsafe {
                log_failure(result::graph::exec_destroy(self.ready));
                log_failure(result::graph::destroy(self.graph));
            }
        }
    }
}

//! Other load on the machine during a measurement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use longhand_command::exit::{Failure, Result};

/// Threads that keep cores busy until this is dropped.
pub(crate) struct BackgroundLoad(Arc<AtomicBool>);

impl BackgroundLoad {
    /// Starts `count` busy threads.
    pub(crate) fn start(count: u32) -> Result<Self> {
        let load = Self(Arc::default());
        for _ in 0..count {
            let stop = Arc::clone(&load.0);
            let spin = move || while !stop.load(Ordering::Relaxed) {};
            let thread = thread::Builder::new().name("background-load".into()).spawn(spin);
            thread.map_err(|e| Failure::refused(format!("a busy thread cannot be started: {e}")))?;
        }
        Ok(load)
    }
}

impl Drop for BackgroundLoad {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

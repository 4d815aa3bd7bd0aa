//! Where the time of steps goes: a GPU whose every launch is timed by itself. Slower as a whole, for nothing overlaps.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::gpu::{About, Arg, Factors, Gpu, GpuError, Graph, Kernel, Launch, Memory, Product, Ptr, Staging, Work};

/// Times by kernel. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Profile(Arc<Mutex<BTreeMap<String, Spent>>>);

#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    launches: usize,
    time: Duration,
}

impl Profile {
    /// The GPU, timed from now on.
    pub fn around(&self, gpu: Box<dyn Gpu>) -> Box<dyn Gpu> {
        Box::new(Timed { gpu, profile: self.clone() })
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Microseconds of a step and share of all, the longest first, over `steps` steps.
    pub fn table(&self, steps: usize) -> String {
        let spent = self.lock();
        let all: f64 = spent.values().map(|spent| spent.time.as_secs_f64()).sum();
        let mut rows: Vec<_> = spent.iter().collect();
        rows.sort_by_key(|(_, spent)| std::cmp::Reverse(spent.time));
        let mut text = format!("{:<44} {:>9} {:>10} {:>6}\n", "kernel", "launches", "us a step", "share");
        for (name, Spent { launches, time }) in rows {
            let (steps, seconds) = (steps.max(1) as f64, time.as_secs_f64());
            // Writing to a string cannot fail.
            writeln!(
                text,
                "{name:<44} {:>9.0} {:>10.1} {:>5.1}%",
                *launches as f64 / steps,
                seconds / steps * 1e6,
                seconds / all * 100.0
            )
            .ok();
        }
        text
    }

    fn add(&self, name: String, time: Duration) {
        let mut all = self.lock();
        let spent = all.entry(name).or_default();
        spent.launches += 1;
        spent.time += time;
    }

    /// Shared with whoever prints it.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Spent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Timed {
    gpu: Box<dyn Gpu>,
    profile: Profile,
}

impl Gpu for Timed {
    fn about(&self) -> &About {
        self.gpu.about()
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        self.gpu.free_memory()
    }

    fn allocate(&self, bytes: usize) -> Result<Memory, GpuError> {
        self.gpu.allocate(bytes)
    }

    fn staging(&self, bytes: usize) -> Result<Staging, GpuError> {
        self.gpu.staging(bytes)
    }

    fn upload(&self, to: Ptr, from: &Staging, bytes: usize) -> Result<(), GpuError> {
        let time = self.gpu.time(&mut || self.gpu.upload(to, from, bytes))?;
        self.profile.add("copy to the GPU".into(), time);
        Ok(())
    }

    fn download(&self, to: &mut Staging, from: Ptr, bytes: usize) -> Result<(), GpuError> {
        let time = self.gpu.time(&mut || self.gpu.download(to, from, bytes))?;
        self.profile.add("copy from the GPU".into(), time);
        Ok(())
    }

    fn write(&self, to: Ptr, from: &[u8]) -> Result<(), GpuError> {
        self.gpu.write(to, from)
    }

    fn read(&self, to: &mut [u8], from: Ptr) -> Result<(), GpuError> {
        self.gpu.read(to, from)
    }

    fn copy(&self, to: Ptr, from: Ptr, bytes: usize) -> Result<(), GpuError> {
        let time = self.gpu.time(&mut || self.gpu.copy(to, from, bytes))?;
        self.profile.add("copy on the GPU".into(), time);
        Ok(())
    }

    fn launch(&self, kernel: &Kernel, launch: Launch, args: &[Arg]) -> Result<(), GpuError> {
        let time = self.gpu.time(&mut || self.gpu.launch(kernel, launch, args))?;
        self.profile.add(kernel.entry.into(), time);
        Ok(())
    }

    fn multiply(&self, product: &Product) -> Result<(), GpuError> {
        let time = self.gpu.time(&mut || self.gpu.multiply(product))?;
        let Product { rows, outputs, inputs, factors, .. } = product;
        let kind = if *factors == Factors::E4m3 { " in fp8" } else { "" };
        self.profile.add(format!("product {rows} x {inputs} -> {outputs}{kind}"), time);
        Ok(())
    }

    /// What is recorded cannot be timed apart; the device is told not to record.
    fn record(&self, work: Work<'_>) -> Result<Box<dyn Graph>, GpuError> {
        self.gpu.record(work)
    }

    fn synchronize(&self) -> Result<(), GpuError> {
        self.gpu.synchronize()
    }

    fn mark(&self) -> Result<(), GpuError> {
        self.gpu.mark()
    }

    fn reach_mark(&self) -> Result<(), GpuError> {
        self.gpu.reach_mark()
    }

    fn time(&self, work: Work<'_>) -> Result<Duration, GpuError> {
        self.gpu.time(work)
    }
}

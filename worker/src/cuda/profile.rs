//! Where the time of steps goes: a GPU whose every launch is timed by itself. Slower as a whole, for nothing overlaps.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::gpu::{
    Arg, DeviceProperties, Gemm, Gpu, GpuError, Graph, Kernel, Launch, Memory, OperandType, Ptr, Staging, Work,
};

/// Times by kernel. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Profile(Arc<Mutex<BTreeMap<String, KernelTime>>>);

#[derive(Debug, Clone, Copy, Default)]
struct KernelTime {
    launches: usize,
    time: Duration,
}

impl Profile {
    /// The GPU, timed from now on.
    pub fn around(&self, gpu: Box<dyn Gpu>) -> Box<dyn Gpu> {
        Box::new(ProfiledGpu { gpu, profile: self.clone() })
    }

    /// Forgets all times.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Microseconds of a step and share of all, the longest first, over `steps` steps.
    pub fn table(&self, steps: usize) -> String {
        let times = self.lock();
        let all: f64 = times.values().map(|kernel| kernel.time.as_secs_f64()).sum();
        let mut rows: Vec<_> = times.iter().collect();
        rows.sort_by_key(|(_, kernel)| std::cmp::Reverse(kernel.time));
        let mut text = format!("{:<44} {:>9} {:>10} {:>6}\n", "kernel", "launches", "us a step", "share");
        for (name, KernelTime { launches, time }) in rows {
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
        let kernel = all.entry(name).or_default();
        kernel.launches += 1;
        kernel.time += time;
    }

    /// Shared with whoever prints it.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, KernelTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct ProfiledGpu {
    gpu: Box<dyn Gpu>,
    profile: Profile,
}

impl Gpu for ProfiledGpu {
    fn properties(&self) -> &DeviceProperties {
        self.gpu.properties()
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

    fn gemm(&self, gemm: &Gemm) -> Result<(), GpuError> {
        let time = self.gpu.time(&mut || self.gpu.gemm(gemm))?;
        let Gemm { rows, outputs, inputs, operands, .. } = gemm;
        let kind = if *operands == OperandType::E4m3 { " in fp8" } else { "" };
        self.profile.add(format!("gemm {rows} x {inputs} -> {outputs}{kind}"), time);
        Ok(())
    }

    /// What is captured cannot be timed apart; the device is told not to capture.
    fn capture(&self, work: Work<'_>) -> Result<Box<dyn Graph>, GpuError> {
        self.gpu.capture(work)
    }

    fn synchronize(&self) -> Result<(), GpuError> {
        self.gpu.synchronize()
    }

    fn record_event(&self) -> Result<(), GpuError> {
        self.gpu.record_event()
    }

    fn wait_event(&self) -> Result<(), GpuError> {
        self.gpu.wait_event()
    }

    fn time(&self, work: Work<'_>) -> Result<Duration, GpuError> {
        self.gpu.time(work)
    }
}

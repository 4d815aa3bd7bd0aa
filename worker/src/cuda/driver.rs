//! The seam on a real GPU: CUDA's driver, through cudarc. Its libraries are looked for when a GPU is asked for, so the
//! program runs on machines that have none of them.

mod context;
mod cublaslt;
mod error;
mod graph;
mod open_error;
mod probe;
mod timer;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUfunction_attribute, CUresult};
use longhand_proto::clock;

use self::context::{Context, Pinned};
use self::cublaslt::CublasLt;
use self::error::{log_failure, map_error, map_kernel_error, name_of};
use self::graph::CapturedGraph;
pub use self::open_error::GpuOpenError;
use self::probe::Probe;
use self::timer::Timer;
use super::gpu::{
    Arg, DeviceProperties, Gemm, Gpu, GpuError, Graph, Kernel, Launch, Memory, Ptr, Source, Staging, Work,
};
use super::nvrtc::{self, CompileError};

/// Most arguments of a kernel.
const ARGS: usize = 40;
/// Longest time of a step. The longest ones, of a long prompt on a slow card, take seconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// See the module's documentation.
#[derive(Debug)]
pub struct Driver {
    properties: DeviceProperties,
    cublaslt: CublasLt,
    modules: HashMap<&'static str, sys::CUmodule>,
    /// Entry points that were used, by name.
    functions: RefCell<HashMap<&'static str, sys::CUfunction>>,
    stream: sys::CUstream,
    event: sys::CUevent,
    capturing: RefCell<bool>,
    context: Arc<Context>,
}

// SAFETY: its handles may be used by any thread that has made the context current; each method does.
unsafe impl Send for Driver {}

impl Driver {
    /// Takes GPU `ordinal` and compiles the kernels for it.
    pub fn open(ordinal: u32, sources: &[&'static Source], headers: &[&Source]) -> Result<Self, GpuOpenError> {
        let probe = Probe::new(ordinal);
        let (context, properties) = probe.open()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        let stream = stream.map_err(|error| probe.busy(error))?;
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
        let event = event.map_err(|error| probe.busy(error))?;
        let cublaslt = CublasLt::new(&context, stream).map_err(|error| probe.failure(error.to_string()))?;
        let architecture = nvrtc::architecture(properties.capability);
        let mut opened = Self {
            properties,
            cublaslt,
            modules: HashMap::new(),
            functions: RefCell::new(HashMap::new()),
            stream,
            event,
            capturing: RefCell::new(false),
            context,
        };
        for (source, code) in compile_all(sources, headers, &architecture)? {
            // SAFETY: the code is a whole CUBIN; the driver copies it.
            let module = unsafe { result::module::load_data(code.as_ptr().cast()) };
            let module = module.map_err(|error| probe.failure(format!("{}: {}", source.name, name_of(error))))?;
            opened.modules.insert(source.name, module);
        }
        Ok(opened)
    }

    /// An entry point, found once.
    fn function(&self, kernel: &Kernel) -> Result<sys::CUfunction, GpuError> {
        if let Some(function) = self.functions.borrow().get(kernel.entry) {
            return Ok(*function);
        }
        let missing = || GpuError::Failed(format!("{} was not compiled", kernel.source.name));
        let module = *self.modules.get(kernel.source.name).ok_or_else(missing)?;
        let name = CString::new(kernel.entry).map_err(|error| GpuError::Failed(error.to_string()))?;
        // SAFETY: the module lives as long as `self`.
        let function = unsafe { result::module::get_function(module, name) };
        let function = function.map_err(|error| GpuError::Failed(format!("{}: {}", kernel.entry, name_of(error))))?;
        // More than 48 KiB must be allowed; what the kernel declares itself is not dynamic.
        // SAFETY: the function was just found.
        unsafe {
            let fixed = result::function::get_function_attribute(
                function,
                CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
            );
            let max = self.properties.shared as i32 - fixed.map_err(map_error)?;
            result::function::set_function_attribute(
                function,
                CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                max,
            )
            .map_err(map_error)?;
        }
        self.functions.borrow_mut().insert(kernel.entry, function);
        Ok(function)
    }
}

/// Compiles all files at the same time.
fn compile_all(
    sources: &[&'static Source],
    headers: &[&Source],
    architecture: &str,
) -> Result<Vec<(&'static Source, Vec<u8>)>, CompileError> {
    std::thread::scope(|scope| {
        let one =
            |source: &'static Source| scope.spawn(move || Ok((source, nvrtc::compile(source, headers, architecture)?)));
        let threads: Vec<_> = sources.iter().map(|source| one(source)).collect();
        let crashed = |_| Err(CompileError::Failed("a thread that compiled crashed".into()));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(crashed)).collect()
    })
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made by `open` and used by nobody else. What fails here is a dead context, which takes all with it.
            unsafe {
                log_failure(result::stream::synchronize(self.stream));
                self.modules.values().for_each(|module| log_failure(result::module::unload(*module)));
                log_failure(result::event::destroy(self.event));
                log_failure(result::stream::destroy(self.stream));
            }
        }
    }
}

impl Gpu for Driver {
    fn properties(&self) -> &DeviceProperties {
        &self.properties
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        self.context.enter()?;
        result::mem_get_info().map(|(free, _)| free).map_err(map_error)
    }

    fn allocate(&self, bytes: usize) -> Result<Memory, GpuError> {
        self.context.enter()?;
        let out_of_memory = |error: DriverError| {
            if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY { GpuError::Memory { bytes } } else { map_error(error) }
        };
        // SAFETY: the memory is owned by what is returned, and zeroed before anybody reads it.
        unsafe {
            let ptr = result::malloc_sync(bytes).map_err(out_of_memory)?;
            let memory = Memory::new(Ptr(ptr), bytes, Arc::clone(&self.context) as _);
            result::memset_d8_async(ptr, 0, bytes, self.stream).map_err(map_error)?;
            Ok(memory)
        }
    }

    fn staging(&self, bytes: usize) -> Result<Staging, GpuError> {
        self.context.enter()?;
        // Not write-combined: the results are read back through it.
        // SAFETY: the memory is owned by what is returned, and zeroed before anybody reads it.
        unsafe {
            let start = result::malloc_host(bytes, 0).map_err(map_error)?;
            let owner = Arc::new(Pinned(Arc::clone(&self.context)));
            start.cast::<u8>().write_bytes(0, bytes);
            Ok(Staging::new(Memory::new(Ptr(start as u64), bytes, owner)))
        }
    }

    fn upload(&self, to: Ptr, from: &Staging, bytes: usize) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the staging memory stays as it is until the work is done, as the trait asks.
        unsafe { result::memcpy_htod_async(to.0, &from.numbers::<u8>()[..bytes], self.stream) }.map_err(map_error)
    }

    fn download(&self, to: &mut Staging, from: Ptr, bytes: usize) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(&mut to.numbers_mut::<u8>()[..bytes], from.0, self.stream) }
            .map_err(map_error)
    }

    fn write(&self, to: Ptr, from: &[u8]) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the copy is over before this returns.
        unsafe { result::memcpy_htod_async(to.0, from, self.stream) }.map_err(map_error)?;
        self.synchronize()
    }

    fn read(&self, to: &mut [u8], from: Ptr) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(to, from.0, self.stream) }.map_err(map_error)?;
        self.synchronize()
    }

    fn copy(&self, to: Ptr, from: Ptr, bytes: usize) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the caller owns both.
        unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, self.stream) }.map_err(map_error)
    }

    fn launch(&self, kernel: &Kernel, launch: Launch, args: &[Arg]) -> Result<(), GpuError> {
        self.context.enter()?;
        let function = self.function(kernel)?;
        let mut addresses = [std::ptr::null_mut(); ARGS];
        addresses.iter_mut().zip(args).for_each(|(address, arg)| *address = arg.address());
        let Launch { grid: [x, y, z], block: [a, b, c], shared } = launch;
        let args = addresses.get_mut(..args.len());
        let args = args.ok_or_else(|| GpuError::Failed(format!("{} has too many arguments", kernel.entry)))?;
        // SAFETY: the function was compiled from our source, and its launcher vouches for the arguments, which the driver
        // copies before it returns.
        let launched = unsafe { result::launch_kernel(function, (x, y, z), (a, b, c), shared, self.stream, args) };
        launched.map_err(|error| map_kernel_error(kernel.entry, error))
    }

    fn gemm(&self, gemm: &Gemm) -> Result<(), GpuError> {
        self.context.enter()?;
        self.cublaslt.gemm(gemm, *self.capturing.borrow())
    }

    fn capture(&self, work: Work<'_>) -> Result<Box<dyn Graph>, GpuError> {
        self.context.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours, and this thread ends the capture below.
        unsafe { result::stream::begin_capture(self.stream, mode) }.map_err(map_error)?;
        *self.capturing.borrow_mut() = true;
        let done = work();
        *self.capturing.borrow_mut() = false;
        // SAFETY: begun above. It is ended whatever the work says, so that the stream is whole again.
        let graph = unsafe { result::stream::end_capture(self.stream) };
        // What broke the work off is the reason; that the capture then failed, too, is not.
        let graph = done.and_then(|()| graph.map_err(map_error))?;
        // SAFETY: the graph was just made.
        match unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) } {
            Ok(ready) => {
                Ok(Box::new(CapturedGraph { graph, ready, stream: self.stream, context: Arc::clone(&self.context) }))
            }
            Err(error) => {
                // SAFETY: made above, and nobody has it.
                log_failure(unsafe { result::graph::destroy(graph) });
                Err(map_error(error))
            }
        }
    }

    fn synchronize(&self) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }.map_err(map_error)
    }

    fn record_event(&self) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: event and stream live as long as `self`.
        unsafe { result::event::record(self.event, self.stream) }.map_err(map_error)
    }

    fn wait_event(&self) -> Result<(), GpuError> {
        self.context.enter()?;
        // Asked again and again, as the driver's own wait has no time limit; it would spin as well.
        let begun = clock::now();
        loop {
            // SAFETY: the event lives as long as `self`; one that was never recorded is over.
            match unsafe { result::event::query(self.event) } {
                Err(DriverError(CUresult::CUDA_ERROR_NOT_READY)) if begun.elapsed() < STEP_TIMEOUT => {
                    std::thread::yield_now();
                }
                Err(DriverError(CUresult::CUDA_ERROR_NOT_READY)) => {
                    self.context.hung.store(true, Ordering::Relaxed);
                    let seconds = STEP_TIMEOUT.as_secs();
                    return Err(GpuError::Lost(format!("the GPU did not finish a step within {seconds} s")));
                }
                ended => return ended.map_err(map_error),
            }
        }
    }

    fn time(&self, work: Work<'_>) -> Result<Duration, GpuError> {
        self.context.enter()?;
        let timer = Timer::new()?;
        timer.begin(self.stream)?;
        work()?;
        timer.end(self.stream)
    }
}

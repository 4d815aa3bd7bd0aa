//! The seam on a real GPU: CUDA's driver, through cudarc. Its libraries are looked for when a GPU is asked for, so the
//! program runs on machines that have none of them.

mod products;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUfunction_attribute, CUresult};
use cudarc::{cublaslt, driver};

use self::products::Products;
use super::gpu::{
    About, Arg, Gpu, GpuError, Graph, Kernel, Launch, Memory, Product, Ptr, Release, Source, Staging, Work,
};
use super::nvrtc::{self, CompileError};

/// The oldest driver that is any use: CUDA 12.0.
const OLDEST_DRIVER: i32 = 12_000;
/// bf16 and asynchronous copies into shared memory came with this generation.
const OLDEST_GPU: (u32, u32) = (8, 0);
/// Most arguments of a kernel.
const ARGS: usize = 40;

/// Why there is no GPU to decode on, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoGpu {
    #[error("there is no NVIDIA driver on this machine (libcuda.so.1 is not found): install it, or use --device cpu")]
    NoDriver,
    #[error(
        "the NVIDIA driver is too old: it serves CUDA {}.{}, and {need} is needed; install driver 580 or newer", have / 1000,
        have % 1000 / 10
    )]
    DriverTooOld { have: i32, need: String },
    #[error(
        "the NVIDIA driver sees no GPU; look at `nvidia-smi`, and at CUDA_VISIBLE_DEVICES or the container's --gpus \
         option"
    )]
    NoDevice,
    #[error("there is no GPU {asked}: the driver sees {found}, numbered from 0; say --device cuda:N with a lower N")]
    NoSuchDevice { asked: u32, found: u32 },
    #[error(
        "{name} (compute capability {}.{}) is too old: bf16 arithmetic came with 8.0; use --device cpu", capability.0,
        capability.1
    )]
    GpuTooOld { name: String, capability: (u32, u32) },
    #[error(
        "GPU {ordinal} is busy: another process has it for itself, or has taken all its memory ({what}); `nvidia-smi` \
         shows which"
    )]
    Busy { ordinal: u32, what: String },
    #[error(
        "the CUDA library {0} is missing: install CUDA 12 or 13 (with PyPI: nvidia-cublas), and put its folder into \
         LD_LIBRARY_PATH"
    )]
    NoLibrary(&'static str),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("GPU {ordinal} cannot be used: {what}")]
    Failed { ordinal: u32, what: String },
}

impl NoGpu {
    /// The reason without the remedy, for those who did not ask for a GPU.
    pub fn in_short(&self) -> String {
        match self {
            Self::NoDriver => "there is no NVIDIA driver on this machine".into(),
            Self::NoDevice => "the NVIDIA driver sees none".into(),
            Self::DriverTooOld { .. }
            | Self::NoSuchDevice { .. }
            | Self::GpuTooOld { .. }
            | Self::Busy { .. }
            | Self::NoLibrary(_)
            | Self::Compile(_)
            | Self::Failed { .. } => self.to_string(),
        }
    }
}

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

/// A process's hold of one GPU.
#[derive(Debug)]
struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: a context may be used by any thread that has made it current, which `enter` does.
unsafe impl Send for Context {}
// SAFETY: as above; the driver itself locks.
unsafe impl Sync for Context {}

impl Context {
    /// Makes it the calling thread's: the device is built on one thread and decodes on another.
    fn enter(&self) -> Result<(), GpuError> {
        // SAFETY: the context lives as long as `self`.
        unsafe { result::ctx::set_current(self.context) }.map_err(wrong)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, in `Driver::open`. Whatever fails here, the process's end does it.
        settle(unsafe { result::primary_ctx::release(self.device) });
    }
}

/// Memory of the GPU goes back to its context, which therefore outlives it.
impl Release for Context {
    fn release(&self, ptr: Ptr, _: usize) {
        // SAFETY: allocated by `allocate`, and released once. It waits for the GPU. In a dead context it fails, and then the
        // memory is gone with it.
        settle(self.enter().and_then(|()| unsafe { result::free_sync(ptr.0) }.map_err(wrong)));
    }
}

/// Pinned memory of the host.
#[derive(Debug)]
struct Pinned(Arc<Context>);

impl Release for Pinned {
    fn release(&self, ptr: Ptr, _: usize) {
        // SAFETY: allocated by `staging`, and released once.
        settle(self.0.enter().and_then(|()| unsafe { result::free_host(ptr.0 as *mut c_void) }.map_err(wrong)));
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Driver {
    about: About,
    products: Products,
    modules: HashMap<&'static str, sys::CUmodule>,
    /// Entry points that were used, by name.
    functions: RefCell<HashMap<&'static str, sys::CUfunction>>,
    stream: sys::CUstream,
    mark: sys::CUevent,
    recording: RefCell<bool>,
    context: Arc<Context>,
}

// SAFETY: its handles may be used by any thread that has made the context current; each method does.
unsafe impl Send for Driver {}

impl Driver {
    /// Takes GPU `ordinal` and compiles the kernels for it.
    pub fn open(ordinal: u32, sources: &[&'static Source], headers: &[&Source]) -> Result<Self, NoGpu> {
        let failed = |what: String| NoGpu::Failed { ordinal, what };
        if !driver_present() {
            return Err(NoGpu::NoDriver);
        }
        let version = driver_version().map_err(|error| failed(name_of(error)))?;
        if version < OLDEST_DRIVER {
            return Err(NoGpu::DriverTooOld { have: version, need: "CUDA 12".into() });
        }
        match result::init() {
            Ok(()) => {}
            Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => return Err(NoGpu::NoDevice),
            Err(error) => return Err(failed(name_of(error))),
        }
        let found = result::device::get_count().map_err(|error| failed(name_of(error)))?.max(0) as u32;
        if found == 0 {
            return Err(NoGpu::NoDevice);
        }
        if ordinal >= found {
            return Err(NoGpu::NoSuchDevice { asked: ordinal, found });
        }
        let device = result::device::get(ordinal as i32).map_err(|error| failed(name_of(error)))?;
        let name = result::device::get_name(device).map_err(|error| failed(name_of(error)))?;
        let attribute = |which| {
            // SAFETY: the device was found above.
            let value = unsafe { result::device::get_attribute(device, which) };
            value.map(|value| value.max(0) as u32).map_err(|error| failed(name_of(error)))
        };
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if capability < OLDEST_GPU {
            return Err(NoGpu::GpuTooOld { name, capability });
        }
        let (major, minor) = nvrtc::version().ok_or(CompileError::Missing)?;
        if major as i32 > version / 1000 {
            return Err(NoGpu::DriverTooOld {
                have: version,
                need: format!("CUDA {major}.{minor}, as its libraries,"),
            });
        }
        // SAFETY: it only tries to load the library.
        if !unsafe { cublaslt::sys::is_culib_present() } {
            return Err(NoGpu::NoLibrary("libcublasLt"));
        }
        let busy = |error: DriverError| {
            let what = name_of(error);
            if is_busy(error.0) { NoGpu::Busy { ordinal, what } } else { failed(what) }
        };
        // SAFETY: the device was found above.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(busy)?;
        let context = Arc::new(Context { device, context });
        context.enter().map_err(|error| failed(error.to_string()))?;
        // SAFETY: the device was found above.
        let memory = unsafe { result::device::total_mem(device) }.map_err(|error| failed(name_of(error)))?;
        // SAFETY: the library is there.
        let blas = unsafe { cublaslt::sys::cublasLtGetVersion() };
        let about = About {
            versions: format!(
                "driver CUDA {}.{}, NVRTC {major}.{minor}, cuBLASLt {}.{}.{}",
                version / 1000,
                version % 1000 / 10,
                blas / 10_000,
                blas / 100 % 100,
                blas % 100
            ),
            name,
            capability,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            memory,
        };
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(busy)?;
        let mark = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(busy)?;
        let products = Products::new(&context, stream).map_err(|error| failed(error.to_string()))?;
        let mut opened = Self {
            about,
            products,
            modules: HashMap::new(),
            functions: RefCell::new(HashMap::new()),
            stream,
            mark,
            recording: RefCell::new(false),
            context,
        };
        for (source, code) in compile_all(sources, headers, &nvrtc::architecture(capability))? {
            // SAFETY: the code is a whole CUBIN; the driver copies it.
            let module = unsafe { result::module::load_data(code.as_ptr().cast()) };
            let module = module.map_err(|error| failed(format!("{}: {}", source.name, name_of(error))))?;
            opened.modules.insert(source.name, module);
        }
        Ok(opened)
    }

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
            let most = self.about.shared as i32 - fixed.map_err(wrong)?;
            result::function::set_function_attribute(
                function,
                CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                most,
            )
            .map_err(wrong)?;
        }
        self.functions.borrow_mut().insert(kernel.entry, function);
        Ok(function)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made by `open` and used by nobody else. What fails here is a dead context, which takes all with it.
            unsafe {
                settle(result::stream::synchronize(self.stream));
                self.modules.values().for_each(|module| settle(result::module::unload(*module)));
                settle(result::event::destroy(self.mark));
                settle(result::stream::destroy(self.stream));
            }
        }
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

/// Recorded work, ready to be launched.
#[derive(Debug)]
struct Recorded {
    graph: sys::CUgraph,
    ready: sys::CUgraphExec,
    stream: sys::CUstream,
    context: Arc<Context>,
}

// SAFETY: a graph is used by one thread at a time, which has made the context current.
unsafe impl Send for Recorded {}

impl Graph for Recorded {
    fn replay(&self) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: made by `record`; the device keeps the memory it works on, and its stream, as long as its graphs.
        unsafe { result::graph::launch(self.ready, self.stream) }.map_err(wrong)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made by `record`, destroyed once.
            unsafe {
                settle(result::graph::exec_destroy(self.ready));
                settle(result::graph::destroy(self.graph));
            }
        }
    }
}

impl Gpu for Driver {
    fn about(&self) -> &About {
        &self.about
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        self.context.enter()?;
        result::mem_get_info().map(|(free, _)| free).map_err(wrong)
    }

    fn allocate(&self, bytes: usize) -> Result<Memory, GpuError> {
        self.context.enter()?;
        let out_of_memory = |error: DriverError| {
            if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY { GpuError::Memory { bytes } } else { wrong(error) }
        };
        // SAFETY: the memory is owned by what is returned, and zeroed before anybody reads it.
        unsafe {
            let ptr = result::malloc_sync(bytes).map_err(out_of_memory)?;
            let memory = Memory::new(Ptr(ptr), bytes, Arc::clone(&self.context) as _);
            result::memset_d8_async(ptr, 0, bytes, self.stream).map_err(wrong)?;
            Ok(memory)
        }
    }

    fn staging(&self, bytes: usize) -> Result<Staging, GpuError> {
        self.context.enter()?;
        // Not write-combined: the results are read back through it.
        // SAFETY: the memory is owned by what is returned, and zeroed before anybody reads it.
        unsafe {
            let start = result::malloc_host(bytes, 0).map_err(wrong)?;
            let owner = Arc::new(Pinned(Arc::clone(&self.context)));
            start.cast::<u8>().write_bytes(0, bytes);
            Ok(Staging::new(Memory::new(Ptr(start as u64), bytes, owner)))
        }
    }

    fn upload(&self, to: Ptr, from: &Staging, bytes: usize) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the staging memory stays as it is until the work is done, as the trait asks.
        unsafe { result::memcpy_htod_async(to.0, &from.numbers::<u8>()[..bytes], self.stream) }.map_err(wrong)
    }

    fn download(&self, to: &mut Staging, from: Ptr, bytes: usize) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(&mut to.numbers_mut::<u8>()[..bytes], from.0, self.stream) }.map_err(wrong)
    }

    fn write(&self, to: Ptr, from: &[u8]) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the copy is over before this returns.
        unsafe { result::memcpy_htod_async(to.0, from, self.stream) }.map_err(wrong)?;
        self.synchronize()
    }

    fn read(&self, to: &mut [u8], from: Ptr) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(to, from.0, self.stream) }.map_err(wrong)?;
        self.synchronize()
    }

    fn copy(&self, to: Ptr, from: Ptr, bytes: usize) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the caller owns both.
        unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, self.stream) }.map_err(wrong)
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
        launched.map_err(|error| about(kernel.entry, error))
    }

    fn multiply(&self, product: &Product) -> Result<(), GpuError> {
        self.context.enter()?;
        self.products.multiply(product, *self.recording.borrow())
    }

    fn record(&self, work: Work<'_>) -> Result<Box<dyn Graph>, GpuError> {
        self.context.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours, and this thread ends the capture below.
        unsafe { result::stream::begin_capture(self.stream, mode) }.map_err(wrong)?;
        *self.recording.borrow_mut() = true;
        let done = work();
        *self.recording.borrow_mut() = false;
        // SAFETY: begun above. It is ended whatever the work says, so that the stream is whole again.
        let graph = unsafe { result::stream::end_capture(self.stream) };
        // What broke the work off is the reason; that the capture then failed, too, is not.
        let graph = done.and_then(|()| graph.map_err(wrong))?;
        // SAFETY: the graph was just made.
        match unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) } {
            Ok(ready) => {
                Ok(Box::new(Recorded { graph, ready, stream: self.stream, context: Arc::clone(&self.context) }))
            }
            Err(error) => {
                // SAFETY: made above, and nobody has it.
                settle(unsafe { result::graph::destroy(graph) });
                Err(wrong(error))
            }
        }
    }

    fn synchronize(&self) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }.map_err(wrong)
    }

    fn mark(&self) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: event and stream live as long as `self`.
        unsafe { result::event::record(self.mark, self.stream) }.map_err(wrong)
    }

    fn reach_mark(&self) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the event lives as long as `self`; one that was never recorded is over.
        unsafe { result::event::synchronize(self.mark) }.map_err(wrong)
    }

    fn time(&self, work: Work<'_>) -> Result<Duration, GpuError> {
        self.context.enter()?;
        let timer = Timer::new()?;
        timer.begin(self.stream)?;
        work()?;
        timer.end(self.stream)
    }
}

/// Two events around some work.
struct Timer([sys::CUevent; 2]);

impl Timer {
    fn new() -> Result<Self, GpuError> {
        let event = || result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map_err(wrong);
        Ok(Self([event()?, event()?]))
    }

    fn begin(&self, stream: sys::CUstream) -> Result<(), GpuError> {
        // SAFETY: event and stream are alive.
        unsafe { result::event::record(self.0[0], stream) }.map_err(wrong)
    }

    /// Waits for the work.
    fn end(&self, stream: sys::CUstream) -> Result<Duration, GpuError> {
        // SAFETY: as above; both events are recorded by now.
        let took = unsafe {
            result::event::record(self.0[1], stream).map_err(wrong)?;
            result::event::synchronize(self.0[1]).map_err(wrong)?;
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
    .map_err(wrong)?;
    Ok(took)
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        self.0.iter().for_each(|event| settle(unsafe { result::event::destroy(*event) }));
    }
}

/// Something was given back; where that fails nothing is left to do but to say so: it ends with the process.
fn settle<E: std::fmt::Display>(done: Result<(), E>) {
    if let Err(error) = done {
        tracing::debug!(%error, "something of the GPU was not given back");
    }
}

/// The driver's name of an error, which is what people search for.
fn name_of(error: DriverError) -> String {
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
            | CUresult::CUDA_ERROR_EXTERNAL_DEVICE
            | CUresult::CUDA_ERROR_UNKNOWN
    )
}

/// Another process has the GPU: for itself, or all of its memory.
fn is_busy(error: CUresult) -> bool {
    matches!(
        error,
        CUresult::CUDA_ERROR_OUT_OF_MEMORY
            | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUresult::CUDA_ERROR_INVALID_DEVICE
            | CUresult::CUDA_ERROR_CONTEXT_ALREADY_IN_USE
    )
}

fn wrong(error: DriverError) -> GpuError {
    if is_lost(error.0) { GpuError::Lost(name_of(error)) } else { GpuError::Failed(name_of(error)) }
}

fn about(entry: &str, error: DriverError) -> GpuError {
    match wrong(error) {
        GpuError::Lost(what) => GpuError::Lost(format!("{entry}: {what}")),
        GpuError::Failed(what) => GpuError::Failed(format!("{entry}: {what}")),
        memory @ GpuError::Memory { .. } => memory,
    }
}

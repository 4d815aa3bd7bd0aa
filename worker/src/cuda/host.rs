//! The seam on the processor: the kernels' own sources, compiled for the host as one shared library, and plain loops for
//! products. Slow, and for tests: it shows on any machine that the device does the right work in the right order.
//!
//! Every allocation ends at a page that may not be touched, or begins after one, so a kernel that leaves its memory is
//! found at once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use half::bf16;
use longhand_proto::clock;

use super::gpu::{
    Arg, DeviceProperties, Epilogue, Gemm, Gpu, GpuError, Graph, Kernel, Launch, Memory, OperandType, Ptr, Release,
    Staging, Work,
};
use crate::ops::fp8::e4m3_to_f32;

/// The one entry of the library: runs a kernel for all its blocks and threads, and gives null, or what went wrong.
/// `args[i]` is the address of argument i, as for `cuLaunchKernel`.
type Run = unsafe extern "C" fn(
    entry: *const c_char,
    grid: *const u32,
    block: *const u32,
    shared: u32,
    args: *mut *mut c_void,
    count: c_int,
) -> *const c_char;

/// Its name in the library.
const RUN: &CStr = c"longhand_run_kernel";

/// The kernels of a shared library.
#[derive(Debug)]
struct Kernels {
    library: libloading::Library,
}

impl Kernels {
    fn run(&self, op: &Op) -> Result<(), GpuError> {
        match op {
            Op::Launch { entry, launch, args } => self.launch(entry, *launch, args),
            Op::Gemm(gemm) => {
                gemm_reference(gemm);
                Ok(())
            }
            Op::Copy { to, from, bytes } => {
                // SAFETY: the caller owns both; a range that is too long meets the page behind it.
                unsafe { std::ptr::copy(from.0 as *const u8, to.0 as *mut u8, *bytes) };
                Ok(())
            }
            Op::Replay(ops) => ops.iter().try_for_each(|op| self.run(op)),
        }
    }

    fn launch(&self, entry: &CStr, launch: Launch, args: &[Arg]) -> Result<(), GpuError> {
        // SAFETY: the library was built for this signature; `Host::open` has found the symbol.
        let run = unsafe { self.library.get::<Run>(RUN.to_bytes_with_nul()) }.map_err(failed)?;
        let mut addresses: Vec<*mut c_void> = args.iter().map(Arg::address).collect();
        let Launch { grid, block, shared } = launch;
        // SAFETY: all pointers live until the call returns; the launcher vouches for the arguments.
        let error_text = unsafe {
            run(entry.as_ptr(), grid.as_ptr(), block.as_ptr(), shared, addresses.as_mut_ptr(), addresses.len() as c_int)
        };
        if error_text.is_null() {
            return Ok(());
        }
        // SAFETY: the library gives a text that stays until its next call.
        let error_text = unsafe { CStr::from_ptr(error_text) }.to_string_lossy();
        Err(GpuError::Failed(format!("{}: {error_text}", entry.to_string_lossy())))
    }
}

fn failed(error: impl std::fmt::Display) -> GpuError {
    GpuError::Failed(error.to_string())
}

#[derive(Debug, Clone)]
enum Op {
    Launch { entry: CString, launch: Launch, args: Vec<Arg> },
    Gemm(Gemm),
    Copy { to: Ptr, from: Ptr, bytes: usize },
    Replay(Arc<Vec<Op>>),
}

/// Work that is not done yet, and how much of it lies before the event. Shared with captured graphs.
#[derive(Debug, Default)]
struct Queue {
    /// Whether work waits until somebody waits for it; else it is done at once.
    late: bool,
    ops: VecDeque<Op>,
    event_at: usize,
}

impl Queue {
    fn add(&mut self, kernels: &Kernels, op: Op) -> Result<(), GpuError> {
        if !self.late {
            return kernels.run(&op);
        }
        self.ops.push_back(op);
        Ok(())
    }

    /// Does the first `count` of what waits.
    fn work(&mut self, kernels: &Kernels, count: usize) -> Result<(), GpuError> {
        self.event_at = self.event_at.saturating_sub(count);
        self.ops.drain(..count).try_for_each(|op| kernels.run(&op))
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Host {
    properties: DeviceProperties,
    kernels: Arc<Kernels>,
    queue: Arc<Mutex<Queue>>,
    /// What is being captured.
    captured: RefCell<Option<Vec<Op>>>,
    guard: Guard,
}

/// Which side of an allocation lies at a closed page, but for its alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    Before,
    After,
}

impl Host {
    /// `library`: what the kernels' host build made. `memory`: bytes that there are said to be.
    pub fn open(library: &Path, memory: usize) -> Result<Self, GpuError> {
        // SAFETY: the library is ours, and its initialisers do nothing that this process does not expect.
        let loaded = unsafe { libloading::Library::new(library) };
        let library = loaded.map_err(|error| failed(format!("{}: {error}", library.display())))?;
        // SAFETY: only looked for.
        unsafe { library.get::<Run>(RUN.to_bytes_with_nul()) }.map_err(failed)?;
        let properties = DeviceProperties {
            name: "host".into(),
            versions: "kernels compiled for this processor".into(),
            capability: (9, 0),
            // Few, so that small tests meet both full and empty GPUs.
            multiprocessors: 4,
            shared: 227 << 10,
            memory,
        };
        Ok(Self {
            properties,
            kernels: Arc::new(Kernels { library }),
            queue: Arc::default(),
            captured: RefCell::new(None),
            guard: Guard::After,
        })
    }

    /// Finds kernels that read or write before the start of their memory, in place of those that go past its end.
    pub fn guard_before(self) -> Self {
        Self { guard: Guard::Before, ..self }
    }

    /// Does nothing, copies included, before somebody waits for it, as a GPU that is far behind: whoever changes what is
    /// yet to be copied, or reads what was not, is found.
    pub fn late(self) -> Self {
        locked(&self.queue).late = true;
        self
    }

    fn run(&self, op: Op) -> Result<(), GpuError> {
        match &mut *self.captured.borrow_mut() {
            Some(ops) => {
                ops.push(op);
                Ok(())
            }
            None => locked(&self.queue).add(&self.kernels, op),
        }
    }
}

/// One thread uses a GPU; the lock is for the compiler.
fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Captured work.
#[derive(Debug)]
struct CapturedGraph {
    kernels: Arc<Kernels>,
    queue: Arc<Mutex<Queue>>,
    ops: Arc<Vec<Op>>,
}

impl Graph for CapturedGraph {
    fn replay(&self) -> Result<(), GpuError> {
        locked(&self.queue).add(&self.kernels, Op::Replay(Arc::clone(&self.ops)))
    }
}

impl Gpu for Host {
    fn properties(&self) -> &DeviceProperties {
        &self.properties
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        Ok(self.properties.memory)
    }

    fn allocate(&self, bytes: usize) -> Result<Memory, GpuError> {
        let pages = Pages::new(bytes, self.guard)?;
        Ok(Memory::new(Ptr(pages.start as u64), bytes, Arc::new(pages)))
    }

    fn staging(&self, bytes: usize) -> Result<Staging, GpuError> {
        self.allocate(bytes).map(Staging::new)
    }

    fn upload(&self, to: Ptr, from: &Staging, bytes: usize) -> Result<(), GpuError> {
        let from = Ptr(from.numbers::<u8>()[..bytes].as_ptr() as u64);
        locked(&self.queue).add(&self.kernels, Op::Copy { to, from, bytes })
    }

    fn download(&self, to: &mut Staging, from: Ptr, bytes: usize) -> Result<(), GpuError> {
        let to = Ptr(to.numbers_mut::<u8>()[..bytes].as_mut_ptr() as u64);
        locked(&self.queue).add(&self.kernels, Op::Copy { to, from, bytes })
    }

    fn write(&self, to: Ptr, from: &[u8]) -> Result<(), GpuError> {
        self.synchronize()?;
        // SAFETY: the caller owns the memory at `to`; a range that is too long meets the page behind it.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.0 as *mut u8, from.len()) };
        Ok(())
    }

    fn read(&self, to: &mut [u8], from: Ptr) -> Result<(), GpuError> {
        self.synchronize()?;
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(from.0 as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn copy(&self, to: Ptr, from: Ptr, bytes: usize) -> Result<(), GpuError> {
        self.run(Op::Copy { to, from, bytes })
    }

    fn launch(&self, kernel: &Kernel, launch: Launch, args: &[Arg]) -> Result<(), GpuError> {
        let entry = CString::new(kernel.entry).map_err(failed)?;
        self.run(Op::Launch { entry, launch, args: args.to_vec() })
    }

    fn gemm(&self, gemm: &Gemm) -> Result<(), GpuError> {
        self.run(Op::Gemm(*gemm))
    }

    fn capture(&self, work: Work<'_>) -> Result<Box<dyn Graph>, GpuError> {
        *self.captured.borrow_mut() = Some(Vec::new());
        let done = work();
        let ops = self.captured.borrow_mut().take().unwrap_or_default();
        done?;
        let (kernels, queue) = (Arc::clone(&self.kernels), Arc::clone(&self.queue));
        Ok(Box::new(CapturedGraph { kernels, queue, ops: Arc::new(ops) }))
    }

    fn synchronize(&self) -> Result<(), GpuError> {
        let mut queue = locked(&self.queue);
        let all = queue.ops.len();
        queue.work(&self.kernels, all)
    }

    fn record_event(&self) -> Result<(), GpuError> {
        let mut queue = locked(&self.queue);
        queue.event_at = queue.ops.len();
        Ok(())
    }

    fn wait_event(&self) -> Result<(), GpuError> {
        let mut queue = locked(&self.queue);
        let before = queue.event_at;
        queue.work(&self.kernels, before)
    }

    fn time(&self, work: Work<'_>) -> Result<Duration, GpuError> {
        let begin = clock::now();
        work()?;
        self.synchronize()?;
        Ok(begin.elapsed())
    }
}

/// The reference of every gemm.
fn gemm_reference(gemm: &Gemm) {
    let Gemm { rows, outputs, inputs, operands, weight, input, output, epilogue } = *gemm;
    let row = |at: Ptr, row: usize| -> Vec<f32> {
        let at = at.offset(row * inputs * operands.bytes()).0;
        // SAFETY: the caller says that these matrices are there; a wrong size meets the page behind one of them.
        unsafe {
            match operands {
                OperandType::Bf16 => {
                    std::slice::from_raw_parts(at as *const bf16, inputs).iter().map(|x| x.to_f32()).collect()
                }
                OperandType::E4m3 => {
                    std::slice::from_raw_parts(at as *const u8, inputs).iter().map(|x| e4m3_to_f32(*x)).collect()
                }
            }
        }
    };
    let input: Vec<Vec<f32>> = (0..rows).map(|at| row(input, at)).collect();
    for o in 0..outputs {
        let weight = row(weight, o);
        for (row, input) in input.iter().enumerate() {
            let sum = dot(&weight, input);
            let at = row * outputs + o;
            // SAFETY: inside the output, as the caller says.
            unsafe {
                match epilogue {
                    Epilogue::Bf16 => (output.0 as *mut bf16).add(at).write(bf16::from_f32(sum)),
                    Epilogue::F32 => (output.0 as *mut f32).add(at).write(sum),
                    Epilogue::AddF32 => *(output.0 as *mut f32).add(at) += sum,
                }
            }
        }
    }
}

/// In 16 sums, which the compiler turns into registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

/// Pages of this process, the first and the last one closed.
#[derive(Debug)]
struct Pages {
    map: usize,
    mapped: usize,
    /// First byte of the memory, as near to the closed page as its alignment lets it be.
    start: usize,
}

const PAGE: usize = 4096;
/// Vectors of 16 bytes are the widest access that kernels make; real allocations have 256.
const ALIGNMENT: usize = 16;

impl Pages {
    fn new(bytes: usize, guard: Guard) -> Result<Self, GpuError> {
        let open = bytes.next_multiple_of(PAGE);
        let mapped = open + 2 * PAGE;
        // SAFETY: a new mapping of its own, at no fixed address.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(GpuError::Memory { bytes });
        }
        let map = map as usize;
        for closed in [map, map + PAGE + open] {
            // SAFETY: the first and the last page of the mapping above.
            if unsafe { libc::mprotect(closed as *mut c_void, PAGE, libc::PROT_NONE) } != 0 {
                return Err(failed(std::io::Error::last_os_error()));
            }
        }
        let start = map + PAGE;
        let start = match guard {
            Guard::Before => start,
            Guard::After => start + open - bytes.next_multiple_of(ALIGNMENT),
        };
        Ok(Self { map, mapped, start })
    }
}

impl Release for Pages {
    /// The mapping goes with the last value that names it.
    fn release(&self, _: Ptr, _: usize) {}
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody has an address in it any more.
        unsafe { libc::munmap(self.map as *mut c_void, self.mapped) };
    }
}

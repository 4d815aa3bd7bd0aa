//! The seam below the CUDA device: memory, kernels, matrix products and graphs of one GPU, all in order on one stream.
//!
//! Two implementations: the CUDA driver, and the processor, where the same kernel sources run compiled for the host. All
//! that decides which kernel runs when on which memory stands above this line, so it is tested on machines without a GPU.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use half::bf16;

use crate::device::DeviceError;

/// A file of kernels, or a header that they include.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// File name, such as `norm.cu`.
    pub name: &'static str,
    /// The whole file.
    pub text: &'static str,
}

/// An entry point: `extern "C" __global__`. Its name is unique among all files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// The file that defines it.
    pub source: &'static Source,
    /// Its name.
    pub entry: &'static str,
}

/// How many blocks of how many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
}

impl Launch {
    /// A row of blocks of a row of threads each.
    pub fn new(blocks: usize, threads: u32) -> Self {
        Self { grid: [blocks as u32, 1, 1], block: [threads, 1, 1], shared: 0 }
    }
}

/// A kernel's argument, of the type that its parameter has.
#[derive(Debug, Clone, Copy)]
pub enum Arg {
    /// A pointer.
    Ptr(Ptr),
    /// `u32`
    U32(u32),
    /// `i32`
    I32(i32),
    /// `u64`
    U64(u64),
    /// `float`
    F32(f32),
}

impl Arg {
    /// Where its value lies, as `cuLaunchKernel` wants it; valid while `self` stays where it is.
    pub(crate) fn address(&self) -> *mut std::ffi::c_void {
        let address: *const std::ffi::c_void = match self {
            Self::Ptr(value) => (&raw const value.0).cast(),
            Self::U32(value) => (&raw const *value).cast(),
            Self::I32(value) => (&raw const *value).cast(),
            Self::U64(value) => (&raw const *value).cast(),
            Self::F32(value) => (&raw const *value).cast(),
        };
        address.cast_mut()
    }
}

macro_rules! arg_from {
    ($($type:ty => $variant:ident),*) => {
        $(impl From<$type> for Arg {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        })*
    };
}
arg_from!(Ptr => Ptr, u32 => U32, i32 => I32, u64 => U64, f32 => F32);

impl<T: Element> From<&Buffer<T>> for Arg {
    fn from(buffer: &Buffer<T>) -> Self {
        Self::Ptr(buffer.ptr())
    }
}

/// An address in the GPU's memory; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ptr(pub u64);

impl Ptr {
    /// No address.
    pub const NULL: Self = Self(0);

    /// The address `bytes` further on.
    pub fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// Numbers that may lie in a GPU's memory.
///
/// # Safety
/// Every pattern of bits is a value, and there is no padding.
pub unsafe trait Element: Copy + Default + Debug + Send + Sync + 'static {}
// SAFETY: plain numbers.
unsafe impl Element for u8 {}
// SAFETY: as above.
unsafe impl Element for u16 {}
// SAFETY: as above.
unsafe impl Element for u32 {}
// SAFETY: as above.
unsafe impl Element for i32 {}
// SAFETY: as above.
unsafe impl Element for u64 {}
// SAFETY: as above.
unsafe impl Element for f32 {}
// SAFETY: sixteen bits, each pattern a number or NaN.
unsafe impl Element for bf16 {}

/// The bytes of numbers.
pub fn bytes_of<T: Element>(numbers: &[T]) -> &[u8] {
    // SAFETY: `T` has no padding, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// The same for writing.
pub fn bytes_of_mut<T: Element>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and every pattern of bits is a `T`.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

/// Gives memory back to where it came from.
pub(crate) trait Release: Debug + Send + Sync {
    fn release(&self, ptr: Ptr, bytes: usize);
}

/// Memory of the GPU that frees itself.
#[derive(Debug)]
pub struct Memory {
    ptr: Ptr,
    bytes: usize,
    owner: Arc<dyn Release>,
}

impl Memory {
    pub(crate) fn new(ptr: Ptr, bytes: usize, owner: Arc<dyn Release>) -> Self {
        Self { ptr, bytes, owner }
    }

    /// Where it begins.
    pub fn ptr(&self) -> Ptr {
        self.ptr
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.owner.release(self.ptr, self.bytes);
    }
}

/// Numbers in the GPU's memory.
#[derive(Debug)]
pub struct Buffer<T> {
    memory: Memory,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// `len` zeros.
    pub fn new(gpu: &dyn Gpu, len: usize) -> Result<Self, GpuError> {
        let memory = gpu.allocate(len.max(1) * size_of::<T>())?;
        Ok(Self { memory, len, numbers: PhantomData })
    }

    /// The numbers, copied; waits for the copy.
    pub fn from_slice(gpu: &dyn Gpu, numbers: &[T]) -> Result<Self, GpuError> {
        let buffer = Self::new(gpu, numbers.len())?;
        gpu.write(buffer.ptr(), bytes_of(numbers))?;
        Ok(buffer)
    }

    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no number.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it begins.
    pub fn ptr(&self) -> Ptr {
        self.memory.ptr
    }

    /// Address of number `index`.
    pub fn at(&self, index: usize) -> Ptr {
        assert!(index <= self.len, "{index} is beyond the buffer's {}", self.len);
        self.memory.ptr.offset(index * size_of::<T>())
    }

    /// All its numbers; waits until everything before is done.
    pub fn to_vec(&self, gpu: &dyn Gpu) -> Result<Vec<T>, GpuError> {
        let mut numbers = vec![T::default(); self.len];
        gpu.read(bytes_of_mut(&mut numbers), self.ptr())?;
        Ok(numbers)
    }
}

/// Memory of the host that the GPU copies from and to by itself. Whoever fills or reads it waits for the GPU first.
#[derive(Debug)]
pub struct Staging {
    memory: Memory,
}

impl Staging {
    pub(crate) fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// As numbers; of a last one that does not fit, nothing.
    pub fn numbers<T: Element>(&self) -> &[T] {
        // SAFETY: host memory of this length, aligned for every `T` and zeroed at birth, that this value alone owns.
        unsafe { std::slice::from_raw_parts(self.memory.ptr.0 as *const T, self.memory.bytes / size_of::<T>()) }
    }

    /// The same for writing.
    pub fn numbers_mut<T: Element>(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.memory.ptr.0 as *mut T, self.memory.bytes / size_of::<T>()) }
    }
}

/// A matrix product, rows times the transpose of a weight: `output[row][o] = sum over i of input[row][i] * weight[o][i]`, summed in float32.
#[derive(Debug, Clone, Copy)]
pub struct Gemm {
    /// Rows of input and output.
    pub rows: usize,
    /// Numbers of an output row.
    pub outputs: usize,
    /// Numbers of an input row.
    pub inputs: usize,
    /// Of weight and input.
    pub operands: OperandType,
    /// `[outputs][inputs]`
    pub weight: Ptr,
    /// `[rows][inputs]`
    pub input: Ptr,
    /// `[rows][outputs]`
    pub output: Ptr,
    /// What becomes of the sums.
    pub epilogue: Epilogue,
}

/// Types of what a matrix product multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperandType {
    /// bf16 numbers.
    Bf16,
    /// Eight-bit floats, into [`Epilogue::F32`] only; from [`FP8_GPU`] on. Rows, outputs and inputs are multiples of 16.
    E4m3,
}

impl OperandType {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::E4m3 => 1,
        }
    }
}

/// The compute capability with which products of eight-bit floats came.
pub const FP8_GPU: (u32, u32) = (8, 9);

/// What becomes of a matrix product's sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Rounded to bf16.
    Bf16,
    /// Kept in float32.
    F32,
    /// Added to the float32 numbers that the output holds: the residual stream.
    AddF32,
}

/// What the driver says of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProperties {
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Versions of driver and libraries, in words.
    pub versions: String,
    /// Such as (9, 0).
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Most bytes of shared memory of one block.
    pub shared: u32,
    /// Bytes.
    pub memory: usize,
}

/// What went wrong below the seam.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// There is not as much memory.
    #[error("out of GPU memory: {bytes} bytes are not available")]
    Memory { bytes: usize },
    /// The GPU is gone for this process: a kernel went astray, the card fell off the bus.
    #[error("{0}")]
    Lost(String),
    /// The call failed; the GPU is well.
    #[error("{0}")]
    Failed(String),
}

impl From<GpuError> for DeviceError {
    fn from(error: GpuError) -> Self {
        match error {
            GpuError::Lost(what) => Self::Lost(what),
            GpuError::Memory { .. } | GpuError::Failed(_) => Self::Fault(error.to_string()),
        }
    }
}

/// Captured work.
pub trait Graph: Debug + Send {
    /// Does the work again, on the memory that it was captured with.
    fn replay(&self) -> Result<(), GpuError>;
}

/// Work to be captured or timed.
pub type Work<'a> = &'a mut dyn FnMut() -> Result<(), GpuError>;

/// One GPU. Work goes to one stream and is done in order, after the call has returned, unless the call says that it waits.
pub trait Gpu: Debug + Send {
    /// What the driver says of it.
    fn properties(&self) -> &DeviceProperties;

    /// Bytes of memory that nobody has.
    fn free_memory(&self) -> Result<usize, GpuError>;

    /// Zeroed memory, aligned to 256 bytes. May wait.
    fn allocate(&self, bytes: usize) -> Result<Memory, GpuError>;

    /// Zeroed host memory for [`Gpu::upload`] and [`Gpu::download`].
    fn staging(&self, bytes: usize) -> Result<Staging, GpuError>;

    /// Copies the first `bytes` of `from`, which stays as it is until [`Gpu::synchronize`].
    fn upload(&self, to: Ptr, from: &Staging, bytes: usize) -> Result<(), GpuError>;

    /// Copies into the first `bytes` of `to`, whose contents are known after [`Gpu::synchronize`].
    fn download(&self, to: &mut Staging, from: Ptr, bytes: usize) -> Result<(), GpuError>;

    /// Copies from memory of any kind, and waits.
    fn write(&self, to: Ptr, from: &[u8]) -> Result<(), GpuError>;

    /// Copies to memory of any kind, and waits for all work before.
    fn read(&self, to: &mut [u8], from: Ptr) -> Result<(), GpuError>;

    /// Copies from one place of the GPU's memory to another.
    fn copy(&self, to: Ptr, from: Ptr, bytes: usize) -> Result<(), GpuError>;

    /// Runs a kernel. Its launcher vouches for the arguments.
    fn launch(&self, kernel: &Kernel, launch: Launch, args: &[Arg]) -> Result<(), GpuError>;

    /// Multiplies. The first product of a shape times the ways of doing it, and waits, unless it is being captured.
    fn gemm(&self, gemm: &Gemm) -> Result<(), GpuError>;

    /// Captures what `work` launches and multiplies; nothing of it is done yet. Everything in it has been done before.
    fn capture(&self, work: Work<'_>) -> Result<Box<dyn Graph>, GpuError>;

    /// Waits until all work is done, and tells of errors in it.
    fn synchronize(&self) -> Result<(), GpuError>;

    /// Records the event after all work so far. There is one event; an earlier record is forgotten.
    fn record_event(&self) -> Result<(), GpuError>;

    /// Waits until all work before the event is done. Then it is as with [`Gpu::synchronize`] for what that work copied.
    fn wait_event(&self) -> Result<(), GpuError>;

    /// Does the work and waits; the time that it took on the GPU.
    fn time(&self, work: Work<'_>) -> Result<Duration, GpuError>;
}

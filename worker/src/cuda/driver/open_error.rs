//! Why there is no GPU to compute on.

use crate::cuda::nvrtc::CompileError;

/// Why a GPU cannot be used, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuOpenError {
    /// The driver's library is not found.
    #[error("no NVIDIA driver on this machine (libcuda.so.1 not found); install it, or use --device cpu")]
    NoDriver,
    /// The driver is older than the CUDA libraries, or than CUDA 12; `have` is as the driver counts, such as 12040.
    #[error(
        "the NVIDIA driver is too old: it serves CUDA {}.{}, and {need} is needed; install driver 580 or newer", have / 1000,
        have % 1000 / 10
    )]
    DriverTooOld { have: i32, need: String },
    /// The driver is there and sees no GPU.
    #[error(
        "the NVIDIA driver sees no GPU; look at `nvidia-smi`, and at CUDA_VISIBLE_DEVICES or the container's --gpus \
         option"
    )]
    NoDevice,
    /// GPUs are numbered from 0 to `found` - 1.
    #[error("no GPU {asked}: the driver sees {found}, numbered from 0; use --device cuda:N with a lower N")]
    NoSuchDevice { asked: u32, found: u32 },
    /// Older than compute capability 8.0.
    #[error(
        "{name} (compute capability {}.{}) is too old: bf16 arithmetic needs 8.0; use --device cpu", capability.0,
        capability.1
    )]
    GpuTooOld { name: String, capability: (u32, u32) },
    /// Another process has it, or all its memory.
    #[error(
        "GPU {ordinal} is busy: another process uses it exclusively, or all of its memory ({what}); `nvidia-smi` \
         shows which"
    )]
    Busy { ordinal: u32, what: String },
    /// A library of CUDA is not found.
    #[error(
        "the CUDA library {0} is missing; install CUDA 12 or 13 (from PyPI: nvidia-cublas), and add its folder to \
         LD_LIBRARY_PATH"
    )]
    NoLibrary(&'static str),
    /// The kernels do not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A call of the driver failed.
    #[error("GPU {ordinal} cannot be used: {what}")]
    Failed { ordinal: u32, what: String },
}

impl GpuOpenError {
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

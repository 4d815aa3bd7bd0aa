//! From kernel sources to machine code, by NVIDIA's run-time compiler. It needs its library, but no GPU.

use std::ffi::{CStr, CString};

use cudarc::nvrtc::{result, sys};

use super::gpu::Source;

/// Kernels that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The library is not found.
    #[error(
        "the CUDA run-time compiler is missing; install libnvrtc of CUDA 12 or 13 (from PyPI: nvidia-cuda-nvrtc), and \
         add its folder to LD_LIBRARY_PATH"
    )]
    Missing,
    /// A kernel does not compile.
    #[error("{source_name} does not compile for {architecture}: {log}")]
    Source { source_name: &'static str, architecture: String, log: String },
    /// The library is older than the GPU.
    #[error("the CUDA run-time compiler {version} does not know {architecture}; install a newer libnvrtc")]
    Architecture { architecture: String, version: String },
    /// Another call of it failed.
    #[error("the CUDA run-time compiler failed: {0}")]
    Failed(String),
}

/// Options beside the architecture. No fast math: the references would not hold.
const OPTIONS: [&str; 2] = ["--std=c++17", "--restrict"];

/// The name of a GPU's own machine code. From 9.0 on the features that only that generation has are asked for.
pub fn architecture((major, minor): (u32, u32)) -> String {
    format!("sm_{major}{minor}{}", if major >= 9 { "a" } else { "" })
}

/// Version of the library, such as (13, 0); none if it is not there.
pub fn version() -> Option<(u32, u32)> {
    // SAFETY: it only tries to load the library, and calls nothing else in it than its initialisers.
    if !unsafe { sys::is_culib_present() } {
        return None;
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there, and both pointers are to locals.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }.result().ok()?;
    Some((u32::try_from(major).ok()?, u32::try_from(minor).ok()?))
}

/// Compiles one file, with the headers that it may include, into a CUBIN.
pub fn compile(source: &Source, headers: &[&Source], architecture: &str) -> Result<Vec<u8>, CompileError> {
    let Some((major, minor)) = version() else { return Err(CompileError::Missing) };
    let program = Program::new(source, headers)?;
    let mut options = vec![format!("--gpu-architecture={architecture}")];
    options.extend(OPTIONS.map(str::to_owned));
    // SAFETY: the program lives until this function ends.
    match unsafe { result::compile_program(program.0, &options) } {
        Ok(()) => program.cubin(),
        Err(result::NvrtcError(sys::nvrtcResult::NVRTC_ERROR_INVALID_OPTION)) => Err(CompileError::Architecture {
            architecture: architecture.to_owned(),
            version: format!("{major}.{minor}"),
        }),
        Err(_) => Err(CompileError::Source {
            source_name: source.name,
            architecture: architecture.to_owned(),
            log: program.log(),
        }),
    }
}

/// A program of the compiler's, destroyed when it goes.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(source: &Source, headers: &[&Source]) -> Result<Self, CompileError> {
        let text = |text: &str| CString::new(text).map_err(|error| CompileError::Failed(error.to_string()));
        let (name, body) = (text(source.name)?, text(source.text)?);
        let names = headers.iter().map(|header| text(header.name)).collect::<Result<Vec<_>, _>>()?;
        let texts = headers.iter().map(|header| text(header.text)).collect::<Result<Vec<_>, _>>()?;
        let pointers = |list: &[CString]| list.iter().map(|text| text.as_ptr()).collect::<Vec<_>>();
        let (names_at, texts_at) = (pointers(&names), pointers(&texts));
        let mut program = std::ptr::null_mut();
        // SAFETY: all strings and lists live until the call ends, and the compiler copies them.
        let made = unsafe {
            sys::nvrtcCreateProgram(
                &raw mut program,
                body.as_ptr(),
                name.as_ptr(),
                headers.len() as i32,
                texts_at.as_ptr(),
                names_at.as_ptr(),
            )
        };
        made.result().map_err(failed)?;
        Ok(Self(program))
    }

    fn cubin(&self) -> Result<Vec<u8>, CompileError> {
        let mut size = 0;
        // SAFETY: the program is compiled, and the pointer is to a local.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &raw mut size) }.result().map_err(failed)?;
        let mut code = vec![0_u8; size];
        // SAFETY: the vector has the size that the compiler asked for.
        unsafe { sys::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast()) }.result().map_err(failed)?;
        Ok(code)
    }

    /// What the compiler has to say; it may be nothing.
    fn log(&self) -> String {
        // SAFETY: the program lives as long as `self`.
        let Ok(log) = (unsafe { result::get_program_log(self.0) }) else { return "no log".to_owned() };
        let bytes: Vec<u8> = log.into_iter().map(|byte| byte as u8).collect();
        let text = CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned());
        text.unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it is destroyed once.
        if let Err(error) = unsafe { result::destroy_program(self.0) } {
            tracing::debug!(%error, "a compiled program was not given back");
        }
    }
}

fn failed(error: result::NvrtcError) -> CompileError {
    CompileError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hopper_and_later_get_the_code_of_their_own_generation() {
        assert_eq!(architecture((8, 0)), "sm_80");
        assert_eq!(architecture((8, 9)), "sm_89");
        assert_eq!(architecture((9, 0)), "sm_90a");
        assert_eq!(architecture((10, 0)), "sm_100a");
    }
}

//! The kernels' own sources compiled for this processor, as the library that [`crate::cuda::host::Host`] runs. `host/shim.h`
//! says what stands in for a GPU.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::{env, fs, io};

use super::sources::{HEADERS, SOURCES};
use crate::cuda::gpu::Source;

static SHIM: [Source; 3] = [
    Source { name: "shim.h", text: include_str!("host/shim.h") },
    Source { name: "shim.cc", text: include_str!("host/shim.cc") },
    Source { name: "faulty.cu", text: include_str!("host/faulty.cu") },
];

/// Fused arithmetic would give other bits than the kernels ask for. An access of 16 bytes at no multiple of 16 is an error
/// on a GPU, so it is one here. Pragmas of CUDA's compiler mean nothing here.
const FLAGS: [&str; 12] = [
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-ffp-contract=off",
    "-fsanitize=alignment",
    "-fsanitize-undefined-trap-on-error",
    "-ftls-model=initial-exec",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-I.",
];

/// Why there is no library.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The compiler does not start.
    #[error("no C++ compiler ({compiler}: {source}): `make test-deps` installs g++; CXX names another one")]
    Compiler { compiler: String, source: io::Error },
    /// The compiler refuses a file.
    #[error("{compiler} does not compile the kernels for this processor:\n{log}")]
    Source { compiler: String, log: String },
    /// The file system does.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// The library, beside the program that asks; built when the sources are not those of the last time.
pub fn library() -> Result<PathBuf, HostError> {
    let program = env::current_exe().map_err(|source| HostError::File { path: PathBuf::from("."), source })?;
    build(program.parent().unwrap_or(Path::new(".")))
}

/// Builds it in `folder`, if it is not there.
fn build(folder: &Path) -> Result<PathBuf, HostError> {
    // The tests of a program ask all at once.
    static ONE: Mutex<()> = Mutex::new(());
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);

    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".into());
    let files = || SOURCES.iter().chain(&HEADERS).copied().chain(&SHIM);
    let mut hash = blake3::Hasher::new();
    hash.update(compiler.as_bytes());
    FLAGS.iter().for_each(|flag| {
        hash.update(flag.as_bytes());
    });
    files().for_each(|file| {
        hash.update(file.text.as_bytes());
    });
    let name = format!("longhand-kernels-{}", &hash.finalize().to_hex()[..16]);
    let library = folder.join(format!("{name}.so"));
    if library.exists() {
        return Ok(library);
    }
    let work = folder.join(format!("{name}.{}", std::process::id()));
    let file_error = |path: &Path| {
        let path = path.to_owned();
        |source| HostError::File { path, source }
    };
    fs::create_dir_all(&work).map_err(file_error(&work))?;
    for file in files() {
        let path = work.join(file.name);
        fs::write(&path, file.text).map_err(file_error(&path))?;
    }
    let units: Vec<&str> = SOURCES.iter().map(|source| source.name).chain(["shim.cc", "faulty.cu"]).collect();
    let mut running = Vec::new();
    for unit in &units {
        let args = ["-x", "c++", "-c", unit, "-o"].map(OsString::from).into_iter().chain([format!("{unit}.o").into()]);
        running.push(start(&compiler, &work, FLAGS.iter().map(OsString::from).chain(args))?);
    }
    running.into_iter().try_for_each(|unit| finish(&compiler, unit))?;
    let objects = units.iter().map(|unit| format!("{unit}.o").into());
    finish(
        &compiler,
        start(&compiler, &work, ["-shared", "-o", "library.so"].map(OsString::from).into_iter().chain(objects))?,
    )?;
    // In its place only when it is whole.
    fs::rename(work.join("library.so"), &library).map_err(file_error(&library))?;
    fs::remove_dir_all(&work).map_err(file_error(&work))?;
    Ok(library)
}

fn start(compiler: &str, folder: &Path, args: impl Iterator<Item = OsString>) -> Result<Child, HostError> {
    let mut command = Command::new(compiler);
    command.args(args).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(|source| HostError::Compiler { compiler: compiler.to_owned(), source })
}

fn finish(compiler: &str, child: Child) -> Result<(), HostError> {
    let output = child.wait_with_output();
    let output = output.map_err(|source| HostError::Compiler { compiler: compiler.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(HostError::Source { compiler: compiler.to_owned(), log })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::gpu::{Buffer, Gpu, GpuError, Kernel, Launch};
    use crate::cuda::host::Host;

    /// What one block of two warps of this kernel leaves in 64 numbers, zeros at first.
    fn run(gpu: &Host, entry: &'static str, launch: Launch) -> Result<Vec<u32>, GpuError> {
        let out = Buffer::<u32>::new(gpu, 64)?;
        gpu.launch(&Kernel { source: &SHIM[2], entry }, launch, &[(&out).into()])?;
        out.to_vec(gpu)
    }

    fn launch() -> Launch {
        Launch { shared: 256, ..Launch::new(1, 64) }
    }

    fn caught(gpu: &Host, entry: &'static str) -> String {
        match run(gpu, entry, launch()) {
            Ok(numbers) => panic!("{entry} was not caught: {numbers:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_kernel_that_leaves_its_memory_is_told_with_thread_and_block() {
        let library = library().unwrap();
        let after = Host::open(&library, 1 << 20).unwrap();
        assert_eq!(run(&after, "faulty_nothing", launch()), Ok((0..64).collect()));
        let outside = |error: &str, thread: &str| error.contains(thread) && error.contains("outside of every buffer");
        for entry in ["faulty_write_past_the_end", "faulty_shared_past_the_end"] {
            let error = caught(&after, entry);
            assert!(outside(&error, "thread 63 of block (0, 0, 0)"), "{entry}: {error}");
        }
        let error = caught(&after, "faulty_alignment");
        assert!(error.contains("no multiple"), "{error}");
        let before = Host::open(&library, 1 << 20).unwrap().guard_before();
        let error = caught(&before, "faulty_read_before_the_start");
        assert!(outside(&error, "thread 0 of block (0, 0, 0)"), "{error}");
        // And the next one is well again.
        assert_eq!(run(&before, "faulty_nothing", launch()), Ok((0..64).collect()));
    }

    #[test]
    fn threads_that_do_not_meet_are_an_error() {
        let gpu = Host::open(&library().unwrap(), 1 << 20).unwrap();
        for entry in ["faulty_barrier_missed", "faulty_barriers_apart", "faulty_exchange"] {
            let error = caught(&gpu, entry);
            assert!(error.contains("divergent barrier: thread"), "{entry}: {error}");
        }
    }

    #[test]
    fn what_was_not_waited_for_is_not_there() {
        let gpu = Host::open(&library().unwrap(), 1 << 20).unwrap();
        // Shared memory is all ones until the copy.
        assert_eq!(run(&gpu, "faulty_copy_not_waited_for", launch()), Ok(vec![u32::MAX; 64]));
        // The first block's second warp finds what the first one left; the first one does not.
        let raced = run(&gpu, "faulty_race", launch()).unwrap();
        assert_ne!(raced, (0..64).map(|at| at ^ 32).collect::<Vec<u32>>());
    }

    #[test]
    fn launches_that_a_gpu_refuses_are_refused() {
        let gpu = Host::open(&library().unwrap(), 1 << 20).unwrap();
        let error = |entry, launch| run(&gpu, entry, launch).unwrap_err().to_string();
        assert!(error("faulty_nothing", Launch::new(1, 65)).contains("whole warps"));
        assert!(error("faulty_nothing", Launch::new(1, 128)).contains("launch bounds"));
        assert!(error("faulty_nothing", Launch::new(0, 64)).contains("grid"));
        assert!(error("no_such_kernel", launch()).contains("no such kernel"));
        let out = Buffer::<u32>::new(&gpu, 64).unwrap();
        let kernel = Kernel { source: &SHIM[2], entry: "faulty_nothing" };
        let error = gpu.launch(&kernel, launch(), &[(&out).into(), 3_u32.into()]).unwrap_err().to_string();
        assert!(error.contains("it has 1 parameters, and 2 arguments"), "{error}");
    }
}

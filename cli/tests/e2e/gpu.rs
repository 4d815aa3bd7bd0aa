//! Machines without a usable GPU: the error message, and the fallback to the CPU with `--device auto`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::program::{Ended, longhand, model};

/// A fake driver, controlled by `FAKE_GPU`, and fakes of the two libraries whose versions are checked.
const DRIVER: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int is(const char *what) { const char *gpu = getenv("FAKE_GPU"); return gpu && strcmp(gpu, what) == 0; }
int cuDriverGetVersion(int *version) { *version = is("old driver") ? 11040 : is("older than libraries") ? 12040 : 13000; return 0; }
int cuInit(unsigned flags) { return is("none") ? 100 : 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int room, int device) { snprintf(name, room, "Imagined GPU"); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
  *value = which == 75 ? (is("old gpu") ? 7 : 9) : which == 76 ? (is("old gpu") ? 5 : 0) : 1;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { return 2; }
int cuGetErrorName(int error, const char **name) { *name = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = error == 2 ? "out of memory" : "error"; return 0; }
int nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 0; return 0; }
size_t cublasLtGetVersion(void) { return 130000; }
"#;

/// Folder with the fake libraries. `all`: those of CUDA in addition to the driver.
fn libraries(all: bool) -> PathBuf {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("driver.c");
        std::fs::write(&source, DRIVER).unwrap();
        for (part, names) in
            [("driver", &["libcuda.so.1"][..]), ("all", &["libcuda.so.1", "libnvrtc.so.13", "libcublasLt.so.13"][..])]
        {
            std::fs::create_dir(folder.path().join(part)).unwrap();
            for name in names {
                let library = folder.path().join(part).join(name);
                let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
                assert!(built.unwrap().success(), "cc builds {name}");
            }
        }
        folder
    });
    folder.path().join(if all { "all" } else { "driver" })
}

fn on(device: &str, libraries: &Path, gpu: &str) -> Ended {
    let out = tempfile::tempdir().unwrap();
    let input = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/instructions.jsonl");
    let mut command = longhand();
    command.args(["run", input, "--limit", "1", "--device", device, "--model"]).arg(model()).arg("-o").arg(out.path());
    command.env("LD_LIBRARY_PATH", libraries).env("FAKE_GPU", gpu);
    command.output().unwrap().into()
}

/// If the requested GPU is not usable, the error says why and what to do, and nothing is started.
#[test]
fn an_unusable_gpu_is_rejected_with_reason_and_remedy() {
    let (driver, all) = (libraries(false), libraries(true));
    let nowhere = tempfile::tempdir().unwrap();
    for (libraries, gpu, reason, remedy) in [
        (nowhere.path(), "", "no NVIDIA driver", "--device cpu"),
        (&driver, "old driver", "CUDA 11.4", "driver 580"),
        (&driver, "none", "sees no GPU", "CUDA_VISIBLE_DEVICES"),
        (&driver, "old gpu", "Imagined GPU (compute capability 7.5) is too old", "--device cpu"),
        (&driver, "fine", "run-time compiler is missing", "libnvrtc"),
        (&all, "older than libraries", "it serves CUDA 12.4, and CUDA 13.0", "driver 580"),
        (&all, "busy", "GPU 0 is busy", "nvidia-smi"),
    ] {
        let ended = on("cuda", libraries, gpu);
        assert_eq!(ended.code, Some(2), "{gpu}: {}", ended.stderr);
        assert!(ended.stderr.contains(reason) && ended.stderr.contains(remedy), "{gpu}: {}", ended.stderr);
    }
    let ended = on("cuda:3", &driver, "fine");
    assert!(ended.stderr.contains("no GPU 3") && ended.stderr.contains("--device cuda:N"), "{}", ended.stderr);
    let ended = on("gpu", &driver, "fine");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("expected auto, cpu, cuda"), "{}", ended.stderr);
}

/// With `--device auto`, one line says that the CPU is used.
#[test]
fn without_a_gpu_the_cpu_is_used_and_one_line_says_so() {
    let nowhere = tempfile::tempdir().unwrap();
    for (libraries, gpu, reason) in
        [(nowhere.path(), "", "no NVIDIA driver"), (&*libraries(true), "busy", "GPU 0 is busy")]
    {
        let mut command = longhand();
        command
            .args(["selftest", "--quick", "--device", "auto"])
            .env("LD_LIBRARY_PATH", libraries)
            .env("FAKE_GPU", gpu);
        let ended: Ended = command.output().unwrap().into();
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains("computing on the CPU") && ended.stderr.contains(reason), "{}", ended.stderr);
        assert!(
            ended.stdout.contains("ok      cpu (") && ended.stdout.contains("ok      logits of qwen 3"),
            "{}",
            ended.stdout
        );
    }
}

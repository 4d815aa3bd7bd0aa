//! What NVIDIA's compiler makes of the kernels, for each generation of GPUs: registers, spills, matrix instructions. It
//! needs NVIDIA's compiler and disassembler, but no GPU.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, mem, thread};

use super::sources::{HEADERS, SOURCES};
use crate::cuda::gpu::Source;
use crate::cuda::nvrtc;

const REMEDY: &str = "run `make test-deps`, which fetches NVIDIA's compiler and disassembler";

/// Ampere, Hopper, Blackwell.
const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90a", "sm_100a"];

/// Most registers of a thread, by what a kernel's name begins with; the first that fits. With 168 a multiprocessor holds
/// three blocks of prefill, with 80 two of those that choose; of decoding, shared memory holds two in any case. What only
/// streams wants to be many.
const REGISTERS: [(&str, usize); 4] = [("prefill_", 168), ("decode_", 192), ("sample_choose", 80), ("", 48)];

/// Where `make test-deps` puts NVIDIA's files.
fn fetched(file: &str) -> PathBuf {
    let cache = env::var_os("LONGHAND_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env::var_os("HOME").expect("HOME or LONGHAND_CACHE")).join(".cache/longhand"));
    cache.join("cuda/nvidia/cu13").join(file)
}

/// Loads the compiler from there. Whoever asks for it by its name afterwards gets this one.
fn load_compiler() {
    for name in ["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"] {
        let path = fetched("lib").join(name);
        if path.exists() {
            // SAFETY: the library's initialisers do nothing that this process does not expect.
            let library = unsafe { libloading::Library::new(&path) };
            mem::forget(library.unwrap_or_else(|error| panic!("{}: {error}; {REMEDY}", path.display())));
        }
    }
    assert!(nvrtc::version().is_some(), "no libnvrtc: {REMEDY}");
}

/// One kernel's machine code.
#[derive(Debug, Default)]
struct Code {
    registers: usize,
    /// Accesses of local memory: registers that did not fit.
    spills: usize,
    /// Products of matrices.
    matrix: usize,
}

/// Little-endian number of `bytes` bytes at `at`.
fn number(code: &[u8], at: usize, bytes: usize) -> usize {
    code[at..at + bytes].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Registers of each kernel, as the CUBIN (an ELF file) tells them to the driver.
fn registers(cubin: &[u8]) -> BTreeMap<String, usize> {
    const SYMBOLS: usize = 2;
    let (sections, count, names) = (number(cubin, 0x28, 8), number(cubin, 0x3c, 2), number(cubin, 0x3e, 2));
    let section = |index: usize| {
        let at = sections + index * 64;
        // Name, type, where it is, how long it is, the section that belongs to it.
        let [kind, link] = [at + 4, at + 40].map(|at| number(cubin, at, 4));
        let [start, len] = [at + 24, at + 32].map(|at| number(cubin, at, 8));
        (number(cubin, at, 4), kind, start, len, link)
    };
    let text = |at: usize| {
        let bytes: Vec<u8> = cubin[at..].iter().copied().take_while(|byte| *byte != 0).collect();
        String::from_utf8(bytes).unwrap()
    };
    let names = section(names).2;
    let symbols = (0..count).map(section).find(|section| section.1 == SYMBOLS).unwrap();
    let symbol = |index: usize| text(section(symbols.4).2 + number(cubin, symbols.2 + index * 24, 4));
    let mut registers = BTreeMap::new();
    for (name, _, start, len, _) in (0..count).map(section) {
        if text(names + name) != ".nv.info" {
            continue;
        }
        let mut at = start;
        while at < start + len {
            // Attributes: form, which one, and a short value or the length of a longer one.
            let (form, which, size) = (cubin[at], cubin[at + 1], number(cubin, at + 2, 2));
            if (form, which) == (4, 0x2f) {
                registers.insert(symbol(number(cubin, at + 4, 4)), number(cubin, at + 8, 4));
            }
            at += if form == 4 { 4 + size } else { 4 };
        }
    }
    registers
}

/// All kernels of a file.
fn kernels(source: &Source, architecture: &str) -> BTreeMap<String, Code> {
    let cubin = nvrtc::compile(source, &HEADERS, architecture).unwrap_or_else(|error| panic!("{error}"));
    let registers = registers(&cubin);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kernels.cubin");
    fs::write(&file, &cubin).unwrap();
    let found = fetched("bin/nvdisasm");
    let program = if found.exists() { found } else { PathBuf::from("nvdisasm") };
    let output = Command::new(&program).arg("-c").arg(&file).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}; {REMEDY}", program.display()));
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    let mut kernels: BTreeMap<String, Code> =
        registers.into_iter().map(|(name, registers)| (name, Code { registers, ..Code::default() })).collect();
    let mut current = None;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        if let Some((_, section)) = line.split_once(".section\t.text.") {
            current = section.split_once(',').map(|(name, _)| name.to_owned());
        } else if let Some(code) = current.as_ref().and_then(|name| kernels.get_mut(name)) {
            let has = |word: &str| line.split(|c: char| !c.is_ascii_alphanumeric()).any(|other| other == word);
            code.spills += usize::from(has("LDL") || has("STL"));
            code.matrix += usize::from(["HMMA", "HGMMA"].into_iter().any(has));
        }
    }
    kernels
}

#[test]
fn every_kernel_compiles_and_keeps_to_its_registers() {
    load_compiler();
    thread::scope(|scope| {
        for architecture in ARCHITECTURES {
            scope.spawn(move || {
                for source in SOURCES {
                    let kernels = kernels(source, architecture);
                    assert!(!kernels.is_empty(), "{}: no kernels for {architecture}", source.name);
                    for (name, code) in kernels {
                        let what = format!("{name} for {architecture}: {code:?}");
                        let (_, max) = REGISTERS.iter().find(|(start, _)| name.starts_with(start)).unwrap();
                        assert!((1..=*max).contains(&code.registers), "{what}, at most {max} registers");
                        assert_eq!(code.spills, 0, "{what}");
                        let attends = name.starts_with("prefill_") || name.starts_with("decode_");
                        let multiplies = attends && name != "decode_combine";
                        assert_eq!(code.matrix > 0, multiplies, "{what}");
                    }
                }
            });
        }
    });
}

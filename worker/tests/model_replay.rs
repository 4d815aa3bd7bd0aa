//! The readers of weight files against the fuzzer's corpus and mutations of it: a damaged download is an error, never a
//! crash.
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test that needs it")]

#[path = "../fuzz/checks.rs"]
mod checks;

use std::path::Path;

const ROUNDS: usize = 4000;

/// A fixed sequence of numbers without a pattern: xorshift64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "the corpus of {target} is gone");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Feeds the corpus and mutations of it; returns how many files were accepted.
fn replay(target: &str, check: fn(&[u8]) -> bool) -> usize {
    let corpus = corpus(target);
    let mut accepted = corpus.iter().filter(|file| check(file)).count();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..ROUNDS {
        let mut file = corpus[numbers.below(corpus.len())].clone();
        for _ in 0..=numbers.below(3) {
            if file.is_empty() {
                break;
            }
            let at = numbers.below(file.len());
            match numbers.below(5) {
                0 => file[at] ^= 1 << numbers.below(8),
                1 => file[at] = [0, 1, 0x7f, 0x80, 0xff][numbers.below(5)],
                2 => file.truncate(at),
                3 => file.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0xff),
                _ => {
                    let end = at + numbers.below(32).min(file.len() - at);
                    let piece = file[at..end].to_vec();
                    file.splice(at..at, piece);
                }
            }
        }
        accepted += usize::from(check(&file));
    }
    accepted
}

#[test]
fn damaged_gguf_files_are_errors() {
    let accepted = replay("gguf", checks::gguf);
    assert!(accepted > 0 && accepted < ROUNDS, "{accepted} files were accepted: the mutations test nothing");
}

#[test]
fn damaged_safetensors_files_are_errors() {
    let accepted = replay("safetensors", checks::safetensors);
    assert!(accepted > 0 && accepted < ROUNDS, "{accepted} files were accepted: the mutations test nothing");
}

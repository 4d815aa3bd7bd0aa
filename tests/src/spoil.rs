//! Inputs that somebody broke: good bytes in which a few were changed. A seed gives the same input again.

use std::ops::Range;

use longhand_proto::rng;

/// The seeds of a fuzz: as many as the test suite replays, or `LONGHAND_FUZZ_CASES` from `LONGHAND_FUZZ_SEED` on.
pub fn seeds(replayed: u64) -> Range<u64> {
    let setting =
        |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let first = setting("LONGHAND_FUZZ_SEED", 0);
    first..first + setting("LONGHAND_FUZZ_CASES", replayed)
}

/// One of these.
pub fn pick<'a>(from: &[&'a str]) -> &'a str {
    from[rng::below(from.len() as u64) as usize]
}

/// `good` with a few changes: `pieces` put in or in place of others, bytes cut out, doubled, repeated or altered.
pub fn spoiled(good: &[u8], pieces: &[&str]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=rng::below(6) {
        let at = rng::below(bytes.len() as u64 + 1) as usize;
        let end = at + rng::below((bytes.len() - at) as u64 + 1).min(40) as usize;
        match rng::below(7) {
            0 => drop(bytes.splice(at..at, pick(pieces).bytes())),
            1 => drop(bytes.splice(at..end, pick(pieces).bytes())),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => drop(bytes.splice(at..at, std::iter::repeat_n(b'[', rng::below(3_000) as usize))),
            5 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng::below(256) as u8;
                }
            }
        }
    }
    bytes
}

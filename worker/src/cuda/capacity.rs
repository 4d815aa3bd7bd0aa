//! How much one step may hold, and the lists of any length that end its inputs.

use super::gpu::bytes_of_mut;

/// Parts of inputs begin where vectors of 16 bytes may; in words.
pub(super) const ALIGNMENT: usize = 4;

/// How many of everything one step may have; rows and sequences padded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) rows: usize,
    pub(super) sequences: usize,
    /// Tokens of a sequence.
    pub(super) context: usize,
    pub(super) vocab: usize,
}

/// A batch whose lists are too long for one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CapacityExceeded;

/// Lists of any length, one after the other.
pub(super) struct Lists {
    pub(super) words: std::ops::Range<usize>,
    /// Where the next list goes.
    pub(super) next: usize,
}

impl Lists {
    /// Adds a list of whole words; gives its offset, counted from the first list.
    pub(super) fn add(&mut self, words: &mut [u32], list: &[u8]) -> Result<u32, CapacityExceeded> {
        let (start, end) = (self.next, self.next + list.len() / size_of::<u32>());
        if end > self.words.end {
            return Err(CapacityExceeded);
        }
        bytes_of_mut(&mut words[start..end]).copy_from_slice(list);
        self.next = end;
        Ok((start - self.words.start) as u32)
    }
}

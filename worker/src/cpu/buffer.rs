//! Zeroed memory, in huge pages where the system gives them: weights, keys and values, scratch.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use memmap2::MmapMut;

/// Types for which all-zero bytes are a value.
///
/// # Safety
/// Only for plain numbers and arrays or `repr(C)` structs of them.
pub(crate) unsafe trait Plain: Copy + Send + Sync + 'static {}
// SAFETY: plain numbers.
unsafe impl Plain for u8 {}
// SAFETY: plain numbers.
unsafe impl Plain for u16 {}
// SAFETY: plain numbers.
unsafe impl Plain for u32 {}
// SAFETY: plain numbers.
unsafe impl Plain for f32 {}
// SAFETY: an array of plain numbers.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// A fixed number of `T`, zero at first. The system gives the memory page by page as it is first written.
pub(crate) struct Buffer<T: Plain> {
    pages: MmapMut,
    len: usize,
    type_: PhantomData<T>,
}

impl<T: Plain> Buffer<T> {
    /// For sizes that follow from a model that is in memory already.
    pub(crate) fn new(len: usize) -> Self {
        Self::try_new(len).unwrap_or_else(|error| panic!("{len} x {} bytes: {error}", size_of::<T>()))
    }

    /// For sizes that a user asks for.
    pub(crate) fn try_new(len: usize) -> io::Result<Self> {
        let too_much = || io::Error::from(io::ErrorKind::OutOfMemory);
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(too_much)?;
        let pages = MmapMut::map_anon(bytes.max(1))?;
        #[cfg(target_os = "linux")]
        if bytes >= 2 << 20 {
            // Advice: where it is not taken, the pages stay small and the kernels a little slower.
            pages.advise(memmap2::Advice::HugePage).ok();
        }
        Ok(Self { pages, len, type_: PhantomData })
    }

    /// Mutable access from several threads, each to its own part.
    pub(crate) fn shared(&mut self) -> Shared<'_, T> {
        Shared::new(self)
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: pages are aligned for any of the types, hold `len` values, and were zero at first, which is a value.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Plain> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} x {} bytes)", self.len, size_of::<T>())
    }
}

/// A mutable slice that several threads write at the same time, each in ranges of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T> {
    start: NonNull<T>,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: all access goes through `part`, whose caller promises that ranges do not meet.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: NonNull::from(&mut *slice).cast(), len: slice.len(), life: PhantomData }
    }

    /// `count` values from `first`.
    ///
    /// # Safety
    /// As long as the result lives, no other thread may hold a part that overlaps it.
    #[inline]
    pub(crate) unsafe fn part(&self, first: usize, count: usize) -> &'a mut [T] {
        assert!(first + count <= self.len, "part {first}+{count} of {}", self.len);
        // SAFETY: within the slice; the caller vouches for exclusiveness.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(first), count) }
    }
}

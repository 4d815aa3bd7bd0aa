//! Zeroed memory on cache lines, in huge pages where the system gives them: weights, keys and values, scratch.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

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

const HUGE: usize = 2 << 20;

/// A fixed number of `T`, zero at first. Large buffers are touched (and so taken from the system) only when written.
pub(crate) struct Buffer<T: Plain> {
    start: NonNull<T>,
    len: usize,
    layout: Layout,
}

// SAFETY: the buffer owns its memory as `Box<[T]>` would.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: shared access gives shared slices only.
unsafe impl<T: Plain> Sync for Buffer<T> {}

impl<T: Plain> Buffer<T> {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = (len * size_of::<T>()).max(1);
        let align = if bytes >= HUGE { HUGE } else { 64 };
        let layout = Layout::from_size_align(bytes.next_multiple_of(align), align).expect("a buffer fits in memory");
        // SAFETY: the layout's size is not zero.
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(raw.cast::<T>()) else { handle_alloc_error(layout) };
        #[cfg(target_os = "linux")]
        if align == HUGE {
            // SAFETY: the range is ours. The call is advice: where it fails, the pages stay small.
            unsafe { libc::madvise(raw.cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        Self { start, len, layout }
    }

    /// Mutable access from several threads, each to its own part.
    pub(crate) fn shared(&mut self) -> Shared<'_, T> {
        Shared { start: self.start, len: self.len, life: std::marker::PhantomData }
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` values, initialised with zeros, of a type for which zeros are a value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
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
    life: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: all access goes through `part`, whose caller promises that ranges do not meet.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: NonNull::from(&mut *slice).cast(), len: slice.len(), life: std::marker::PhantomData }
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

//! AMX: products of small matrices in tile registers.
//!
//! Rust has no stable intrinsics for it, so each instruction is a line of assembly. The compiler itself never uses tile
//! registers, so what one line leaves in them is there for the next; a thread's tiles are its own.

use std::arch::asm;
use std::sync::LazyLock;

/// Rows of a tile at most.
pub(crate) const ROWS: usize = 16;

/// Bytes of a tile's row at most.
pub(crate) const ROW: usize = 64;

/// Whether the processor has tiles for bf16, and the system lets this process use them.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
        /// Leaf 7, register D: AMX-BF16, AMX-TILE.
        const FEATURES: u32 = 1 << 22 | 1 << 24;
        std::arch::x86_64::__cpuid_count(7, 0).edx & FEATURES == FEATURES && permitted()
    });
    *AVAILABLE
}

/// Linux saves the tiles of those processes only that ask; for threads started before as well.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a system call that touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Shapes of the eight tiles: rows, and bytes of a row.
#[repr(C, align(64))]
pub(crate) struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    pub(crate) const fn new(tiles: [(usize, usize); 8]) -> Self {
        let mut shapes = Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut tile = 0;
        while tile < tiles.len() {
            let (rows, bytes) = tiles[tile];
            assert!(rows <= ROWS && bytes <= ROW && bytes % 4 == 0);
            (shapes.rows[tile], shapes.row_bytes[tile]) = (rows as u8, bytes as u16);
            tile += 1;
        }
        shapes
    }

    /// Gives the tiles of this thread these shapes, and zeros.
    ///
    /// # Safety
    /// [`is_available`] said yes. [`release`] follows before the thread does anything else for long.
    #[inline(always)]
    pub(crate) unsafe fn set(&self) {
        // SAFETY: the caller vouches for the processor; the memory is 64 bytes of the layout that palette 1 has.
        unsafe { asm!("ldtilecfg [{0}]", in(reg) self, options(nostack, readonly, preserves_flags)) }
    }
}

/// Lets the system forget this thread's tiles.
///
/// # Safety
/// As of [`Shapes::set`].
#[inline(always)]
pub(crate) unsafe fn release() {
    // SAFETY: the caller vouches for the processor.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
}

/// Numbers that come out of tiles, or go into them: rows of tiles lie on whole cache lines.
#[repr(C, align(64))]
pub(crate) struct Lines<T>(pub(crate) T);

/// # Safety
/// As of [`load`], without the memory.
#[inline(always)]
pub(crate) unsafe fn zero<const T: u8>() {
    // SAFETY: the caller vouches for it.
    unsafe { asm!("tilezero tmm{0}", const T, options(nostack, nomem, preserves_flags)) }
}

/// Reads the rows of tile `T`, `stride` bytes apart.
///
/// # Safety
/// Shapes are set, with a shape for each tile named. All rows are there.
#[inline(always)]
pub(crate) unsafe fn load<const T: u8>(from: *const u8, stride: usize) {
    // SAFETY: the caller vouches for it.
    unsafe {
        asm!("tileloadd tmm{t}, [{from} + {stride}]", t = const T, from = in(reg) from, stride = in(reg) stride,
            options(nostack, readonly, preserves_flags));
    }
}

/// Writes the rows of tile `T`, `stride` bytes apart.
///
/// # Safety
/// As of [`load`].
#[inline(always)]
pub(crate) unsafe fn store<const T: u8>(to: *mut u8, stride: usize) {
    // SAFETY: the caller vouches for it.
    unsafe {
        asm!("tilestored [{to} + {stride}], tmm{t}", t = const T, to = in(reg) to, stride = in(reg) stride,
            options(nostack, preserves_flags));
    }
}

/// `sums[m][n] += a[m][2k] b[k][2n] + a[m][2k + 1] b[k][2n + 1]` over all k, in bf16 with sums in float32. A row of the
/// sums depends on its row of `a` alone.
///
/// # Safety
/// Shapes are set, and fit one another.
#[inline(always)]
pub(crate) unsafe fn dot_bf16<const SUMS: u8, const A: u8, const B: u8>() {
    // SAFETY: the caller vouches for it.
    unsafe {
        asm!("tdpbf16ps tmm{s}, tmm{a}, tmm{b}", s = const SUMS, a = const A, b = const B,
            options(nostack, nomem, preserves_flags));
    }
}

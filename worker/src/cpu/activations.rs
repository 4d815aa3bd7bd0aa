//! Rows on their way into a matrix: quantised to bytes per 32 inputs, or as they are, eight rows interleaved so that
//! the kernels find them at fixed distances.

use super::blocks::RUN;
use super::buffer::{Buffer, Plain};
use crate::ops::vector::{LANES, Vector};

/// Rows that one kernel call multiplies at most.
pub(crate) const GROUP: usize = 8;

/// Eight rows of 32 inputs. Row r is `q[r] * scale[r]`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct ActivationRun {
    pub(crate) q: [[i8; RUN]; GROUP],
    pub(crate) scale: [f32; GROUP],
    /// Sum of the row's 32 numbers times its scale: what a minimum is multiplied by.
    pub(crate) sum: [f32; GROUP],
    /// The same for each 16.
    pub(crate) halves: [[f32; GROUP]; 2],
}

// SAFETY: plain numbers, no padding that is read.
unsafe impl Plain for ActivationRun {}

/// One input of eight rows.
pub(crate) type Dense = [f32; GROUP];

/// Which forms the next matrices need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Forms {
    pub(crate) quantised: bool,
    pub(crate) dense: bool,
}

impl Forms {
    pub(crate) fn and(self, other: Self) -> Self {
        Self { quantised: self.quantised | other.quantised, dense: self.dense | other.dense }
    }
}

/// Rows of one width in the forms they are needed in.
#[derive(Debug)]
pub(crate) struct Activations {
    pub(crate) width: usize,
    pub(crate) forms: Forms,
    /// `[group][run]`
    pub(crate) runs: Buffer<ActivationRun>,
    /// `[group][input]`
    pub(crate) dense: Buffer<Dense>,
}

impl Activations {
    pub(crate) fn new(rows: usize, width: usize, forms: Forms) -> Self {
        let groups = rows.div_ceil(GROUP);
        Self {
            width,
            forms,
            runs: Buffer::new(if forms.quantised { groups * width / RUN } else { 0 }),
            dense: Buffer::new(if forms.dense { groups * width } else { 0 }),
        }
    }

    /// Where threads put rows, each its own groups.
    pub(crate) fn sink(&mut self) -> Sink<'_> {
        Sink { width: self.width, forms: self.forms, runs: self.runs.shared(), dense: self.dense.shared() }
    }
}

/// Write access to [`Activations`] from several threads.
#[derive(Clone, Copy)]
pub(crate) struct Sink<'a> {
    pub(crate) width: usize,
    forms: Forms,
    runs: super::buffer::Shared<'a, ActivationRun>,
    dense: super::buffer::Shared<'a, Dense>,
}

impl Sink<'_> {
    /// Stores inputs `first..first + values.len()` of a row; both multiples of 32.
    ///
    /// # Safety
    /// No other thread may write these inputs of any row of the same group of eight.
    #[inline(always)]
    pub(crate) unsafe fn put<V: Vector>(&self, row: usize, first: usize, values: &[f32]) {
        let (group, lane) = (row / GROUP, row % GROUP);
        if self.forms.quantised {
            // SAFETY: the caller vouches for it.
            let runs = unsafe { self.runs.part((group * self.width + first) / RUN, values.len() / RUN) };
            for (run, values) in runs.iter_mut().zip(values.chunks_exact(RUN)) {
                quantise::<V>(run, lane, values);
            }
        }
        if self.forms.dense {
            // SAFETY: the caller vouches for it.
            let dense = unsafe { self.dense.part(group * self.width + first, values.len()) };
            for (dense, &value) in dense.iter_mut().zip(values) {
                dense[lane] = value;
            }
        }
    }
}

#[inline(always)]
fn quantise<V: Vector>(run: &mut ActivationRun, lane: usize, values: &[f32]) {
    let halves = [V::load(values), V::load(&values[LANES..])];
    let max = halves[0].max_abs(halves[1]);
    // A NaN must not get lost here: it makes the scale.
    let (scale, inverse) = if max > 0.0 { (max / 127.0, 127.0 / max) } else { (max, 0.0) };
    let mut sums = [0.0; 2];
    for (half, values) in halves.into_iter().enumerate() {
        sums[half] = values.mul(V::splat(inverse)).store_i8(&mut run.q[lane][half * LANES..]) as f32;
        run.halves[half][lane] = sums[half] * scale;
    }
    run.scale[lane] = scale;
    run.sum[lane] = (sums[0] + sums[1]) * scale;
}

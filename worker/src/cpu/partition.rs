//! Matrices cut into tiles, tiles spread over threads.

use std::ops::Range;

use super::activations::GROUP;
use super::matrix::Matrix;
use super::pool::{self, Pool};

/// Groups of rows that are multiplied with all tiles of a chunk before the next ones: 128 rows stay in the cache.
const ROW_BLOCK: usize = 16;

/// Weights that the same rows are multiplied with, in units of tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TileRange<'a> {
    /// One tile after the other, one matrix after the other.
    Each(&'a [Matrix]),
    /// Two tiles of each: 32 outputs of both, which make one run of the rows that come of them.
    Pairs(&'a Matrix, &'a Matrix),
    /// One tile after the other of matrices of one shape: the experts that a step needs.
    Experts(&'a [&'a Matrix]),
    /// The same two tiles at a time.
    ExpertPairs(&'a [[&'a Matrix; 2]]),
}

impl<'a> TileRange<'a> {
    fn units(self) -> usize {
        match self {
            Self::Each(matrices) => matrices.iter().map(Matrix::tiles).sum(),
            Self::Pairs(first, _) => first.tiles().div_ceil(2),
            Self::Experts(matrices) => matrices.iter().map(|matrix| matrix.tiles()).sum(),
            Self::ExpertPairs(pairs) => pairs.iter().map(|[first, _]| first.tiles().div_ceil(2)).sum(),
        }
    }

    fn unit_bytes(self) -> usize {
        match self {
            Self::Each(matrices) => matrices[0].tile_bytes(),
            Self::Pairs(first, second) | Self::ExpertPairs(&[[first, second], ..]) => {
                2 * (first.tile_bytes() + second.tile_bytes())
            }
            Self::Experts(matrices) => matrices.first().map_or(1, |matrix| matrix.tile_bytes()),
            Self::ExpertPairs([]) => 1,
        }
    }

    /// Index of the matrix (of experts: of the expert), matrix and tile that come as number `at` of a unit.
    pub(crate) fn tile(self, unit: usize, at: usize) -> Option<(usize, &'a Matrix, usize)> {
        match self {
            Self::Each(matrices) => {
                let mut tile = unit;
                for (part, matrix) in matrices.iter().enumerate() {
                    if tile < matrix.tiles() {
                        return Some((part, matrix, tile));
                    }
                    tile -= matrix.tiles();
                }
                None
            }
            Self::Pairs(first, second) => {
                let (part, tile) = (at / 2, unit * 2 + at % 2);
                let matrix = [first, second][part];
                (tile < matrix.tiles()).then_some((part, matrix, tile))
            }
            Self::Experts(matrices) => {
                let tiles = matrices.first()?.tiles();
                let index = unit / tiles;
                Some((index, *matrices.get(index)?, unit % tiles))
            }
            Self::ExpertPairs(pairs) => {
                let units = pairs.first()?[0].tiles().div_ceil(2);
                let (index, tile) = (unit / units, unit % units * 2 + at % 2);
                let matrix = pairs.get(index)?[at / 2];
                (tile < matrix.tiles()).then_some((index, matrix, tile))
            }
        }
    }
}

/// How a range's units are spread over threads.
struct Partition<'a> {
    range: TileRange<'a>,
    units: usize,
    per_chunk: usize,
    threads: usize,
}

impl<'a> Partition<'a> {
    fn new(range: TileRange<'a>, groups: usize, threads: usize) -> Self {
        let units = range.units();
        // About 1 us of reading or multiplying at least; four chunks a thread even out what else runs on the machine.
        let least = (24 << 10) / (range.unit_bytes() * groups).max(1) + 1;
        Self { range, units, per_chunk: units.div_ceil(4 * threads).max(least).min(units.max(1)), threads }
    }

    fn chunks(&self) -> usize {
        self.units.div_ceil(self.per_chunk)
    }

    fn chunk(&self, chunk: usize) -> Range<usize> {
        chunk * self.per_chunk..self.units.min((chunk + 1) * self.per_chunk)
    }

    /// What a thread does unless others are faster.
    fn work_range(&self, thread: usize) -> Range<usize> {
        let chunks = pool::work_range(self.chunks(), thread, self.threads);
        self.chunk(chunks.start).start..self.units.min(chunks.end * self.per_chunk)
    }
}

/// A unit that a thread will come to soon.
#[derive(Clone, Copy)]
pub(crate) struct Prefetch<'a>(Option<(TileRange<'a>, usize)>);

impl Prefetch<'_> {
    /// The unit's tile number `at`, to be fetched while a tile meets its first group of rows.
    pub(crate) fn tile(self, at: usize, group: usize) -> *const u8 {
        let found = self.0.filter(|_| group == 0).and_then(|(range, unit)| range.tile(unit, at));
        found.map_or(std::ptr::null(), |(_, matrix, tile)| matrix.tile(tile).as_ptr())
    }
}

/// Calls `each(unit, groups, prefetch)` for all units of the first range and all groups of rows, in chunks that are worth a
/// thread's while. A thread that comes to the end of its work prefetches what it will do of the second range.
pub(crate) fn for_tiles(
    pool: &mut Pool,
    [range, next]: [TileRange<'_>; 2],
    rows: usize,
    each: &(dyn Fn(usize, Range<usize>, Prefetch<'_>) + Sync),
) {
    let (groups, threads) = (rows.div_ceil(GROUP), pool.threads());
    let (partition, next) = (Partition::new(range, groups, threads), Partition::new(next, groups, threads));
    // What memory gives while it is waited for.
    let distance = (16 << 10) / range.unit_bytes() + 1;
    let chunks = partition.chunks();
    pool.run(chunks, &|chunk| {
        let thread = ((chunk + 1) * threads - 1) / chunks;
        let (mine, after) = (partition.work_range(thread), next.work_range(thread));
        for first in (0..groups).step_by(ROW_BLOCK) {
            for unit in partition.chunk(chunk) {
                let later = unit + distance;
                let prefetch = match later.checked_sub(mine.end) {
                    None => Some((range, later)),
                    Some(over) => Some((next.range, after.start + over)).filter(|(_, unit)| *unit < after.end),
                };
                each(unit, first..groups.min(first + ROW_BLOCK), Prefetch(prefetch));
            }
        }
    });
}

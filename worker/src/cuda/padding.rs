//! Sizes of batches that work is done in. A batch is padded to the next of them, so that matrix products are timed, and
//! steps recorded, for a few dozen sizes and not for a thousand.

/// Up to here by fp8_rows: decoding, where a row too many costs bandwidth.
const FINE: usize = 256;
/// From there on by this: prompts, where the GPU computes in tiles as large.
const COARSE: usize = 64;

/// The size that `rows` rows are padded to.
pub(super) fn padded(rows: usize) -> usize {
    match rows {
        0..=2 => rows.max(1),
        3..=4 => 4,
        5..=FINE => rows.next_multiple_of(8),
        _ => rows.next_multiple_of(COARSE),
    }
}

/// All sizes for up to `max` rows, the smallest first.
pub(super) fn sizes(max: usize) -> impl Iterator<Item = usize> {
    let mut next = 1;
    std::iter::from_fn(move || {
        let size = padded(next);
        (next <= max).then(|| {
            next = size + 1;
            size
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_batch_finds_its_size_among_those_that_were_prepared() {
        assert_eq!(sizes(40).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 24, 32, 40]);
        assert_eq!(sizes(41).last(), Some(48));
        assert_eq!(sizes(300).last(), Some(320));
        for max in [1, 3, 100, 1280] {
            let sizes: Vec<usize> = sizes(max).collect();
            for rows in 1..=max {
                assert!(padded(rows) >= rows && sizes.contains(&padded(rows)), "{rows} of {max}");
            }
        }
    }
}

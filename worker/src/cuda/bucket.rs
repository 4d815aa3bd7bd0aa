//! Sizes of batches that work is done in. A batch is filled up to the next of them, so that matrix products are timed, and
//! steps recorded, for a few dozen sizes and not for a thousand.

/// Up to here by eights: decoding, where a row too many costs bandwidth.
const FINE: usize = 256;
/// From there on by this: prompts, where the GPU computes in tiles as large.
const COARSE: usize = 64;

/// The size that `rows` rows are filled up to.
pub(super) fn fit(rows: usize) -> usize {
    match rows {
        0..=2 => rows.max(1),
        3..=4 => 4,
        5..=FINE => rows.next_multiple_of(8),
        _ => rows.next_multiple_of(COARSE),
    }
}

/// All sizes for up to `most` rows, the smallest first.
pub(super) fn all(most: usize) -> impl Iterator<Item = usize> {
    let mut next = 1;
    std::iter::from_fn(move || {
        let size = fit(next);
        (next <= most).then(|| {
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
        assert_eq!(all(40).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 24, 32, 40]);
        assert_eq!(all(41).last(), Some(48));
        assert_eq!(all(300).last(), Some(320));
        for most in [1, 3, 100, 1280] {
            let sizes: Vec<usize> = all(most).collect();
            for rows in 1..=most {
                assert!(fit(rows) >= rows && sizes.contains(&fit(rows)), "{rows} of {most}");
            }
        }
    }
}

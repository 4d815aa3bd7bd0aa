//! Who gets the next slots when several runs wait.

/// A run as leasing sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) priority: u32,
    /// Documents in work.
    pub(super) leased: u64,
    /// Documents that may be leased now.
    pub(super) ready: u64,
}

/// Slots for each run, in the order given (oldest first): the highest priority takes what it can use; among equals each
/// slot goes to the one with the fewest documents in work.
pub(super) fn share(runs: &[Waiting], slots: usize) -> Vec<usize> {
    let mut given = vec![0; runs.len()];
    for _ in 0..slots {
        let open = (0..runs.len()).filter(|&run| (given[run] as u64) < runs[run].ready);
        let Some(next) = open.min_by_key(|&run| {
            let Waiting { priority, leased, .. } = runs[run];
            (std::cmp::Reverse(priority), leased + given[run] as u64, run)
        }) else {
            break;
        };
        given[next] += 1;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(priority: u32, leased: u64, ready: u64) -> Waiting {
        Waiting { priority, leased, ready }
    }

    #[test]
    fn equal_runs_come_to_hold_equally_much_and_a_higher_one_goes_first() {
        assert_eq!(share(&[waiting(0, 0, 9), waiting(0, 0, 9)], 4), [2, 2]);
        assert_eq!(share(&[waiting(0, 5, 9), waiting(0, 2, 9)], 5), [1, 4]);
        assert_eq!(share(&[waiting(0, 0, 9), waiting(1, 8, 3)], 4), [1, 3]);
        assert_eq!(share(&[waiting(0, 0, 1), waiting(0, 0, 9)], 1), [1, 0], "the older one first");
    }

    #[test]
    fn no_slot_is_left_empty_while_anything_waits() {
        assert_eq!(share(&[waiting(0, 0, 1), waiting(0, 7, 9), waiting(3, 0, 0)], 6), [1, 5, 0]);
        assert_eq!(share(&[waiting(0, 0, 1)], 6), [1]);
        assert_eq!(share(&[], 6), Vec::<usize>::new());
    }
}

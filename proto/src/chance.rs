//! The only place that draws random numbers that are not part of a text: ids, jitter, who is asked first. A simulation
//! seeds it, and then the same seed tells the same history.

use std::cell::RefCell;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

thread_local! {
    /// Set by a simulation, which runs on one thread.
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// From now on this thread draws from a generator with this seed.
pub fn seed(seed: u64) {
    SEEDED.with_borrow_mut(|seeded| *seeded = Some(StdRng::seed_from_u64(seed)));
}

fn with<T>(draw: impl FnOnce(&mut dyn RngCore) -> T) -> T {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(random) => draw(random),
        None => draw(&mut rand::rng()),
    })
}

/// 16 random bytes: an id that nobody can guess.
pub fn bytes() -> [u8; 16] {
    with(|random| {
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        bytes
    })
}

/// At least 0 and below 1.
pub fn unit() -> f64 {
    with(|random| random.random())
}

/// A whole number below `end`; 0 if there is none.
pub fn below(end: u64) -> u64 {
    with(|random| if end == 0 { 0 } else { random.random_range(0..end) })
}

/// Between nothing and `bound`: full jitter.
pub fn up_to(bound: Duration) -> Duration {
    bound.mul_f64(unit())
}

/// Between half of `mean` and one and a half, so that replicas do not go in step.
pub fn around(mean: Duration) -> Duration {
    mean.mul_f64(0.5 + unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_no_seed_draws_anew() {
        let draw = || (bytes(), below(1 << 40), unit().to_bits());
        assert_ne!(draw(), draw());
        seed(7);
        let first = draw();
        seed(7);
        assert_eq!(draw(), first);
        assert_ne!(draw(), first);
    }
}

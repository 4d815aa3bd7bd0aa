//! The only source of random numbers outside the sampler: ids, jitter, the order in which replicas are tried. A
//! simulation seeds it per thread, so that a seed reproduces a run.

use std::cell::RefCell;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

thread_local! {
    /// Set by a simulation, which runs on one thread.
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Makes this thread draw from a generator with this seed from now on.
pub fn seed(seed: u64) {
    SEEDED.with_borrow_mut(|seeded| *seeded = Some(StdRng::seed_from_u64(seed)));
}

fn with<T>(draw: impl FnOnce(&mut dyn RngCore) -> T) -> T {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(random) => draw(random),
        None => draw(&mut rand::rng()),
    })
}

/// 16 random bytes: an id that cannot be guessed.
pub fn bytes() -> [u8; 16] {
    with(|random| {
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        bytes
    })
}

/// Uniform in `[0, 1)`.
pub fn unit() -> f64 {
    with(|random| random.random())
}

/// Uniform in `0..end`; 0 if `end` is 0.
pub fn below(end: u64) -> u64 {
    with(|random| if end == 0 { 0 } else { random.random_range(0..end) })
}

/// Uniform between zero and `bound`: full jitter.
pub fn up_to(bound: Duration) -> Duration {
    bound.mul_f64(unit())
}

/// Uniform between half of `mean` and one and a half times `mean`, so that replicas do not run in step.
pub fn around(mean: Duration) -> Duration {
    mean.mul_f64(0.5 + unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_reproduces_its_draws_and_unseeded_draws_differ() {
        let draw = || (bytes(), below(1 << 40), unit().to_bits());
        assert_ne!(draw(), draw());
        seed(7);
        let first = draw();
        seed(7);
        assert_eq!(draw(), first);
        assert_ne!(draw(), first);
    }
}

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

/// Numbers that their seed alone decides, in every version of the program: a draw that is to be made again must not change
/// with a library's generator. SplitMix64.
#[derive(Debug, Clone)]
pub struct Sequence(u64);

impl Sequence {
    /// The numbers of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub const fn unit(&mut self) -> f64 {
        /// What a float holds exactly.
        const BITS: u32 = 53;
        (self.next_u64() >> (64 - BITS)) as f64 / (1_u64 << BITS) as f64
    }

    /// Uniform in `0..end`, up to a bias of `end` in 2^64; 0 if `end` is 0.
    pub const fn below(&mut self, end: usize) -> usize {
        ((self.next_u64() as u128 * end as u128) >> 64) as usize
    }

    /// Puts the items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_the_published_one_and_its_draws_are_in_range() {
        let mut sequence = Sequence::new(1_234_567);
        let first = [sequence.next_u64(), sequence.next_u64(), sequence.next_u64()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        let mut counts = [0; 5];
        for _ in 0..5_000 {
            counts[sequence.below(5)] += 1;
            assert!((0.0..1.0).contains(&sequence.unit()));
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert_eq!(sequence.below(0), 0);
        let mut items: Vec<usize> = (0..50).collect();
        sequence.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }

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

//! The fast selections against a full sort, and the random numbers against their published vectors.

use std::sync::Arc;

use longhand_proto::task::Sampling;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn params(sampling: Sampling, position: u32) -> SampleParams {
    let key = RngKey { seed: 7, stream: 0x1234_5678_9abc_def0 };
    SampleParams { sampling, key, position, penalised: Vec::new(), bias: Vec::new(), mask: None }
}

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

/// The definition, word by word: sort everything, cut, draw from the cumulative sum.
fn kept_by_definition(logits: &[f32], sampling: &Sampling) -> Vec<(u32, f64)> {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weight = |logit: f32| ((f64::from(logit) - max) / f64::from(sampling.temperature)).exp();
    let mut all: Vec<(u32, f64)> = logits.iter().enumerate().map(|(id, logit)| (id as u32, weight(*logit))).collect();
    all.retain(|(_, weight)| *weight > 0.0);
    all.sort_by(|a, b| logits[b.0 as usize].total_cmp(&logits[a.0 as usize]).then(a.0.cmp(&b.0)));
    if sampling.top_k > 0 {
        all.truncate(sampling.top_k as usize);
    }
    let total: f64 = all.iter().map(|(_, weight)| weight).sum();
    let mut sum = 0.0;
    let mut count = all.len();
    for (index, (_, weight)) in all.iter().enumerate() {
        sum += weight;
        if sampling.top_p < 1.0 && sum >= f64::from(sampling.top_p) * total {
            count = index + 1;
            break;
        }
    }
    all.truncate(count);
    all.retain(|(_, weight)| *weight >= f64::from(sampling.min_p));
    all
}

#[test]
fn philox_gives_the_published_vectors() {
    assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    assert_eq!(philox(pi, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
}

#[test]
fn temperature_zero_takes_the_greatest_and_of_equals_the_lowest_id() {
    let mut logits = vec![0.0; 1000];
    (logits[700], logits[41], logits[999]) = (3.0, 3.0, 3.0);
    assert_eq!(Sampler::default().sample(&mut logits, &params(greedy(), 0)), Ok(41));
}

#[test]
fn selections_keep_exactly_what_a_full_sort_keeps() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut sampler = Sampler::default();
    for round in 0..300 {
        let vocab = [50, 1000, 5003][round % 3];
        // Few distinct values, so that ties happen.
        let spread = rng.random_range(1..60);
        let logits: Vec<f32> = (0..vocab).map(|_| (rng.random_range(-spread..=spread) as f32) * 0.25).collect();
        let sampling = Sampling {
            temperature: rng.random_range(0.3..2.0),
            top_k: [0, 1, 7, 40, 900][rng.random_range(0..5)],
            top_p: [1.0, 0.95, 0.5, 0.01][rng.random_range(0..4)],
            min_p: [0.0, 0.05, 0.5][rng.random_range(0..3)],
            ..Sampling::default()
        };
        sampler.sample(&mut logits.clone(), &params(sampling, 0)).unwrap();
        let mut kept: Vec<u32> = sampler.candidates.iter().map(|candidate| candidate.token).collect();
        let mut wanted: Vec<u32> = kept_by_definition(&logits, &sampling).iter().map(|(id, _)| *id).collect();
        kept.sort_unstable();
        wanted.sort_unstable();
        // A cut between tokens of equal logits may move by one where sums of 32 and 64 bits round apart.
        let apart = kept.len().abs_diff(wanted.len());
        assert!(apart <= 1, "round {round}: {} kept, {} wanted, {sampling:?}", kept.len(), wanted.len());
        let common = kept.iter().filter(|id| wanted.binary_search(id).is_ok()).count();
        assert_eq!(common, kept.len().min(wanted.len()), "round {round}, {sampling:?}");
    }
}

#[test]
fn draws_follow_the_distribution() {
    let logits = [2.0, 1.0, 0.0, -1.0, f32::NEG_INFINITY];
    let sampling = Sampling { temperature: 0.8, ..Sampling::default() };
    let kept = kept_by_definition(&logits, &sampling);
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    let mut counts = [0_u32; 5];
    let draws = 40_000;
    let mut sampler = Sampler::default();
    for position in 0..draws {
        counts[sampler.sample(&mut logits.clone(), &params(sampling, position)).unwrap() as usize] += 1;
    }
    for (token, weight) in kept {
        let (got, want) = (f64::from(counts[token as usize]) / f64::from(draws), weight / total);
        // Four standard deviations of a binomial share.
        assert!((got - want).abs() < 4.0 * (want / f64::from(draws)).sqrt(), "token {token}: {got} against {want}");
    }
    assert_eq!(counts[4], 0);
}

#[test]
fn the_same_key_and_position_choose_the_same_token_whoever_asks() {
    let mut rng = StdRng::seed_from_u64(9);
    let logits: Vec<f32> = (0..49_152).map(|_| rng.random_range(-4.0..4.0)).collect();
    let sampling = Sampling { top_p: 0.9, ..Sampling::default() };
    let mut used = Sampler::default();
    let mut seen = std::collections::HashSet::new();
    for position in 0..50 {
        let token = used.sample(&mut logits.clone(), &params(sampling, position));
        assert_eq!(token, Sampler::default().sample(&mut logits.clone(), &params(sampling, position)));
        seen.insert(token.unwrap());
    }
    assert!(seen.len() > 40, "positions share random numbers");
}

#[test]
fn bias_penalty_and_mask_come_before_the_choice() {
    let choose = |change: &dyn Fn(&mut SampleParams)| {
        let mut params = params(greedy(), 0);
        change(&mut params);
        let mut logits = vec![-5.0; 40];
        (logits[3], logits[35], logits[36]) = (4.0, 3.0, -1.0);
        Sampler::default().sample(&mut logits, &params)
    };
    assert_eq!(choose(&|_| ()), Ok(3));
    assert_eq!(choose(&|params| params.bias = vec![(36, 6.0)]), Ok(36));
    assert_eq!(choose(&|params| params.bias = vec![(3, f32::NEG_INFINITY)]), Ok(35));
    let penalise = |tokens: &[u32]| {
        let tokens = tokens.to_vec();
        choose(&move |params: &mut SampleParams| {
            params.sampling.repetition_penalty = 2.0;
            params.penalised.clone_from(&tokens);
        })
    };
    assert_eq!(penalise(&[3]), Ok(35), "4 / 2 is less than 3");
    assert_eq!(penalise(&[3, 35]), Ok(3), "2 against 1.5");
    assert_eq!(choose(&|params| params.mask = Some(Arc::from([!8, !0]))), Ok(35));
    // A mask ends where its words end.
    assert_eq!(choose(&|params| params.mask = Some(Arc::from([!8_u32]))), Ok(0));
}

#[test]
fn what_cannot_be_chosen_from_is_an_error_and_never_a_token() {
    let mut sampler = Sampler::default();
    for sampling in [greedy(), Sampling::default()] {
        let mut forbidden = params(sampling, 0);
        forbidden.mask = Some(Arc::from([0_u32; 4]));
        assert_eq!(sampler.sample(&mut [1.0; 100], &forbidden), Err(SampleError::NothingAllowed));
        let mut broken = vec![0.0; 100];
        broken[63] = f32::NAN;
        assert_eq!(sampler.sample(&mut broken, &params(sampling, 0)), Err(SampleError::NotNumbers));
        assert_eq!(sampler.sample(&mut [f32::INFINITY; 3], &params(sampling, 0)), Err(SampleError::NotNumbers));
    }
}

//! The feed-forward layer of a mixture of experts. Rows are sorted by expert, so that each expert that a step needs is read
//! once, and no other is read.
//!
//! A row's result does not depend on its company: what an expert gives for it is the same in any group of rows, and a row adds
//! up its experts from the likeliest to the least likely.

use std::ops::Range;

use super::activations::{Activations, GROUP};
use super::blocks::RUN;
use super::buffer::{Buffer, Shared};
use super::gate_up::GateUp;
use super::isa::Isa;
use super::matmul::{self, Out};
use super::matrix::Matrix;
use super::norm;
use super::partition::{TileRange, for_tiles};
use super::pool::Pool;
use super::projection::multiply;
use super::weights::{ExpertMlp, Layer, forms};
use crate::model::ModelConfig;
use crate::ops::vector::LANES;

/// An expert that a row passes through, and what its result is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Choice {
    expert: usize,
    share: f32,
}

/// The `used` likeliest experts of a row with these router logits, likeliest first; of equally likely ones the first.
fn choose(logits: &[f32], used: usize, renormalise: bool) -> Vec<Choice> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut all: Vec<Choice> = logits
        .iter()
        .map(|logit| (logit - max).exp())
        .enumerate()
        .map(|(expert, share)| Choice { expert, share })
        .collect();
    let total: f32 = all.iter().map(|choice| choice.share).sum();
    all.sort_by(|a, b| b.share.total_cmp(&a.share));
    all.truncate(used);
    let total = if renormalise { all.iter().map(|choice| choice.share).sum() } else { total };
    all.iter_mut().for_each(|choice| choice.share /= total);
    all
}

/// Rows sorted by expert. A slot is a place in this order; experts begin at whole groups.
#[derive(Debug, Default, PartialEq)]
struct Routing {
    /// Experts that have rows, and their slots.
    active: Vec<(usize, Range<usize>)>,
    /// The row of each slot; none behind the last one of an expert.
    rows: Vec<Option<usize>>,
    /// `[row][used]`: where a row's results are, and what they are multiplied with.
    results: Vec<(usize, f32)>,
}

impl Routing {
    fn new(experts: usize, choices: &[Vec<Choice>]) -> Self {
        let mut counts = vec![0; experts];
        choices.iter().flatten().for_each(|choice| counts[choice.expert] += 1);
        let mut routing = Self::default();
        let mut next = vec![0; experts];
        for (expert, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let first = routing.rows.len();
            next[expert] = first;
            routing.active.push((expert, first..first + count));
            routing.rows.resize(first + count.next_multiple_of(GROUP), None);
        }
        for (row, choices) in choices.iter().enumerate() {
            for &Choice { expert, share } in choices {
                routing.rows[next[expert]] = Some(row);
                routing.results.push((next[expert], share));
                next[expert] += 1;
            }
        }
        routing
    }
}

/// Memory for steps of a model with experts; of none for others.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// `[row][experts]`
    logits: Buffer<f32>,
    routing: Routing,
    /// Rows by slot, on their way into experts and into the second halves of these.
    input: Activations,
    hidden: Activations,
    /// `[slot][dim]`
    out: Buffer<f32>,
    /// Experts have no biases.
    zeros: Vec<f32>,
}

impl Scratch {
    pub(crate) fn new(config: &ModelConfig, layers: &[Layer], rows: usize) -> Self {
        let mlps = || layers.iter().filter_map(|layer| layer.mlp.experts());
        let (count, used, ffn) = config.experts.as_ref().map_or((0, 0, 0), |of| (of.count, of.used, of.ffn));
        let slots = rows * used + count.min(rows * used) * (GROUP - 1);
        let width = |inputs: usize| inputs.next_multiple_of(RUN);
        Self {
            logits: Buffer::new(rows * count),
            routing: Routing::default(),
            input: Activations::new(
                slots,
                width(config.dim),
                forms(mlps().flat_map(|mlp| mlp.gate.iter().chain(&mlp.up))),
            ),
            hidden: Activations::new(slots, width(ffn), forms(mlps().flat_map(|mlp| &mlp.down))),
            out: Buffer::new(slots * config.dim),
            zeros: vec![0.0; width(ffn)],
        }
    }
}

/// The feed-forward layer of one layer in a step of `rows` rows.
#[derive(Clone, Copy)]
pub(crate) struct Mixture<'a> {
    pub(crate) isa: Isa,
    pub(crate) config: &'a ModelConfig,
    pub(crate) weights: &'a ExpertMlp,
    /// Of the rows on their way into experts.
    pub(crate) norm: &'a [f32],
    pub(crate) rows: usize,
}

impl Mixture<'_> {
    /// Computes what the experts give for the rows of `x`, `[row][dim]`; `normed` are the same rows, normalised. `next` is what is
    /// read afterwards.
    pub(crate) fn run(
        &self,
        pool: &mut Pool,
        x: &[f32],
        normed: &Activations,
        scratch: &mut Scratch,
        next: TileRange<'_>,
    ) {
        self.route(pool, normed, scratch);
        let &Self { isa, config, weights, norm, .. } = self;
        let Scratch { routing, input, hidden, out, zeros, .. } = scratch;
        let slots = routing.rows.len();
        let sink = input.sink();
        pool.spread(slots / GROUP, self.rows, &|group| {
            let mut values = vec![0.0; sink.width];
            for slot in group * GROUP..group * GROUP + GROUP {
                if let Some(row) = routing.rows[slot] {
                    let x = &x[row * config.dim..][..config.dim];
                    norm::norm_put(isa, x, norm, config.norm_eps, &sink, slot, &mut values);
                }
            }
        });

        let pairs: Vec<[&Matrix; 2]> =
            routing.active.iter().map(|(expert, _)| [&weights.gate[*expert], &weights.up[*expert]]).collect();
        let downs: Vec<&Matrix> = routing.active.iter().map(|(expert, _)| &weights.down[*expert]).collect();
        let (pairs, downs) = (TileRange::ExpertPairs(&pairs), TileRange::Experts(&downs));
        let activation = config.layer.activation;
        let gate_up = GateUp { isa, activation, biases: [zeros; 2], input, sink: hidden.sink() };
        // To the partition a unit is one group of rows: how many it has differs from expert to expert.
        for_tiles(pool, [pairs, downs], 1, &|unit, _, prefetch| {
            let Some((index, gate, tile)) = pairs.tile(unit, 0) else { unreachable!("a unit of the range") };
            let (expert, slots) = &routing.active[index];
            for (at, group, here) in groups(slots) {
                let matrices = [gate, &weights.up[*expert]];
                gate_up.put(matrices, tile / 2, group, here, |tile| prefetch.tile(tile, at));
            }
        });
        let out = out.shared();
        for_tiles(pool, [downs, next], 1, &|unit, _, prefetch| {
            let Some((index, down, tile)) = downs.tile(unit, 0) else { unreachable!("a unit of the range") };
            let outputs = tile * LANES..down.outputs.min(tile * LANES + LANES);
            let mut results: Out = [[0.0; LANES]; GROUP];
            for (at, group, here) in groups(&routing.active[index].1) {
                matmul::tile(isa, down, tile, hidden, group, here, prefetch.tile(0, at), &mut results);
                for (row, result) in results[..here].iter().enumerate() {
                    let first = (group * GROUP + row) * config.dim + outputs.start;
                    // SAFETY: this call alone has these outputs of this expert's slots.
                    unsafe { out.part(first, outputs.len()) }.copy_from_slice(&result[..outputs.len()]);
                }
            }
        });
    }

    /// Finds the experts of each row.
    fn route(&self, pool: &mut Pool, normed: &Activations, scratch: &mut Scratch) {
        let &Self { isa, weights, rows, .. } = self;
        let router = TileRange::Each(std::slice::from_ref(&weights.router));
        let (count, out) = (weights.router.outputs, scratch.logits.shared());
        // Which experts are read then is not known yet.
        multiply(pool, isa, [router, router], normed, rows, &|_, outputs, first_row, results| {
            for (row, result) in results.iter().enumerate() {
                // SAFETY: this call alone has these outputs of these rows.
                let out = unsafe { out.part((first_row + row) * count + outputs.start, outputs.len()) };
                out.copy_from_slice(&result[..outputs.len()]);
            }
        });
        let logits = scratch.logits[..rows * count].chunks_exact(count);
        let choices: Vec<Vec<Choice>> = logits.map(|row| choose(row, weights.used, weights.renormalise)).collect();
        scratch.routing = Routing::new(count, &choices);
    }

    /// Adds what [`Mixture::run`] computed to `to`, `[row][dim]`.
    pub(crate) fn add(&self, pool: &mut Pool, scratch: &Scratch, to: Shared<'_, f32>) {
        let (dim, used) = (self.config.dim, self.weights.used);
        pool.spread(self.rows, self.rows, &|row| {
            // SAFETY: this call alone has this row.
            let to = unsafe { to.part(row * dim, dim) };
            for &(slot, share) in &scratch.routing.results[row * used..][..used] {
                let result = &scratch.out[slot * dim..][..dim];
                to.iter_mut().zip(result).for_each(|(to, result)| *to += share * result);
            }
        });
    }
}

/// The groups of an expert's slots: how many came before, index, rows.
fn groups(slots: &Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> {
    let (first, count) = (slots.start / GROUP, slots.len());
    (0..count.div_ceil(GROUP)).map(move |at| (at, first + at, GROUP.min(count - at * GROUP)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_experts_are_chosen_and_their_shares_add_up_to_one_if_asked() {
        let logits = [0.0, 2.0_f32.ln(), 0.0, 4.0_f32.ln()];
        let shares = |renormalise| -> Vec<(usize, f32)> {
            choose(&logits, 3, renormalise).iter().map(|choice| (choice.expert, choice.share)).collect()
        };
        // One, two, one and four parts of eight.
        for ((expert, share), want) in shares(false).into_iter().zip([(3, 0.5), (1, 0.25), (0, 0.125)]) {
            assert!(expert == want.0 && (share - want.1).abs() < 1e-6, "{expert}: {share}");
        }
        for ((expert, share), want) in shares(true).into_iter().zip([(3, 4.0 / 7.0), (1, 2.0 / 7.0), (0, 1.0 / 7.0)]) {
            assert!(expert == want.0 && (share - want.1).abs() < 1e-6, "{expert}: {share}");
        }
    }

    #[test]
    fn rows_are_sorted_by_expert_in_whole_groups() {
        let choice = |expert| Choice { expert, share: 0.5 };
        // Ten rows to expert 4, of which row 3 goes to expert 1 too.
        let mut choices = vec![vec![choice(4)]; 10];
        choices[3].push(choice(1));
        let routing = Routing::new(6, &choices);
        assert_eq!(routing.active, [(1, 0..1), (4, 8..18)]);
        assert_eq!(routing.rows.len(), 24);
        assert_eq!((routing.rows[0], routing.rows[1]), (Some(3), None));
        assert_eq!(routing.rows[8..19].to_vec(), (0..10).map(Some).chain([None]).collect::<Vec<_>>());
        assert_eq!(routing.results[2..6].iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [10, 11, 0, 12]);
        assert_eq!(groups(&routing.active[1].1).collect::<Vec<_>>(), [(0, 1, 8), (1, 2, 2)]);
    }
}

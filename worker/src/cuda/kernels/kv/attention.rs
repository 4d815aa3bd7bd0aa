//! What both kernels of attention are checked with.

use half::bf16;

use super::{KvShape, Span};
use crate::cuda::kernels::test_rng::TestRng;
use crate::device::BLOCK_TOKENS;

/// Sequences with their keys and values in a pool; everything else in it is NaN.
pub(crate) struct Case {
    pub(crate) shape: KvShape,
    pub(crate) heads: usize,
    pub(crate) pool: Vec<u8>,
    pub(crate) tables: Vec<u32>,
    /// One a sequence.
    pub(crate) spans: Vec<Span>,
    /// `[rows][heads][head_dim]`, scaled.
    pub(crate) queries: Vec<bf16>,
}

impl Case {
    /// A sequence for each (position, rows).
    pub(crate) fn new(shape: KvShape, group: usize, sequences: &[(usize, usize)], rng: &mut TestRng) -> Self {
        let blocks = |(position, rows): &(usize, usize)| (position + rows).div_ceil(BLOCK_TOKENS);
        let needed: usize = sequences.iter().map(blocks).sum();
        // Some that nobody has.
        let mut free = rng.shuffled(needed as u32 + 3);
        let mut pool = vec![0xff; (needed + 3) * shape.block_bytes()];
        let (mut tables, mut spans, mut row) = (Vec::new(), Vec::new(), 0);
        for sequence @ &(position, rows) in sequences {
            let table = tables.len();
            tables.extend(free.drain(..blocks(sequence)));
            let slot = |at: usize| tables[table + at / BLOCK_TOKENS] as usize * BLOCK_TOKENS + at % BLOCK_TOKENS;
            (0..position + rows).for_each(|at| shape.fill(&mut pool, slot(at), rng));
            if (position + rows) % 2 == 1 {
                shape.clear_value(&mut pool, slot(position + rows - 1) + 1);
            }
            spans.push(Span { row, rows: rows as u32, position: position as u32, table: table as u32 });
            row += rows as u32;
        }
        let heads = shape.kv_heads * group;
        // Scores of some size, so that weights differ.
        let queries = rng.bf16s(row as usize * heads * shape.head_dim, 1.0);
        Self { shape, heads, pool, tables, spans, queries }
    }

    /// The definition, in 64 bits: `[rows][heads][head_dim]`.
    pub(crate) fn reference(&self) -> Vec<f32> {
        let Self { shape, heads, .. } = self;
        let (width, group) = (shape.head_dim, heads / shape.kv_heads);
        let mut out = Vec::new();
        for span in &self.spans {
            let slot = |at: usize| {
                let block = self.tables[span.table as usize + at / BLOCK_TOKENS];
                block as usize * BLOCK_TOKENS + at % BLOCK_TOKENS
            };
            let context = (span.position + span.rows) as usize;
            let all = |value| -> Vec<Vec<Vec<f32>>> {
                let head = |head| (0..context).map(|at| shape.read(&self.pool, slot(at), head, value)).collect();
                (0..shape.kv_heads).map(head).collect()
            };
            let (keys, values) = (all(false), all(true));
            for row in 0..span.rows as usize {
                for head in 0..*heads {
                    let query = &self.queries[((span.row as usize + row) * heads + head) * width..][..width];
                    let seen = span.position as usize + row + 1;
                    let score = |key: &Vec<f32>| -> f64 {
                        key.iter().zip(query).map(|(k, q)| f64::from(*k) * q.to_f64()).sum()
                    };
                    let scores: Vec<f64> = keys[head / group][..seen].iter().map(score).collect();
                    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp2()).collect();
                    let total: f64 = weights.iter().sum();
                    out.extend((0..width).map(|i| {
                        let values = values[head / group].iter().zip(&weights);
                        (values.map(|(value, weight)| f64::from(value[i]) * weight).sum::<f64>() / total) as f32
                    }));
                }
            }
        }
        out
    }
}

//! What the next step computes: decode rows first, then prefill chunks, first come first served, within the device's
//! token budget. When blocks run out the latest sequence is preempted: its blocks are released and recomputed later.
//!
//! ```text
//!   push ──▶ waiting ──admit──▶ running ──remove──▶ (ended)
//!               ▲                  │
//!               └─────preempt──────┘
//! ```
//! Both lists are in order of arrival, and every running sequence arrived before all waiting ones.

use std::collections::VecDeque;

use longhand_proto::task::Backtrack;

use super::block_manager::BlockManager;
use super::sequence::Sequence;
use super::tokenizer_adapter::TokenizerAdapter;
use crate::device::BLOCK_TOKENS;

/// A sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Index into [`Scheduler::running`].
    pub(crate) index: usize,
    /// Tokens to compute.
    pub(crate) len: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Scheduler {
    waiting: VecDeque<Sequence>,
    pub(crate) running: Vec<Sequence>,
    pub(crate) blocks: BlockManager,
    max_sequences: usize,
    pub(crate) preemptions: u64,
    /// Tokens that they gave up: computed again unless the cache still has them.
    pub(crate) preempted_tokens: u64,
    /// Ids of the sequences admitted since the last [`Scheduler::take_admitted`].
    admitted: Vec<u64>,
}

/// What the next step computes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) rows: Vec<Row>,
    /// Sequences that need more blocks than the pool has, even alone; their blocks are released.
    pub(crate) oversized: Vec<Sequence>,
}

impl Scheduler {
    pub(crate) fn new(blocks: usize, max_sequences: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            running: Vec::new(),
            blocks: BlockManager::new(blocks),
            max_sequences: max_sequences.max(1),
            preemptions: 0,
            preempted_tokens: 0,
            admitted: Vec::new(),
        }
    }

    /// Queues a sequence that arrived after all others.
    pub(crate) fn push(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    /// All sequences.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = &Sequence> + Clone {
        self.running.iter().chain(&self.waiting)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// True if no sequence runs or waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub(crate) fn find(&mut self, id: u64) -> Option<&mut Sequence> {
        self.running.iter_mut().chain(&mut self.waiting).find(|sequence| sequence.id == id)
    }

    /// Removes a sequence; its blocks are released.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Sequence> {
        if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            let mut sequence = self.running.remove(at);
            self.free(&mut sequence);
            return Some(sequence);
        }
        let at = self.waiting.iter().position(|sequence| sequence.id == id)?;
        self.waiting.remove(at)
    }

    /// Removes all sequences that `picks` selects; their blocks are released.
    pub(crate) fn remove_if(&mut self, picks: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
        let ids = self.running.iter().chain(&self.waiting).filter(|it| picks(it)).map(|it| it.id);
        let ids: Vec<u64> = ids.collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Decides the next step of at most `budget` tokens.
    pub(crate) fn plan(&mut self, budget: usize) -> Plan {
        let mut plan = Plan::default();
        let mut left = budget;
        let preemptions = self.preemptions;
        for decode in [true, false] {
            let mut index = 0;
            while index < self.running.len() && left > 0 {
                let sequence = &self.running[index];
                let uncomputed = sequence.uncomputed();
                if !sequence.awaiting_grammar() && (uncomputed == 1) == decode {
                    let len = uncomputed.min(left);
                    // No sequence is preempted for a token that may end its text.
                    let room = match sequence.pending_token {
                        Some(_) => self.grow(index, len),
                        None => self.reserve_or_preempt(index, len, &mut plan, &mut left),
                    };
                    if room {
                        plan.rows.push(Row { index, len });
                        left -= len;
                    }
                }
                index += 1;
            }
        }
        // Blocks just taken from a preempted sequence are not given to a later one.
        while left > 0 && self.preemptions == preemptions && self.admit(&mut plan) {
            let index = self.running.len() - 1;
            let len = self.running[index].uncomputed().min(left);
            if self.reserve_or_preempt(index, len, &mut plan, &mut left) {
                plan.rows.push(Row { index, len });
                left -= len;
            }
        }
        plan
    }

    /// Reserves blocks for `len` more tokens of a running sequence, preempting later ones; false if it was preempted
    /// itself.
    fn reserve_or_preempt(&mut self, index: usize, len: usize, plan: &mut Plan, left: &mut usize) -> bool {
        loop {
            if self.grow(index, len) {
                return true;
            }
            let Some(mut victim) = self.running.pop() else { return false };
            let last = self.running.len();
            if let Some(at) = plan.rows.iter().position(|row| row.index == last) {
                *left += plan.rows.remove(at).len;
            }
            let computed = victim.computed as u64;
            self.free(&mut victim);
            if last == 0 {
                plan.oversized.push(victim);
                return false;
            }
            self.preemptions += 1;
            self.preempted_tokens += computed;
            self.waiting.push_front(victim);
            if last == index {
                return false;
            }
        }
    }

    /// Reserves blocks for `len` more tokens of a running sequence; false if there are too few.
    fn grow(&mut self, index: usize, len: usize) -> bool {
        let sequence = &mut self.running[index];
        self.blocks.grow(&mut sequence.table, sequence.computed + len)
    }

    /// Moves the first waiting sequence to the running ones, if there are blocks for all its tokens and one more.
    fn admit(&mut self, plan: &mut Plan) -> bool {
        if self.running.len() >= self.max_sequences {
            return false;
        }
        let Some(first) = self.waiting.front() else { return false };
        if first.awaiting_grammar() {
            return false;
        }
        let tokens = first.tokens.len();
        if (tokens + 1).div_ceil(BLOCK_TOKENS) > self.blocks.total() {
            plan.oversized.extend(self.waiting.pop_front());
            return self.admit(plan);
        }
        let cached = self.blocks.cached_blocks(&first.hashes, tokens);
        // One block more for each running sequence: otherwise it would be preempted at the next full block.
        let need = self.blocks.blocks_needed(&first.hashes, cached, tokens + 1) + self.running.len();
        if need > self.blocks.free() {
            return false;
        }
        let Some(mut sequence) = self.waiting.pop_front() else { return false };
        sequence.reusable = self.blocks.reusable_tokens(&sequence.hashes, tokens);
        sequence.table = self.blocks.share_prefix(&sequence.hashes, cached);
        sequence.computed = cached * BLOCK_TOKENS;
        self.admitted.push(sequence.id);
        self.running.push(sequence);
        true
    }

    /// Ids of the sequences admitted since the last call.
    pub(crate) fn take_admitted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.admitted)
    }

    /// Records the tokens that a step has computed: other sequences can share the full blocks from now on.
    pub(crate) fn record_computed(&mut self, row: Row) {
        self.running[row.index].computed += row.len;
        self.publish_blocks_at(row.index);
    }

    /// Lets other sequences share the full blocks of a running one: all its computed tokens are in the pool.
    pub(crate) fn publish_blocks(&mut self, id: u64) {
        if let Some(index) = self.running.iter().position(|sequence| sequence.id == id) {
            self.publish_blocks_at(index);
        }
    }

    /// Lets no other sequence share the blocks of a running one any more.
    pub(crate) fn forget_blocks(&mut self, id: u64) {
        if let Some(sequence) = self.running.iter().find(|sequence| sequence.id == id) {
            self.blocks.forget(&sequence.table);
        }
    }

    /// Takes back the end of a sequence's text. All its blocks are released, and those that the cache has of what is left are
    /// shared again, so that no block which others may read is ever written.
    pub(crate) fn take_back(&mut self, id: u64, backtrack: Backtrack, tokenizer: &dyn TokenizerAdapter) {
        let Some(sequence) = self.find(id) else { return };
        sequence.take_back(backtrack, tokenizer);
        // A waiting one has no blocks.
        let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.id == id) else { return };
        self.blocks.release(std::mem::take(&mut sequence.table));
        let cached = self.blocks.cached_blocks(&sequence.hashes, sequence.tokens.len());
        sequence.table = self.blocks.share_prefix(&sequence.hashes, cached);
        sequence.computed = cached * BLOCK_TOKENS;
    }

    fn publish_blocks_at(&mut self, index: usize) {
        let sequence = &mut self.running[index];
        let full = sequence.computed / BLOCK_TOKENS;
        self.blocks.publish_blocks(&mut sequence.table, &sequence.hashes[..full]);
    }

    fn free(&mut self, sequence: &mut Sequence) {
        self.blocks.release(std::mem::take(&mut sequence.table));
        sequence.computed = 0;
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        for mut sequence in self.running.drain(..) {
            self.blocks.release(std::mem::take(&mut sequence.table));
        }
    }
}

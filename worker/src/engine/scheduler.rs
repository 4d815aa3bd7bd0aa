//! Who computes what in the next step: decode rows first, then chunks of prompts, first come first served, under the
//! device's token budget. When blocks run out the latest sequence gives its blocks back and is computed again later.
//!
//! ```text
//!   push ──▶ waiting ──admit──▶ running ──take──▶ (ended)
//!               ▲                  │
//!               └─────preempt──────┘
//! ```
//! Both lists are in order of arrival, and whoever runs came before all who wait.

use std::collections::VecDeque;

use super::block_manager::BlockManager;
use super::sequence::Sequence;
use crate::device::BLOCK_TOKENS;

/// A sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Index into [`Scheduler::running`].
    pub(crate) index: usize,
    /// Tokens to compute.
    pub(crate) len: usize,
}

#[derive(Debug)]
pub(crate) struct Scheduler {
    waiting: VecDeque<Sequence>,
    pub(crate) running: Vec<Sequence>,
    pub(crate) blocks: BlockManager,
    max_sequences: usize,
    pub(crate) preemptions: u64,
    /// Sequences that were admitted for the first time since the last look, by id.
    admitted: Vec<u64>,
}

/// What the next step computes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) rows: Vec<Row>,
    /// Sequences that need more blocks than the pool has, even alone; their own blocks are given back.
    pub(crate) too_big: Vec<Sequence>,
}

impl Scheduler {
    pub(crate) fn new(blocks: usize, max_sequences: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            running: Vec::new(),
            blocks: BlockManager::new(blocks),
            max_sequences: max_sequences.max(1),
            preemptions: 0,
            admitted: Vec::new(),
        }
    }

    /// Queues a sequence that came after all others.
    pub(crate) fn push(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn find(&mut self, id: u64) -> Option<&mut Sequence> {
        self.running.iter_mut().chain(&mut self.waiting).find(|sequence| sequence.id == id)
    }

    /// Takes a sequence out; its blocks are given back.
    pub(crate) fn take(&mut self, id: u64) -> Option<Sequence> {
        if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            let mut sequence = self.running.remove(at);
            self.free(&mut sequence);
            return Some(sequence);
        }
        let at = self.waiting.iter().position(|sequence| sequence.id == id)?;
        self.waiting.remove(at)
    }

    /// Takes out all sequences that `gone` picks; their blocks are given back.
    pub(crate) fn take_if(&mut self, gone: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
        let ids = self.running.iter().chain(&self.waiting).filter(|it| gone(it)).map(|it| it.id);
        let ids: Vec<u64> = ids.collect();
        ids.into_iter().filter_map(|id| self.take(id)).collect()
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
                let pending = sequence.pending();
                if !sequence.asked() && (pending == 1) == decode {
                    let len = pending.min(left);
                    // Nobody gives way to a token that may end its text.
                    let room = match sequence.coming {
                        Some(_) => self.grow(index, len),
                        None => self.secure(index, len, &mut plan, &mut left),
                    };
                    if room {
                        plan.rows.push(Row { index, len });
                        left -= len;
                    }
                }
                index += 1;
            }
        }
        // What was just taken from a sequence is not given to a later one.
        while left > 0 && self.preemptions == preemptions && self.admit(&mut plan) {
            let index = self.running.len() - 1;
            let len = self.running[index].pending().min(left);
            if self.secure(index, len, &mut plan, &mut left) {
                plan.rows.push(Row { index, len });
                left -= len;
            }
        }
        plan
    }

    /// Makes room for `len` more tokens of a running sequence, taking blocks from later ones; false if it had to give
    /// way itself.
    fn secure(&mut self, index: usize, len: usize, plan: &mut Plan, left: &mut usize) -> bool {
        loop {
            if self.grow(index, len) {
                return true;
            }
            let Some(mut victim) = self.running.pop() else { return false };
            let last = self.running.len();
            if let Some(at) = plan.rows.iter().position(|row| row.index == last) {
                *left += plan.rows.remove(at).len;
            }
            self.free(&mut victim);
            if last == 0 {
                plan.too_big.push(victim);
                return false;
            }
            self.preemptions += 1;
            self.waiting.push_front(victim);
            if last == index {
                return false;
            }
        }
    }

    /// Makes room for `len` more tokens of a running sequence, if there is any.
    fn grow(&mut self, index: usize, len: usize) -> bool {
        let sequence = &mut self.running[index];
        self.blocks.grow(&mut sequence.table, sequence.computed + len)
    }

    /// Moves the first waiting sequence to the running ones, if there is room for all its tokens and one more.
    fn admit(&mut self, plan: &mut Plan) -> bool {
        if self.running.len() >= self.max_sequences {
            return false;
        }
        let Some(first) = self.waiting.front() else { return false };
        if first.asked() {
            return false;
        }
        let tokens = first.tokens.len();
        if (tokens + 1).div_ceil(BLOCK_TOKENS) > self.blocks.total() {
            plan.too_big.extend(self.waiting.pop_front());
            return self.admit(plan);
        }
        let cached = self.blocks.cached(&first.hashes, tokens);
        // One block more for each running sequence: else the newcomer is sent back at the next full block.
        let need = self.blocks.cost(&first.hashes, cached, tokens + 1) + self.running.len();
        if need > self.blocks.free() {
            return false;
        }
        let Some(mut sequence) = self.waiting.pop_front() else { return false };
        sequence.reusable = self.blocks.reusable(&sequence.hashes, tokens);
        sequence.table = self.blocks.adopt(&sequence.hashes, cached);
        sequence.computed = cached * BLOCK_TOKENS;
        self.admitted.push(sequence.id);
        self.running.push(sequence);
        true
    }

    /// Ids of the sequences admitted since the last call.
    pub(crate) fn admitted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.admitted)
    }

    /// Books the tokens that a step has computed: full blocks can be found by others from now on.
    pub(crate) fn computed(&mut self, row: Row) {
        self.running[row.index].computed += row.len;
        self.seal_at(row.index);
    }

    /// Lets others find the full blocks of a sequence that still runs: all that was booked is in the pool.
    pub(crate) fn seal(&mut self, id: u64) {
        if let Some(index) = self.running.iter().position(|sequence| sequence.id == id) {
            self.seal_at(index);
        }
    }

    fn seal_at(&mut self, index: usize) {
        let sequence = &mut self.running[index];
        let full = sequence.computed / BLOCK_TOKENS;
        self.blocks.seal(&mut sequence.table, &sequence.hashes[..full]);
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

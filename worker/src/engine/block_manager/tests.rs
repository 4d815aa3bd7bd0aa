use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn hashes(tokens: &[u32]) -> Vec<BlockHash> {
    let mut hashes = Vec::new();
    BlockHash::extend(&mut hashes, tokens);
    hashes
}

fn tokens(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| seed * 1000 + i).collect()
}

/// Computes a whole sequence and releases it.
fn visit(manager: &mut BlockManager, tokens: &[u32]) -> Vec<BlockId> {
    let hashes = hashes(tokens);
    let cached = manager.cached_blocks(&hashes, tokens.len());
    let mut table = manager.share_prefix(&hashes, cached);
    assert!(manager.grow(&mut table, tokens.len()));
    manager.publish_blocks(&mut table, &hashes);
    let blocks = table.blocks().to_vec();
    manager.release(table);
    blocks
}

#[test]
fn a_prompt_that_begins_like_an_earlier_one_starts_where_its_blocks_end() {
    let mut manager = BlockManager::new(8);
    let first = tokens(1, 50);
    let blocks = visit(&mut manager, &first);
    assert_eq!(blocks.len(), 4);
    let mut second = first[..40].to_vec();
    second.extend(tokens(2, 30));
    let hashes = hashes(&second);
    assert_eq!(manager.cached_blocks(&hashes, second.len()), 2, "two full blocks are equal");
    let table = manager.share_prefix(&hashes, 2);
    assert_eq!(table.blocks(), &blocks[..2]);
    manager.release(table);
    assert_eq!(manager.free(), 8);
}

#[test]
fn at_least_one_token_is_left_to_compute() {
    let mut manager = BlockManager::new(8);
    let text = tokens(1, 32);
    visit(&mut manager, &text);
    assert_eq!(manager.cached_blocks(&hashes(&text), 32), 1);
    assert_eq!(manager.cached_blocks(&hashes(&text), 33), 2);
}

#[test]
fn equal_blocks_after_different_beginnings_are_different() {
    let (mut a, mut b) = (tokens(1, 16), tokens(2, 16));
    a.extend(tokens(3, 16));
    b.extend(tokens(3, 16));
    assert_ne!(hashes(&a)[1], hashes(&b)[1]);
}

#[test]
fn the_least_recently_used_contents_go_first_and_a_beginning_outlives_its_end() {
    let mut manager = BlockManager::new(4);
    let (old, new) = (tokens(1, 32), tokens(2, 32));
    visit(&mut manager, &old);
    visit(&mut manager, &new);
    // One block more: the end of the older sequence is overwritten, all else stays.
    visit(&mut manager, &tokens(3, 16));
    assert_eq!(manager.cached_blocks(&hashes(&old), 99), 1);
    assert_eq!(manager.cached_blocks(&hashes(&new), 99), 2);
    visit(&mut manager, &old);
    // It is recently used now: the block of the third sequence or the end of the second is overwritten.
    visit(&mut manager, &tokens(4, 16));
    assert_eq!(manager.cached_blocks(&hashes(&old), 99), 2);
}

#[test]
fn growing_past_the_pool_changes_nothing() {
    let mut manager = BlockManager::new(2);
    let mut table = BlockTable::default();
    assert!(manager.grow(&mut table, 17));
    assert!(!manager.grow(&mut table, 33));
    assert_eq!((table.blocks().len(), manager.free()), (2, 0));
    manager.release(table);
    assert_eq!(manager.free(), 2);
}

#[test]
fn a_block_in_use_is_shared_and_survives_until_its_last_holder() {
    let mut manager = BlockManager::new(3);
    let text = tokens(1, 33);
    let hashes = hashes(&text);
    let mut first = BlockTable::default();
    assert!(manager.grow(&mut first, 33));
    manager.publish_blocks(&mut first, &hashes);
    let second = manager.share_prefix(&hashes, 2);
    assert_eq!(manager.free(), 0);
    manager.release(first);
    assert_eq!(manager.free(), 1, "two blocks are still held");
    assert_eq!(manager.blocks_needed(&hashes, 2, 33), 1, "held blocks cost nothing");
    manager.release(second);
    assert_eq!(manager.blocks_needed(&hashes, 2, 33), 3, "kept blocks leave the free list");
}

#[derive(Debug, Clone)]
enum Op {
    /// Starts a sequence of one of few texts, so that prefixes are shared.
    Start {
        text: u32,
        len: usize,
    },
    Grow {
        at: usize,
        more: usize,
    },
    End {
        at: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..3_u32, 1..100_usize).prop_map(|(text, len)| Op::Start { text, len }),
        (0..8_usize, 1..40_usize).prop_map(|(at, more)| Op::Grow { at, more }),
        (0..8_usize).prop_map(|at| Op::End { at }),
    ]
}

/// Texts that share beginnings: text n differs from text 0 from token 24 * n on.
fn shared(text: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| if i >= 24 * text { text * 10_000 + i } else { i }).collect()
}

/// No held block is overwritten.
fn assert_holds(table: &BlockTable, tokens: &[u32], written: &HashMap<BlockId, Vec<u32>>) {
    for (i, id) in table.blocks().iter().enumerate() {
        let end = ((i + 1) * BLOCK_TOKENS).min(tokens.len());
        assert_eq!(&written[id][..end], &tokens[..end], "a held block is overwritten");
    }
}

proptest! {
    /// Runs sequences against a model of the pool's contents: a cache hit holds the same tokens, no held block is
    /// overwritten, and all blocks are released.
    #[test]
    fn blocks_are_neither_lost_nor_allocated_twice_nor_confused(ops in prop::collection::vec(op(), 1..80)) {
        const POOL: usize = 12;
        let mut manager = BlockManager::new(POOL);
        // Contents of the pool, as a device would have them: all tokens up to the end of the block.
        let mut written: HashMap<BlockId, Vec<u32>> = HashMap::new();
        let mut live: Vec<(Vec<u32>, BlockTable)> = Vec::new();
        for op in ops {
            match op {
                Op::Start { text, len } => {
                    let tokens = shared(text, len);
                    let hashes = hashes(&tokens);
                    let cached = manager.cached_blocks(&hashes, len);
                    let needed = manager.blocks_needed(&hashes, cached, len);
                    let free = manager.free();
                    let mut table = manager.share_prefix(&hashes, cached);
                    for (i, id) in table.blocks().iter().enumerate() {
                        prop_assert_eq!(&written[id], &tokens[..(i + 1) * BLOCK_TOKENS], "a hit is equal");
                    }
                    if manager.grow(&mut table, len) {
                        prop_assert_eq!(free - manager.free(), needed);
                        for (i, id) in table.blocks().iter().enumerate().skip(cached) {
                            written.insert(*id, tokens[..((i + 1) * BLOCK_TOKENS).min(len)].to_vec());
                        }
                        manager.publish_blocks(&mut table, &hashes);
                        live.push((tokens, table));
                    } else {
                        manager.release(table);
                        prop_assert_eq!(manager.free(), free);
                    }
                }
                Op::Grow { at, more } => {
                    let Some((tokens, table)) = live.get_mut(at) else { continue };
                    let old = tokens.len();
                    if manager.grow(table, old + more) {
                        tokens.extend((0..more as u32).map(|i| 1_000_000 + i));
                        for (i, id) in table.blocks().iter().enumerate().skip(old / BLOCK_TOKENS) {
                            written.insert(*id, tokens[..((i + 1) * BLOCK_TOKENS).min(tokens.len())].to_vec());
                        }
                        manager.publish_blocks(table, &hashes(tokens));
                    }
                }
                Op::End { at } => {
                    if at < live.len() {
                        manager.release(live.swap_remove(at).1);
                    }
                }
            }
            for (tokens, table) in &live {
                assert_holds(table, tokens, &written);
            }
            let held: HashSet<BlockId> = live.iter().flat_map(|(_, table)| table.blocks().to_vec()).collect();
            prop_assert_eq!(held.len() + manager.free(), POOL);
        }
        for (_, table) in live {
            manager.release(table);
        }
        prop_assert_eq!(manager.free(), POOL);
    }
}

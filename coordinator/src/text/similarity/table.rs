//! From the hash of a band to the texts that have it: open addressing, eight bytes an entry.

/// Marks an empty slot.
const EMPTY: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u32,
    text: u32,
}

/// Grows by half when four fifths of it are taken: doubling would leave half of a large table empty.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    taken: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { slots: vec![Slot { tag: 0, text: EMPTY }; 64], taken: 0 }
    }

    /// The texts under `tag`, in order of insertion while the table has not grown since.
    pub(super) fn get(&self, tag: u32) -> impl Iterator<Item = u32> {
        let mut at = self.bucket(tag);
        std::iter::from_fn(move || {
            let slot = self.slots[at];
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
            (slot.text != EMPTY).then_some(slot)
        })
        .filter(move |slot| slot.tag == tag)
        .map(|slot| slot.text)
    }

    pub(super) fn insert(&mut self, tag: u32, text: u32) {
        if (self.taken + 1) * 5 > self.slots.len() * 4 {
            self.grow();
        }
        let mut at = self.bucket(tag);
        while self.slots[at].text != EMPTY {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        self.slots[at] = Slot { tag, text };
        self.taken += 1;
    }

    /// Slots keep the order of their tags, so neighbours stay neighbours.
    fn bucket(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.slots.len() as u64) >> 32) as usize
    }

    fn grow(&mut self) {
        let larger = vec![Slot { tag: 0, text: EMPTY }; self.slots.len() / 2 * 3];
        let old = std::mem::replace(&mut self.slots, larger);
        self.taken = 0;
        for slot in old {
            if slot.text != EMPTY {
                self.insert(slot.tag, slot.text);
            }
        }
    }
}

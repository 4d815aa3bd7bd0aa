//! What an ideal prefix cache could have supplied: the yardstick that the real cache is measured by.

use std::collections::{HashMap, VecDeque};

use longhand_proto::DocumentId;

/// Documents remembered. A document beyond them counts as new, so the yardstick errs to the low side only for
/// documents that waited behind this many others.
const DOCUMENTS: usize = 256;

/// The latest prompt, and text if it is written, of each document that this engine was given.
#[derive(Debug, Default)]
pub(crate) struct Reuse {
    latest: HashMap<DocumentId, Vec<u32>>,
    order: VecDeque<DocumentId>,
}

impl Reuse {
    /// Leading tokens of `prompt` that this engine has seen, of whatever document: all begin with the template's words. One
    /// token is always left to compute.
    pub(crate) fn reusable(&self, prompt: &[u32]) -> usize {
        let common = |latest: &Vec<u32>| latest.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let most = self.latest.values().map(common).max().unwrap_or(0);
        most.min(prompt.len().saturating_sub(1))
    }

    /// Remembers the prompt of a task that begins, or prompt and text of one that has ended.
    pub(crate) fn record(&mut self, document: DocumentId, tokens: Vec<u32>) {
        if self.latest.insert(document, tokens).is_none() {
            self.order.push_back(document);
        }
        if self.order.len() > DOCUMENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.latest.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_longest_common_prefix() {
        let (a, b) = (DocumentId::from_bytes([1; 16]), DocumentId::from_bytes([2; 16]));
        let mut reuse = Reuse::default();
        reuse.record(a, vec![1, 2, 3, 4]);
        reuse.record(b, vec![1, 5, 6]);
        assert_eq!(reuse.reusable(&[1, 2, 3, 9, 9]), 3);
        assert_eq!(reuse.reusable(&[1, 2, 3]), 2, "the last token is always computed");
        assert_eq!(reuse.reusable(&[1, 5, 3]), 2);
        assert_eq!(reuse.reusable(&[5, 6]), 0);
        assert_eq!(reuse.reusable(&[]), 0);
    }

    #[test]
    fn forgets_the_oldest_document_when_full() {
        let id = |n: usize| DocumentId::from_bytes((n as u128).to_be_bytes());
        let mut reuse = Reuse::default();
        for n in 0..=DOCUMENTS {
            reuse.record(id(n), vec![n as u32, 8, 9]);
        }
        assert_eq!(reuse.reusable(&[0, 8, 9]), 0);
        assert_eq!(reuse.reusable(&[1, 8, 9]), 2);
        assert_eq!(reuse.latest.len(), DOCUMENTS);
    }
}

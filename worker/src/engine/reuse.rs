//! What an ideal prefix cache could have supplied: the yardstick that the real cache is measured by.

use std::collections::{HashMap, VecDeque};

use longhand_proto::DocumentId;

/// Documents remembered. A document beyond them counts as new, so the yardstick errs to the low side only for
/// documents that waited behind this many others.
const DOCUMENTS: usize = 256;

/// The latest prompt and text of each document that this engine wrote.
#[derive(Debug, Default)]
pub(crate) struct Reuse {
    latest: HashMap<DocumentId, Vec<u32>>,
    order: VecDeque<DocumentId>,
}

impl Reuse {
    /// Leading tokens of `prompt` that this engine has seen for this document. One token is always left to compute.
    pub(crate) fn reusable(&self, document: DocumentId, prompt: &[u32]) -> usize {
        let Some(latest) = self.latest.get(&document) else { return 0 };
        let common = latest.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        common.min(prompt.len().saturating_sub(1))
    }

    /// Remembers prompt and text of a finished task.
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
    fn counts_the_common_prefix_of_the_same_document_only() {
        let (a, b) = (DocumentId::from_bytes([1; 16]), DocumentId::from_bytes([2; 16]));
        let mut reuse = Reuse::default();
        reuse.record(a, vec![1, 2, 3, 4]);
        assert_eq!(reuse.reusable(a, &[1, 2, 3, 9, 9]), 3);
        assert_eq!(reuse.reusable(a, &[1, 2, 3]), 2, "the last token is always computed");
        assert_eq!(reuse.reusable(b, &[1, 2, 3, 9]), 0);
        assert_eq!(reuse.reusable(a, &[]), 0);
    }

    #[test]
    fn forgets_the_oldest_document_when_full() {
        let id = |n: usize| DocumentId::from_bytes((n as u128).to_be_bytes());
        let mut reuse = Reuse::default();
        for n in 0..=DOCUMENTS {
            reuse.record(id(n), vec![7, 8, 9]);
        }
        assert_eq!(reuse.reusable(id(0), &[7, 8, 9]), 0);
        assert_eq!(reuse.reusable(id(1), &[7, 8, 9]), 2);
        assert_eq!(reuse.latest.len(), DOCUMENTS);
    }
}

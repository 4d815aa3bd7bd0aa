//! Seeds: one number per task, so that any machine at any time draws the same text.

use longhand_proto::DocumentId;
use longhand_proto::task::TaskKind;

/// The document's seed, from the run's.
pub(crate) fn of_document(run_seed: u64, document: DocumentId) -> u64 {
    hash(&[&run_seed.to_le_bytes(), document.as_bytes()])
}

/// The seed of one try of one task. A plan and the first section both have index 0, so the kind is part of it.
pub(crate) fn of_task(document_seed: u64, round: u32, kind: TaskKind, index: u32, errors: u32) -> u64 {
    hash(&[
        &document_seed.to_le_bytes(),
        &round.to_le_bytes(),
        kind.as_str().as_bytes(),
        &index.to_le_bytes(),
        &errors.to_le_bytes(),
    ])
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = blake3::Hasher::new_derive_key("longhand seed v1");
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

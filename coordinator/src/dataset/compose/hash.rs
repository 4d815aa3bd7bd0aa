//! Names and seeds that depend on what they are made of, and on nothing else.

/// A hash of the parts, each apart from the next.
pub(super) fn of(parts: &[&[u8]]) -> blake3::Hash {
    let mut hash = blake3::Hasher::new_derive_key("longhand composed instruction v1");
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hash.finalize()
}

/// A number that the parts decide.
pub(super) fn number(parts: &[&[u8]]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&of(parts).as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

//! Lines of a stream, with a bound on the memory that one of them takes.

use std::io::{self, BufRead};

/// Longest line that is read. A longer one is a bad row; its bytes are hashed and dropped as they come.
pub const MAX_LINE_BYTES: usize = 8 << 20;

/// One line without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// Over [`MAX_LINE_BYTES`].
    TooLong {
        bytes: u64,
        hash: String,
    },
}

/// The next line, or none at the end.
pub(super) fn next(input: &mut dyn BufRead) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut dropped: Option<(u64, blake3::Hasher)> = None;
    let mut any = false;
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            break;
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        match &mut dropped {
            Some((bytes, hash)) => {
                *bytes += piece.len() as u64;
                hash.update(piece);
            }
            None if line.len() + piece.len() > MAX_LINE_BYTES => {
                let mut hash = blake3::Hasher::new();
                hash.update(&line).update(piece);
                dropped = Some(((line.len() + piece.len()) as u64, hash));
                line = Vec::new();
            }
            None => line.extend_from_slice(piece),
        }
        let used = piece.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            break;
        }
    }
    if !any {
        return Ok(None);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(match dropped {
        Some((bytes, hash)) => Line::TooLong { bytes, hash: hash.finalize().to_hex().to_string() },
        None => Line::Whole(line),
    }))
}

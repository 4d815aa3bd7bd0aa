//! Gzip, with what real files have: several members, and zeros behind the last one (tapes and block devices pad).

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// None between two members only.
pub(super) struct Gzip<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(input: R) -> Self {
        Self(Some(GzDecoder::new(input)))
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = &mut self.0 else { return Ok(0) };
            let read = decoder.read(out)?;
            if read > 0 || out.is_empty() {
                return Ok(read);
            }
            let Some(mut input) = self.0.take().map(GzDecoder::into_inner) else { return Ok(0) };
            if another_member(&mut input)? {
                self.0 = Some(GzDecoder::new(input));
            }
        }
    }
}

/// Skips zeros; whether anything is left.
fn another_member(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = input.fill_buf()?;
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let (more, len) = (zeros < buffer.len(), buffer.len());
        input.consume(zeros);
        if more || len == 0 {
            return Ok(more);
        }
    }
}

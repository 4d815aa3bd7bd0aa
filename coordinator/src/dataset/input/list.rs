//! A JSON list of rows as lines of JSON, one element a line, without holding more than a buffer of it.

use std::io::{self, BufRead, Read};

/// Reads `[{...}, {...}]` as `{...}\n{...}\n`.
pub(super) struct ListLines<R> {
    list: R,
    /// Brackets and braces that are open.
    depth: u32,
    string: bool,
    escaped: bool,
}

impl<R: BufRead> ListLines<R> {
    pub(super) fn new(list: R) -> Self {
        Self { list, depth: 0, string: false, escaped: false }
    }

    /// What stands in the place of `byte`.
    fn translate(&mut self, byte: u8) -> u8 {
        if self.string {
            let escape = byte == b'\\' && !self.escaped;
            self.string = byte != b'"' || self.escaped;
            self.escaped = escape;
            return byte;
        }
        match byte {
            b'\n' | b'\r' => return b' ',
            b',' if self.depth == 1 => return b'\n',
            b'"' => self.string = true,
            b'[' | b'{' => {
                self.depth += 1;
                if self.depth == 1 {
                    return b' ';
                }
            }
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    return b'\n';
                }
            }
            _ => {}
        }
        byte
    }
}

impl<R: BufRead> Read for ListLines<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.list.fill_buf()?;
        let count = available.len().min(out.len());
        out[..count].copy_from_slice(&available[..count]);
        self.list.consume(count);
        if count == 0 && !out.is_empty() && self.depth > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the JSON list has no end"));
        }
        for byte in &mut out[..count] {
            *byte = self.translate(*byte);
        }
        Ok(count)
    }
}

//! Files that people write: texts in UTF-8.

use std::io;
use std::path::Path;

/// The text of a file. Where it is in another encoding, the error says in which line, and what to do about it.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    String::from_utf8(std::fs::read(path)?).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        let problem = format!("line {line} is not in UTF-8, convert the file with `iconv -t UTF-8`");
        io::Error::new(io::ErrorKind::InvalidData, problem)
    })
}

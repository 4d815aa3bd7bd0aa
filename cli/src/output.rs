//! What goes to stdout. Everything for the eye only (progress, messages) goes to stderr.

use std::io::{self, Write};

use longhand_coordinator::domain::instruction::BadRow;
use serde::Serialize;

use crate::exit::{Failure, Result};

/// Writes a text and a line break.
pub(crate) fn line(text: &str) -> Result<()> {
    whole(writeln!(io::stdout().lock(), "{text}"))
}

/// Writes a value as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Failure::stopped(format!("cannot be written as JSON: {e}")))?;
    line(&text)
}

/// A reader that has gone, such as `head`, has seen what it wanted.
fn whole(written: io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::stopped(format!("stdout: {e}"))),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Columns of text, padded to their widest cell. Numbers stand right, the first column left.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The bad rows of a file, one a line, how many were not kept, and a blank line; nothing if there are none.
pub(crate) fn bad_rows(kept: &[BadRow], all: u64) -> String {
    let mut text: String = kept.iter().map(|bad| format!("{bad}\n")).collect();
    let unlisted = all - kept.len() as u64;
    if unlisted > 0 {
        text.push_str(&format!("and {} more bad rows\n", grouped(unlisted)));
    }
    if all > 0 {
        text.push('\n');
    }
    text
}

/// 1234567 as 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as people say them: `42 s`, `3 min 07 s`, `2 h 05 min`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([7, 187, 7500].map(duration), ["7 s", "3 min 07 s", "2 h 05 min"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["long".to_owned(), "5".to_owned()]];
        assert_eq!(table(&rows), "a     10\nlong   5\n");
    }
}

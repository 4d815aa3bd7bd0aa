//! Output: results to stdout. Progress and messages go to stderr. All that is written for people goes through [`line()`] or
//! [`note`], which escape what a terminal would obey.

use std::io::{self, IsTerminal, Write};

pub use longhand_proto::number::{grouped, plural};
use serde::Serialize;

use crate::exit::{Failure, Result};
use crate::terminal;

/// Columns of the widest cell of a table.
const CELL: usize = 60;

/// Writes text for people to stdout, one line or several.
///
/// # Errors
/// Stdout cannot be written.
pub fn line(text: &str) -> Result<()> {
    raw(&terminal::lines(text))
}

/// Writes text to stdout: as it is to a pipe or a file, for people to a terminal.
///
/// # Errors
/// Stdout cannot be written.
pub fn text(text: &str) -> Result<()> {
    if io::stdout().is_terminal() { line(text) } else { raw(text) }
}

/// Writes text for people to stderr, one line or several. Nobody need be there to read it: a terminal that was closed or a
/// full disk must not end the work that the message is about.
pub fn note(text: &str) {
    write_note(&mut io::stderr().lock(), text);
}

fn write_note(to: &mut impl Write, text: &str) {
    drop(writeln!(to, "{}", terminal::lines(text)));
}

fn raw(text: &str) -> Result<()> {
    ignore_closed_pipe(writeln!(io::stdout().lock(), "{text}"))
}

/// Writes a value to stdout as one line of JSON.
///
/// # Errors
/// Stdout cannot be written.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value)
        .map_err(|e| Failure::stopped(format!("the result cannot be encoded as JSON: {e}")))?;
    raw(&text)
}

/// A reader that closed the pipe, such as `head`, is not an error.
fn ignore_closed_pipe(written: io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::stopped(format!("stdout: {e}"))),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a value as JSON, or `text` where the reader is a person.
///
/// # Errors
/// Stdout cannot be written.
pub fn print(as_json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
    if as_json { json(value) } else { line(text().trim_end()) }
}

/// Columns of text, padded to their widest cell: the first is left-aligned, the others right-aligned. A long cell is cut.
pub fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|text| terminal::cell(text, CELL)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| terminal::columns(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let padding = " ".repeat(width - terminal::columns(cell));
            if column == 0 { format!("{cell}{padding}") } else { format!("{padding}{cell}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Asks a yes-or-no question on the terminal, if there is one at both ends; true without one, as in a script.
///
/// # Errors
/// The terminal cannot be read.
pub fn confirm(question: &str) -> Result<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Ok(true);
    }
    let mut answer = String::new();
    // If it cannot be shown, nobody answers it with yes.
    write!(io::stderr(), "{} [y/N] ", terminal::lines(question))
        .map_err(|e| Failure::stopped(format!("stderr: {e}")))?;
    io::stdin().read_line(&mut answer).map_err(|e| Failure::stopped(format!("stdin: {e}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A duration in seconds as text: `42 s`, `3 min 07 s`, `2 h 05 min`.
pub fn duration(seconds: u64) -> String {
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
    fn durations_have_units() {
        assert_eq!([7, 187, 7500].map(duration), ["7 s", "3 min 07 s", "2 h 05 min"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["long".to_owned(), "5".to_owned()]];
        assert_eq!(table(&rows), "a     10\nlong   5\n");
        let rows = [vec!["中文".to_owned(), "1".to_owned()], vec!["\u{1b}[2J\n".to_owned(), "x".repeat(5_000)]];
        let text = table(&rows);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| terminal::columns(line) == 11 + 2 + CELL), "{text}");
    }

    #[test]
    fn a_note_that_nobody_can_read_is_dropped() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        write_note(&mut Full, "nobody reads this");
        let mut to = Vec::new();
        write_note(&mut to, "row \u{1b}[31m1\nrow 2");
        assert_eq!(to, b"row \\u{1b}[31m1\nrow 2\n");
    }
}

//! Code in Markdown: fenced lines, and what stands between backticks.

/// Tells lines of fenced code from others, fed line by line.
#[derive(Debug, Default)]
pub(super) struct Fence(Option<(char, usize)>);

impl Fence {
    /// True if `line` belongs to fenced code, its fences included.
    pub(super) fn holds(&mut self, line: &str) -> bool {
        let line = line.trim_start();
        let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'));
        let width = mark.map_or(0, |mark| line.chars().take_while(|c| *c == mark).count());
        match (self.0, mark) {
            (None, Some(mark)) if width >= 3 => self.0 = Some((mark, width)),
            (None, _) => return false,
            (Some((open, least)), Some(mark)) if mark == open && width >= least && line[width..].trim().is_empty() => {
                self.0 = None;
            }
            (Some(_), _) => {}
        }
        true
    }
}

/// True between backticks: a text about templates may show one.
pub(super) fn in_code(line: &str, at: usize) -> bool {
    line[..at].bytes().filter(|byte| *byte == b'`').count() % 2 == 1
}

/// The line without what stands between backticks.
pub(super) fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    let whole = parts.len() % 2 == 1;
    parts
        .iter()
        .enumerate()
        .filter(|(at, _)| !whole || at % 2 == 0)
        .map(|(_, part)| *part)
        .collect::<Vec<_>>()
        .join(" ")
}

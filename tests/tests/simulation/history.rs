//! Log of a simulation. Two runs of a seed must produce the same lines.

use std::fmt::Display;

use super::clock;

#[derive(Debug, Default)]
pub(crate) struct History {
    lines: Vec<String>,
}

impl History {
    pub(crate) fn note(&mut self, who: &str, what: impl Display) {
        self.lines.push(format!("{:>8.3} {who}: {what}", clock::elapsed().as_secs_f64()));
    }

    pub(crate) fn hash(&self) -> blake3::Hash {
        let mut hash = blake3::Hasher::new();
        for line in &self.lines {
            hash.update(line.as_bytes()).update(b"\n");
        }
        hash.finalize()
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The first line in which two histories differ, with the lines before it.
    pub(crate) fn difference(&self, other: &Self) -> String {
        let at = self.lines.iter().zip(&other.lines).take_while(|(a, b)| a == b).count();
        let shown = |history: &Self| history.lines.get(at).cloned().unwrap_or_else(|| "(ends)".into());
        let before = self.lines[at.saturating_sub(3)..at].join("\n  ");
        format!("after\n  {before}\nthe first run has\n  {}\nthe second\n  {}", shown(self), shown(other))
    }

    pub(crate) fn tail(&self, lines: usize) -> String {
        self.lines[self.lines.len().saturating_sub(lines)..].join("\n  ")
    }
}

//! Lists of patterns, and what a model is asked: text files that a user can replace, with ones of our own built in.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use crate::files::text;

/// Stands in a question for the instruction.
pub(super) const PLACEHOLDER: &str = "{instruction}";

/// The lists and questions, by the names of their files.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Patterns of instructions that no corpus should answer.
    pub toxic: List,
    /// Patterns of instructions that a program sent.
    pub scraping: List,
    /// Patterns of instructions that want a long text.
    pub long: List,
    /// Patterns of instructions that want a short answer.
    pub short: List,
    /// The question to a model about an English instruction.
    pub question_en: String,
    /// The question about a Chinese one.
    pub question_zh: String,
}

/// Name and text of each built-in file.
pub const BUILT_IN: [(&str, &str); 6] = [
    ("toxic.txt", include_str!("../../../rules/toxic.txt")),
    ("scraping.txt", include_str!("../../../rules/scraping.txt")),
    ("long.txt", include_str!("../../../rules/long.txt")),
    ("short.txt", include_str!("../../../rules/short.txt")),
    ("question_en.txt", include_str!("../../../rules/question_en.txt")),
    ("question_zh.txt", include_str!("../../../rules/question_zh.txt")),
];

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    #[error("rules {}: cannot be read: {source}; check the path and its permissions", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("rules {}: no rule files; expected one or more of toxic.txt, scraping.txt, long.txt, short.txt, question_en.txt, question_zh.txt; write them with `longhand select --write-rules DIR`", path.display())]
    Nothing { path: PathBuf },
    #[error("rules {}:{line}: {problem}; expected one regular expression a line", path.display())]
    Pattern { path: PathBuf, line: usize, problem: String },
    #[error("rules {}: {PLACEHOLDER} is missing; put it where the instruction belongs in the question", path.display())]
    Question { path: PathBuf },
}

impl Rules {
    /// The built-in lists.
    pub fn built_in() -> Self {
        static RULES: LazyLock<Rules> = LazyLock::new(|| {
            Rules::parse(|name| Ok((PathBuf::from(name), built_in(name))))
                .expect("constant patterns, compiled by the tests")
        });
        RULES.clone()
    }

    /// Those of a folder; a list that it does not hold is the built-in one.
    pub fn load(folder: &Path) -> Result<Self, RuleError> {
        if !BUILT_IN.iter().any(|(name, _)| folder.join(name).is_file()) {
            return Err(RuleError::Nothing { path: folder.to_owned() });
        }
        Self::parse(|name| {
            let path = folder.join(name);
            match text::read(&path) {
                Ok(text) => Ok((path, text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((PathBuf::from(name), built_in(name))),
                Err(source) => Err(RuleError::Read { path, source }),
            }
        })
    }

    fn parse(read: impl Fn(&str) -> Result<(PathBuf, String), RuleError>) -> Result<Self, RuleError> {
        let list = |name| read(name).and_then(|(path, text)| List::parse(&path, &text));
        let question = |name| {
            let (path, text) = read(name)?;
            if text.contains(PLACEHOLDER) { Ok(text) } else { Err(RuleError::Question { path }) }
        };
        Ok(Self {
            toxic: list("toxic.txt")?,
            scraping: list("scraping.txt")?,
            long: list("long.txt")?,
            short: list("short.txt")?,
            question_en: question("question_en.txt")?,
            question_zh: question("question_zh.txt")?,
        })
    }
}

fn built_in(name: &str) -> String {
    BUILT_IN.iter().find(|(known, _)| *known == name).map_or_else(String::new, |(_, text)| (*text).to_owned())
}

/// One file.
#[derive(Debug, Clone)]
pub struct List {
    lines: Vec<(usize, Regex)>,
}

/// What a list found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Line of the file, from 1.
    pub line: usize,
    /// What stands in the text.
    pub text: String,
}

impl List {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, RuleError> {
        let mut lines = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let pattern = line.trim();
            if pattern.is_empty() || pattern.starts_with('#') {
                continue;
            }
            // Where Unicode's words end is found a hundred times slower in Chinese text, and says nothing there.
            let pattern = pattern.replace(r"\b", r"(?-u:\b)");
            let regex = RegexBuilder::new(&pattern).case_insensitive(true).dot_matches_new_line(true).build();
            let regex = regex.map_err(|error| RuleError::Pattern {
                path: path.to_owned(),
                line: at + 1,
                problem: error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
            })?;
            lines.push((at + 1, regex));
        }
        Ok(Self { lines })
    }

    /// The first line of the list that is found in `text`.
    pub fn find(&self, text: &str) -> Option<Hit> {
        self.lines.iter().find_map(|(line, regex)| {
            regex.find(text).map(|found| Hit { line: *line, text: found.as_str().chars().take(120).collect() })
        })
    }
}

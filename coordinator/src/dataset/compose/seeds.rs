//! The seed table of a language: a text file that a user can replace, with one of our own built in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::lengths::Lengths;
use super::pattern::{Pattern, Slot};
use crate::domain::language::Language;
use crate::files::text;

/// Name and text of each built-in file.
pub const BUILT_IN: [(&str, &str); 2] =
    [("en.toml", include_str!("../../../seeds/en.toml")), ("zh.toml", include_str!("../../../seeds/zh.toml"))];

/// The list whose entries suit every kind of form.
const ANY: &str = "any";
/// Where a form has its subject.
const SUBJECT: &str = "{subject}";

/// A seed file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("seeds {}: cannot be read: {source}; check the path, or write the built-in files with `longhand compose --write-seeds DIR`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("seeds {}:{line}: {key}: {problem}; {remedy}", path.display())]
    Entry { path: PathBuf, line: usize, key: String, problem: String, remedy: &'static str },
}

/// The seeds of one language, checked.
#[derive(Debug, Clone)]
pub struct Seeds {
    pub(super) language: Language,
    /// Hash of the file.
    pub(super) hash: String,
    pub(super) forms: Vec<Form>,
    pub(super) subjects: Vec<Subject>,
    pub(super) readers: Vec<ForKind<String>>,
    pub(super) tones: Vec<ForKind<String>>,
    pub(super) patterns: Vec<ForKind<Pattern>>,
}

/// A kind of text.
#[derive(Debug, Clone)]
pub(super) struct Form {
    pub(super) name: String,
    phrase: String,
    pub(super) kind: String,
    /// None: any length.
    words: Option<Lengths>,
    /// None: all fields.
    fields: Option<Vec<String>>,
}

impl Form {
    /// True if a text of this form can have the length and the subject.
    pub(super) fn suits(&self, words: u32, subject: &Subject) -> bool {
        self.words.as_ref().is_none_or(|range| range.contains(words))
            && self.fields.as_ref().is_none_or(|fields| fields.contains(&subject.field))
    }

    /// "a field guide to lichens".
    pub(super) fn of(&self, subject: &Subject) -> String {
        self.phrase.replace(SUBJECT, &subject.name)
    }
}

/// What a text may be about.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) field: String,
}

/// An entry of a list for forms of one kind, or of all.
#[derive(Debug, Clone)]
pub(super) struct ForKind<T> {
    kind: Option<String>,
    pub(super) value: T,
}

impl<T> ForKind<T> {
    pub(super) fn suits(&self, kind: &str) -> bool {
        self.kind.as_ref().is_none_or(|own| own == kind)
    }
}

impl Seeds {
    /// The built-in seeds.
    pub fn built_in(language: Language) -> Self {
        let (name, text) = built_in(language);
        Self::parse(Path::new(name), text, language).expect("a constant file, read by the tests")
    }

    /// Those of a folder.
    ///
    /// # Errors
    /// The language's file is missing, or an entry of it cannot be used.
    pub fn load(folder: &Path, language: Language) -> Result<Self, SeedError> {
        let path = folder.join(built_in(language).0);
        let text = text::read(&path).map_err(|source| SeedError::Read { path: path.clone(), source })?;
        Self::parse(&path, &text, language)
    }

    pub(super) fn parse(path: &Path, text: &str, language: Language) -> Result<Self, SeedError> {
        let source = Source { path, text };
        let file: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let remedy = "fix the line; the built-in files, as `longhand compose --write-seeds DIR` writes them, show the format";
            source.error(at, "the file", error.message().lines().next().unwrap_or_default(), remedy)
        })?;
        let mut subjects = Vec::new();
        let mut known = BTreeSet::new();
        for (field, names) in &file.subjects {
            for name in names {
                let entry = source.entry(name, "subjects", field)?;
                if !known.insert(entry.to_lowercase()) {
                    let problem = format!("`{entry}` is there twice");
                    return Err(source.error(
                        name.span().start,
                        &format!("subjects.{field}"),
                        problem,
                        "remove one of them",
                    ));
                }
                subjects.push(Subject { name: entry, field: field.clone() });
            }
        }
        if subjects.is_empty() {
            return Err(source.error(
                0,
                "subjects",
                "there is none",
                "add a list of subjects, such as nature = [\"moths\"]",
            ));
        }
        let forms = source.forms(&file)?;
        let kinds: BTreeSet<&str> = forms.iter().map(|form| form.kind.as_str()).collect();
        let text_of = |entry: String| Ok(entry);
        let readers = source.lists("readers", &file.readers, &kinds, text_of)?;
        let tones = source.lists("tones", &file.tones, &kinds, text_of)?;
        let patterns = source.lists("patterns", &file.patterns, &kinds, |entry| Pattern::parse(&entry))?;
        for form in &file.form {
            let kind = form.kind.get_ref();
            let missing = |list: &str| {
                let problem = format!("no {list} for forms of kind `{kind}`");
                source.error(
                    form.kind.span().start,
                    "form.kind",
                    problem,
                    "add a list of that name, or one named `any`",
                )
            };
            let mut suiting = patterns.iter().filter(|pattern| pattern.suits(kind)).peekable();
            if suiting.peek().is_none() {
                return Err(missing("patterns"));
            }
            for (list, slot, entries) in [("readers", Slot::Reader, &readers), ("tones", Slot::Tone, &tones)] {
                let asked = patterns.iter().any(|pattern| pattern.suits(kind) && pattern.value.may_have(slot));
                if asked && !entries.iter().any(|entry| entry.suits(kind)) {
                    return Err(missing(list));
                }
            }
        }
        let hash = blake3::hash(text.as_bytes()).to_hex()[..16].to_owned();
        Ok(Self { language, hash, forms, subjects, readers, tones, patterns })
    }
}

fn built_in(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::En => BUILT_IN[0],
        Language::Zh => BUILT_IN[1],
    }
}

/// A file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    form: Vec<FormEntry>,
    #[serde(default)]
    subjects: List,
    #[serde(default)]
    readers: List,
    #[serde(default)]
    tones: List,
    #[serde(default)]
    patterns: List,
}

type List = BTreeMap<String, Vec<Spanned<String>>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormEntry {
    name: Spanned<String>,
    phrase: Spanned<String>,
    kind: Spanned<String>,
    words: Option<Spanned<[u32; 2]>>,
    fields: Option<Vec<Spanned<String>>>,
}

/// The file that errors name.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn error(&self, at: usize, key: &str, problem: impl Into<String>, remedy: &'static str) -> SeedError {
        let line = self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
        SeedError::Entry { path: self.path.to_owned(), line, key: key.to_owned(), problem: problem.into(), remedy }
    }

    /// An entry that says something, in one line.
    fn entry(&self, value: &Spanned<String>, table: &str, list: &str) -> Result<String, SeedError> {
        let entry = value.get_ref().trim();
        if entry.is_empty() || entry.contains('\n') {
            let key = if list.is_empty() { table.to_owned() } else { format!("{table}.{list}") };
            let problem = if entry.is_empty() { "an entry is empty" } else { "an entry has several lines" };
            return Err(self.error(
                value.span().start,
                &key,
                problem,
                "write each entry as text on one line, or remove it",
            ));
        }
        Ok(entry.to_owned())
    }

    fn forms(&self, file: &File) -> Result<Vec<Form>, SeedError> {
        if file.form.is_empty() {
            return Err(self.error(0, "form", "there is none", "add a [[form]] with name, phrase and kind"));
        }
        let mut names = BTreeSet::new();
        let form = |entry: &FormEntry| {
            let name = self.entry(&entry.name, "form.name", "")?;
            if !names.insert(name.to_lowercase()) {
                let problem = format!("`{name}` is there twice");
                return Err(self.error(entry.name.span().start, "form.name", problem, "rename or remove one of them"));
            }
            let phrase = self.entry(&entry.phrase, "form.phrase", "")?;
            if phrase.matches(SUBJECT).count() != 1 || phrase.matches(['{', '}']).count() != 2 {
                let problem = format!("`{phrase}` does not have {SUBJECT} once, and nothing else in braces");
                let remedy = "put the subject into it, such as \"an essay on {subject}\"";
                return Err(self.error(entry.phrase.span().start, "form.phrase", problem, remedy));
            }
            let words = entry.words.as_ref().map(|words| {
                let [least, most] = *words.get_ref();
                let problem = format!("invalid range [{least}, {most}]");
                let remedy = "give the least and the most words, 50 to 200000, such as [2000, 9000]";
                Lengths::of(*words.get_ref())
                    .ok_or_else(|| self.error(words.span().start, "form.words", problem, remedy))
            });
            let fields = entry.fields.as_ref().map(|fields| {
                if fields.is_empty() {
                    let remedy = "name the fields that suit the form, or leave the key out";
                    return Err(self.error(entry.name.span().start, "form.fields", "the list is empty", remedy));
                }
                let known = |field: &Spanned<String>| {
                    if file.subjects.contains_key(field.get_ref()) {
                        return Ok(field.get_ref().clone());
                    }
                    let problem = format!("no subjects are listed under `{}`", field.get_ref());
                    Err(self.error(field.span().start, "form.fields", problem, "use the name of a list of [subjects]"))
                };
                fields.iter().map(known).collect::<Result<Vec<_>, _>>()
            });
            let kind = self.entry(&entry.kind, "form.kind", "")?;
            Ok(Form { name, phrase, kind, words: words.transpose()?, fields: fields.transpose()? })
        };
        file.form.iter().map(form).collect()
    }

    /// The entries of a table of lists by kind.
    fn lists<T>(
        &self,
        table: &str,
        lists: &List,
        kinds: &BTreeSet<&str>,
        read: impl Fn(String) -> Result<T, (String, &'static str)>,
    ) -> Result<Vec<ForKind<T>>, SeedError> {
        let mut entries = Vec::new();
        for (kind, values) in lists {
            for value in values {
                let error =
                    |problem, remedy| self.error(value.span().start, &format!("{table}.{kind}"), problem, remedy);
                if kind != ANY && !kinds.contains(kind.as_str()) {
                    return Err(error(format!("no form is of kind `{kind}`"), "rename the list, or remove it"));
                }
                let entry = self.entry(value, table, kind)?;
                let value = read(entry).map_err(|(problem, remedy)| error(problem, remedy))?;
                entries.push(ForKind { kind: (kind != ANY).then(|| kind.clone()), value });
            }
        }
        Ok(entries)
    }
}

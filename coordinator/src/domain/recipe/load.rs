//! From TOML to a recipe and back, and its hash.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::RecipeError;
use super::{Filters, Recipe, Templates, check};
use crate::files::text;

impl Recipe {
    /// The recipe that is used when none is named.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// `folder`: where templates that are named by a path lie; none refuses them. The templates are not rendered here.
    ///
    /// # Errors
    /// Names the file, the line and the key at fault.
    pub(crate) fn parse(text: &str, file: &str, folder: Option<&Path>) -> Result<Self, RecipeError> {
        let source = Source { text, file };
        let tree = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
        let known = toml::Table::try_from(Self::default()).map_err(|error| RecipeError::Syntax {
            file: file.into(),
            line: 0,
            problem: error.to_string(),
        })?;
        source.known_keys(tree.get_ref(), &known, "")?;
        let mut recipe: Self = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        if let (None, Some(DeValue::Table(named))) = (folder, tree.get_ref().get("filters").map(|it| it.get_ref())) {
            recipe.filters = as_stored(&recipe.filters, |key| named.contains_key(key));
        }
        check::ranges(&recipe).map_err(|(key, value, range)| {
            let line = source.line_of(tree.get_ref(), &key);
            RecipeError::OutOfRange { file: file.into(), line, key, value, range }
        })?;
        for (key, template) in recipe.templates.by_key() {
            if !template.contains('\n') {
                let path: PathBuf = folder.unwrap_or(Path::new("")).join(template.as_str());
                let read = match folder {
                    Some(_) => text::read(&path).map_err(|error| error.to_string()),
                    None => Err("a stored recipe holds the texts themselves".to_owned()),
                };
                *template = read.map_err(|problem| RecipeError::Template {
                    file: file.into(),
                    line: source.line_of(tree.get_ref(), key),
                    key: key.into(),
                    path: path.display().to_string(),
                    problem,
                })?;
                if !template.ends_with('\n') {
                    template.push('\n');
                }
            }
        }
        Ok(recipe)
    }

    /// The recipe with its templates in it: loading the text gives the same recipe.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("numbers, texts and tables can be written as TOML")
    }

    /// 64 hexadecimal digits over all that the recipe holds, template texts included. Order and comments of the file do
    /// not count, nor where its templates lie.
    pub fn hash(&self) -> String {
        let canonical = serde_json::to_vec(self).expect("numbers, texts and objects can be written as JSON");
        hash("longhand recipe v1", &canonical)
    }

    /// 64 hexadecimal digits over the template texts alone.
    pub fn template_hash(&self) -> String {
        let canonical = serde_json::to_vec(&self.templates).expect("texts can be written as JSON");
        hash("longhand templates v1", &canonical)
    }
}

/// A stored text names every rule of its time. A rule that it does not name was not there, so it stays off: the documents of
/// a run that an older build began are all judged alike.
fn as_stored(filters: &Filters, named: impl Fn(&str) -> bool) -> Filters {
    let table = |filters: &Filters| toml::Table::try_from(filters).expect("numbers can be written as TOML");
    let mut all = table(&Filters::first_version());
    all.extend(table(filters).into_iter().filter(|(key, _)| named(key)));
    all.try_into().expect("keys and kinds are those of the type")
}

fn hash(context: &str, bytes: &[u8]) -> String {
    let mut hash = blake3::Hasher::new_derive_key(context);
    hash.update(bytes);
    hash.finalize().to_hex().to_string()
}

impl Templates {
    fn by_key(&mut self) -> [(&'static str, &mut String); 8] {
        let Self { plan_en, plan_zh, section_en, section_zh, summary_en, summary_zh, judge_en, judge_zh } = self;
        [
            ("templates.plan_en", plan_en),
            ("templates.plan_zh", plan_zh),
            ("templates.section_en", section_en),
            ("templates.section_zh", section_zh),
            ("templates.summary_en", summary_en),
            ("templates.summary_zh", summary_zh),
            ("templates.judge_en", judge_en),
            ("templates.judge_zh", judge_zh),
        ]
    }
}

/// The text being read, to tell lines.
struct Source<'a> {
    text: &'a str,
    file: &'a str,
}

impl Source<'_> {
    fn line_at(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn syntax(&self, error: &toml::de::Error) -> RecipeError {
        let line = error.span().map_or(1, |span| self.line_at(span.start));
        RecipeError::Syntax { file: self.file.into(), line, problem: error.message().into() }
    }

    /// Fails at the first key that `known` does not have.
    fn known_keys(&self, table: &DeTable<'_>, known: &toml::Table, at: &str) -> Result<(), RecipeError> {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let path = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
            let Some(known_value) = known.get(name) else {
                return Err(RecipeError::UnknownKey {
                    file: self.file.into(),
                    line: self.line_at(key.span().start),
                    key: path,
                    nearest: nearest(name, at, known),
                });
            };
            if let (DeValue::Table(table), toml::Value::Table(known)) = (value.get_ref(), known_value) {
                self.known_keys(table, known, &path)?;
            }
        }
        Ok(())
    }

    /// Line of the value with this dotted key, or of the nearest table around it; 1 if nothing of it is in the file.
    fn line_of(&self, table: &DeTable<'_>, key: &str) -> usize {
        let mut table = table;
        let mut line = 1;
        for name in key.split('.') {
            let Some((found, value)) = table.iter().find(|(found, _)| found.get_ref() == name) else { break };
            line = self.line_at(found.span().start);
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        line
    }
}

/// The known key beside `name` that is spelled most like it.
fn nearest(name: &str, at: &str, known: &toml::Table) -> String {
    let best = known.keys().min_by_key(|candidate| edits(name, candidate)).map_or("", String::as_str);
    if at.is_empty() { best.to_owned() } else { format!("{at}.{best}") }
}

/// Letters to insert, delete or replace to get from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replace = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

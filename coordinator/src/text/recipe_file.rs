//! Recipes from files and from stores, their templates tried.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use longhand_proto::task::{FinishReason, Message, Timings, Usage};
use toml::de::{DeTable, DeValue};

use super::prompt::Written;
use super::{filter, prompt};
use crate::domain::document::Section;
use crate::domain::instruction::{Context, Instruction};
use crate::domain::language::Language;
use crate::domain::plan::{Plan, Step};
use crate::domain::recipe::{
    self, ContextRules, JudgeRules, Layout, Method, PlanRules, Recipe, RecipeError, Retry, Rolling, SectionRules,
    Templates,
};
use crate::domain::rule::{Filters, ThresholdError};
use crate::files::text;

impl Default for Recipe {
    fn default() -> Self {
        Self::builtin()
    }
}

impl Recipe {
    /// The recipe that is used when none is named.
    pub fn builtin() -> Self {
        Self {
            name: "longwriter".into(),
            method: Method::default(),
            templates: Templates::default(),
            plan: PlanRules::default(),
            section: SectionRules::default(),
            context: ContextRules::default(),
            rolling: Rolling::default(),
            filters: Filters::default(),
            judge: JudgeRules::default(),
            retry: Retry::default(),
        }
    }

    /// Reads a recipe file and the templates that it names.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, RecipeError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let text =
            text::read(path).map_err(|error| RecipeError::Read { file: file.clone(), problem: error.to_string() })?;
        let recipe = Self::parse(&text, &file, path.parent())?;
        trial(&recipe)?;
        Ok(recipe)
    }

    /// Reads a recipe that holds its templates, as [`Recipe::to_toml`] writes it. It may come from another machine, so a
    /// path in it is refused: whoever sent it would be shown a file of this one.
    pub fn from_toml(text: &str) -> Result<Self, RecipeError> {
        let recipe = Self::parse(text, "(stored)", None)?;
        trial(&recipe)?;
        Ok(recipe)
    }

    /// `folder`: where templates that are named by a path lie; none refuses them. The templates
    /// are not rendered here.
    ///
    /// # Errors
    /// Names the file, the line and the key at fault.
    fn parse(text: &str, file: &str, folder: Option<&Path>) -> Result<Self, RecipeError> {
        let source = Source { text, file };
        let tree = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
        let known = toml::Table::try_from(Self::with_every_key()).map_err(|error| RecipeError::Syntax {
            file: file.into(),
            line: 0,
            problem: error.to_string(),
        })?;
        source.known_keys(tree.get_ref(), &known, "")?;
        let mut recipe: Self = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        let out_of_range = |(key, value, expected): (String, String, String)| {
            let line = source.line_of(tree.get_ref(), &key);
            RecipeError::OutOfRange { file: file.into(), line, key, value, expected }
        };
        if folder.is_some() {
            recipe.complete_sampling(text);
        }
        if tree.get_ref().contains_key("filters") {
            let filters = filter::filters(&recipe.filters, folder.is_none());
            recipe.filters = filters.map_err(|ThresholdError { key, value, expected }| {
                out_of_range((format!("filters.{key}"), value, expected))
            })?;
        }
        let has = |table: &str, key: &str| match tree.get_ref().get(table).map(|value| value.get_ref()) {
            Some(DeValue::Table(table)) => table.contains_key(key),
            _ => false,
        };
        if folder.is_none() && tree.get_ref().contains_key("section") && !has("section", "tries") {
            recipe.keep_first_version();
        }
        // Whoever brings a template for one message wants it to be used.
        if !has("section", "layout") && (has("templates", "section_en") || has("templates", "section_zh")) {
            recipe.section.layout = Layout::Message;
        }
        recipe::ranges(&recipe).map_err(out_of_range)?;
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
}

/// Keys that a recipe names whenever it is written by the program; later ones are left out where they are off.
const FIRST_SAMPLING_KEYS: [&str; 7] =
    ["temperature", "top_k", "top_p", "min_p", "repetition_penalty", "penalty_window", "no_repeat_ngram"];

impl Recipe {
    /// Gives what a file leaves out of a sampling table the built-in recipe's value: as everywhere in a recipe, and not off.
    fn complete_sampling(&mut self, text: &str) {
        let Ok(stated) = toml::from_str::<toml::Table>(text) else { return };
        let builtin = Self::builtin();
        for (name, sampling, builtin) in [
            ("plan", &mut self.plan.sampling, builtin.plan.sampling),
            ("section", &mut self.section.sampling, builtin.section.sampling),
            ("judge", &mut self.judge.sampling, builtin.judge.sampling),
        ] {
            let stated = stated.get(name).and_then(|table| table.get("sampling")).and_then(toml::Value::as_table);
            let Some(stated) = stated else { continue };
            if FIRST_SAMPLING_KEYS.iter().all(|key| stated.contains_key(*key)) {
                continue;
            }
            let Ok(mut all) = toml::Table::try_from(builtin) else { continue };
            all.extend(stated.clone());
            // It was read once already, without the values that are added here.
            *sampling = all.try_into().unwrap_or(*sampling);
        }
    }
}

/// Renders every template for the situations that a document can be in.
fn trial(recipe: &Recipe) -> Result<(), RecipeError> {
    for language in [Language::En, Language::Zh] {
        for (required_words, context) in [(None, Vec::new()), (Some(2_000), vec![trial_context()])] {
            let content = "A trial request".to_owned();
            let instruction = Instruction {
                id: None,
                messages: vec![Message { role: "user".into(), content }],
                language,
                required_words,
                context,
                metadata: serde_json::Map::new(),
                line: 1,
            };
            prompt::plan(recipe, &instruction, None)?;
            prompt::plan(recipe, &instruction, Some("line 1 is wrong"))?;
            let step = |point: &str| Step { main_point: point.into(), words: 300 };
            let plan = Plan { steps: vec![step("one"), step("two"), step("three")] };
            let sections = vec![trial_section(); plan.steps.len()];
            for summary in [None, Some("A summary.")] {
                for count in 0..plan.steps.len() {
                    let written = Written { sections: &sections[..count], summary, summarised: 0, rejections: &[] };
                    prompt::section(recipe, &instruction, &plan, written)?;
                }
                prompt::summary(recipe, &instruction, &plan, (summary, &sections))?;
            }
            prompt::judge(recipe, &instruction, &sections)?;
        }
    }
    Ok(())
}

fn trial_context() -> Context {
    Context { id: "1".into(), text: "A text to draw on".into() }
}

fn trial_section() -> Section {
    Section {
        text: "A section.".into(),
        target_words: 300,
        asked_words: None,
        words: 2,
        finish_reason: FinishReason::Stop,
        attempt: 1,
        worker: longhand_proto::WorkerId::try_from("trial".to_owned()).expect("a constant name"),
        usage: Usage::default(),
        timings: Timings::default(),
        seed: 0,
        trace_id: String::new(),
        context: Vec::new(),
        rejections: Vec::new(),
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

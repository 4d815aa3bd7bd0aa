//! Recipes from files and from stores, their templates tried.

use std::path::Path;

use longhand_proto::task::{FinishReason, Message, Timings, Usage};

use super::prompt;
use crate::domain::document::Section;
use crate::domain::instruction::{Context, Instruction};
use crate::domain::language::Language;
use crate::domain::plan::{Plan, Step};
use crate::domain::recipe::{Recipe, RecipeError};
use crate::files::text;

impl Recipe {
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
                for written in 0..plan.steps.len() {
                    prompt::section(recipe, &instruction, &plan, (summary, &sections[..written]), written)?;
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
        words: 2,
        finish_reason: FinishReason::Stop,
        attempt: 1,
        worker: longhand_proto::WorkerId::try_from("trial".to_owned()).expect("a constant name"),
        usage: Usage::default(),
        timings: Timings::default(),
        seed: 0,
        trace_id: String::new(),
        context: Vec::new(),
    }
}

//! What a worker is asked to do next: a pure function of the document and the recipe.

use longhand_proto::task::{Constraint, LengthControl, Message, Sampling, Task, TaskKind};

use super::{Document, Plan, Progress, Section, seed};
use crate::prompt::{self, PromptError};
use crate::recipe::Recipe;

/// Room for a short section: marks, headings and names cost tokens that no word count sees.
const LEAST_SECTION_TOKENS: u32 = 64;

impl Document {
    /// The task to lease out, or none if the document is at an end. [`Task::attempt`] is 1 plus the errors of the
    /// task; a caller that knows of lost and released leases may add them.
    ///
    /// Fails only on a template that a recipe named and that cannot be rendered for this very document. Give that
    /// error to [`Document::apply`] as an [`super::Outcome::Error`]: it converts into a permanent failure.
    pub fn next_task(&self, recipe: &Recipe) -> Result<Option<Task>, PromptError> {
        match &self.progress {
            Progress::Planning { repair } => self.plan_task(recipe, repair.as_deref()).map(Some),
            Progress::Writing { plan, sections, .. } => self.section_task(recipe, plan, sections).map(Some),
            Progress::Finished { .. } | Progress::Failed { .. } | Progress::Cancelled { .. } => Ok(None),
        }
    }

    fn plan_task(&self, recipe: &Recipe, repair: Option<&str>) -> Result<Task, PromptError> {
        let (language, required_words) = (self.instruction.language, self.instruction.required_words);
        let rules = &recipe.plan;
        let prompt = prompt::plan(recipe, &self.instruction, repair)?;
        let grammar = || Constraint::Lark(crate::plan::grammar(rules, language, required_words));
        Ok(Task {
            constraint: rules.grammar.then(grammar),
            max_tokens: rules.max_tokens,
            ..self.task(TaskKind::Plan, 0, prompt, rules.sampling)
        })
    }

    fn section_task(&self, recipe: &Recipe, plan: &Plan, sections: &[Section]) -> Result<Task, PromptError> {
        let rules = &recipe.section;
        let target_words = plan.steps[sections.len()].words;
        let prompt = prompt::section(recipe, &self.instruction, plan, sections)?;
        let length = || LengthControl {
            target_words,
            floor: rules.floor,
            bias: rules.bias,
            ceiling: rules.ceiling,
            hard: rules.hard,
        };
        let tokens = (f64::from(target_words) * f64::from(rules.max_tokens_per_word)).ceil() as u32;
        Ok(Task {
            length: rules.length_control.then(length),
            max_tokens: tokens.max(LEAST_SECTION_TOKENS),
            ..self.task(TaskKind::Section, sections.len() as u32, prompt, rules.sampling)
        })
    }

    /// What all tasks of a document share.
    fn task(&self, kind: TaskKind, section: u32, prompt: String, sampling: Sampling) -> Task {
        Task {
            run: self.run.clone(),
            document: self.id,
            kind,
            section,
            attempt: self.errors + 1,
            messages: vec![Message { role: "user".into(), content: prompt }],
            sampling,
            length: None,
            constraint: None,
            max_tokens: 0,
            seed: self.task_seed(kind, section),
            traceparent: self.traceparent.clone(),
        }
    }

    pub(crate) fn task_seed(&self, kind: TaskKind, section: u32) -> u64 {
        seed::of_task(self.seed, self.round, kind, section, self.errors)
    }
}

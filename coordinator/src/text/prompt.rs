//! Prompts from templates. The part that belongs to one step stands last, so the prompts of one document share a prefix
//! that grows with it, and a worker's prefix cache is hit.

use std::sync::LazyLock;

use longhand_proto::template::{adds_lists, check_template};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use longhand_proto::task::Message;

use crate::domain::document::{Rejection, Section, assemble};
use crate::domain::instruction::Instruction;
use crate::domain::judge;
use crate::domain::language::Language;
use crate::domain::plan::{self, Plan, suitable_steps};
use crate::domain::recipe::{Layout, PromptError, Recipe};
use crate::domain::section_budget::SectionBudget;
use crate::text::context::{self, ContextSelection, Excerpt};

/// Steps of template work after which rendering is given up: far more than a prompt of a million words needs.
/// Each 64 bytes of data count as one.
const FUEL: u64 = 1_000_000;

/// The prompt for the plan. `repair` names the error of a plan that could not be used.
pub fn plan(recipe: &Recipe, instruction: &Instruction, repair: Option<&str>) -> Result<String, PromptError> {
    let (name, template) = match instruction.language {
        Language::En => ("templates.plan_en", &recipe.templates.plan_en),
        Language::Zh => ("templates.plan_zh", &recipe.templates.plan_zh),
    };
    let rules = recipe.plan.of_language(instruction.language);
    let steps = suitable_steps(instruction.required_words, &rules);
    let values = context! {
        instruction => instruction.text(),
        context => references(&context::for_plan(&recipe.context, instruction)),
        required_words => instruction.required_words,
        form => plan::form(instruction.language),
        min_steps => steps.start(),
        max_steps => steps.end(),
        min_words => rules.min_words,
        max_words => rules.max_words,
        repair,
    };
    render(name, template, values)
}

/// What prompts of a document show of what is written: a summary of its beginning, where there is one, and the sections
/// behind that.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// All sections, in order.
    pub sections: &'a [Section],
    /// A summary of the first of them.
    pub summary: Option<&'a str>,
    /// Number of the sections that the summary covers; 0 without one.
    pub summarised: usize,
    /// Of the texts that were written for the next step before.
    pub rejections: &'a [Rejection],
}

impl<'a> Written<'a> {
    /// The sections that the summary does not cover.
    fn shown(&self) -> &'a [Section] {
        &self.sections[self.summarised.min(self.sections.len())..]
    }
}

/// The conversation that asks for the step after the written ones.
pub fn section(
    recipe: &Recipe,
    instruction: &Instruction,
    plan: &Plan,
    written: Written<'_>,
) -> Result<Vec<Message>, PromptError> {
    match recipe.section.layout {
        Layout::Message => section_message(recipe, instruction, plan, written).map(|text| vec![user(text)]),
        Layout::Turns => section_turns(recipe, instruction, plan, written),
    }
}

/// A turn of the user.
fn user(content: String) -> Message {
    Message { role: "user".into(), content }
}

fn section_message(
    recipe: &Recipe,
    instruction: &Instruction,
    plan: &Plan,
    written: Written<'_>,
) -> Result<String, PromptError> {
    let (name, template) = match instruction.language {
        Language::En => ("templates.section_en", &recipe.templates.section_en),
        Language::Zh => ("templates.section_zh", &recipe.templates.section_zh),
    };
    let index = written.sections.len();
    let step = &plan.steps[index];
    let ContextSelection { always, near } = context::for_step(&recipe.context, instruction, &step.main_point);
    let values = context! {
        instruction => instruction.text(),
        context => references(&always),
        near => references(&near),
        plan => plan::render_around(plan, index, recipe.rolling.plan_steps as usize, instruction.language),
        summary => written.summary,
        text => assemble(written.shown()),
        number => index + 1,
        steps => plan.steps.len(),
        main_point => step.main_point.as_str(),
        words => SectionBudget::next(&recipe.section, plan, written.sections, written.rejections).asked,
        first => index == 0,
        last => index + 1 == plan.steps.len(),
    };
    render(name, template, values)
}

/// Instruction and plan with the first request, then sections and requests in turn. A request is rendered as it was when its
/// section was written, so that a prompt begins with the prompt before it and the section that answered it. Only the context
/// texts that are near to one step stand in its own prompt alone.
fn section_turns(
    recipe: &Recipe,
    instruction: &Instruction,
    plan: &Plan,
    written: Written<'_>,
) -> Result<Vec<Message>, PromptError> {
    let index = written.sections.len();
    let first_shown = index - written.shown().len();
    let mut messages = Vec::with_capacity(2 * written.shown().len() + 1);
    for at in first_shown..=index {
        // What was asked for is told as it was, whatever is asked for now.
        let asked = match written.sections.get(at) {
            Some(section) => section.asked(),
            None => SectionBudget::next(&recipe.section, plan, written.sections, written.rejections).asked,
        };
        let request = turn(recipe, instruction, plan, (at, asked), at == index)?;
        if at == first_shown {
            let open = open(recipe, instruction, plan, written)?;
            messages.push(user(format!("{open}\n\n{request}")));
        } else {
            messages.push(user(request));
        }
        if let Some(section) = written.sections.get(at) {
            messages.push(Message { role: "assistant".into(), content: section.text.clone() });
        }
    }
    Ok(messages)
}

/// What the first turn begins with.
fn open(recipe: &Recipe, instruction: &Instruction, plan: &Plan, written: Written<'_>) -> Result<String, PromptError> {
    let (name, template) = match instruction.language {
        Language::En => ("templates.open_en", &recipe.templates.open_en),
        Language::Zh => ("templates.open_zh", &recipe.templates.open_zh),
    };
    let index = written.sections.len();
    let main_point = plan.steps[index].main_point.as_str();
    let ContextSelection { always, near: _ } = context::for_step(&recipe.context, instruction, main_point);
    let values = context! {
        instruction => instruction.text(),
        context => references(&always),
        plan => plan::render_around(plan, index, recipe.rolling.plan_steps as usize, instruction.language),
        summary => written.summary,
    };
    render(name, template, values)
}

/// The request for a step, given by its index and the words to ask for.
fn turn(
    recipe: &Recipe,
    instruction: &Instruction,
    plan: &Plan,
    (index, words): (usize, u32),
    is_latest: bool,
) -> Result<String, PromptError> {
    let (name, template) = match instruction.language {
        Language::En => ("templates.turn_en", &recipe.templates.turn_en),
        Language::Zh => ("templates.turn_zh", &recipe.templates.turn_zh),
    };
    let step = &plan.steps[index];
    let near = match is_latest {
        true => context::for_step(&recipe.context, instruction, &step.main_point).near,
        false => Vec::new(),
    };
    let values = context! {
        near => references(&near),
        number => index + 1,
        steps => plan.steps.len(),
        main_point => step.main_point.as_str(),
        words,
        first => index == 0,
        last => index + 1 == plan.steps.len(),
    };
    render(name, template, values)
}

/// The prompt for a summary of an earlier summary, where there is one, and of the sections behind it.
pub fn summary(
    recipe: &Recipe,
    instruction: &Instruction,
    plan: &Plan,
    (summary, sections): (Option<&str>, &[Section]),
) -> Result<String, PromptError> {
    let (name, template) = match instruction.language {
        Language::En => ("templates.summary_en", &recipe.templates.summary_en),
        Language::Zh => ("templates.summary_zh", &recipe.templates.summary_zh),
    };
    let values = context! {
        instruction => instruction.text(),
        plan => plan::render(plan, instruction.language),
        summary,
        text => assemble(sections),
        words => recipe.rolling.summary_words,
    };
    render(name, template, values)
}

/// The prompt for a vote on a finished text.
pub fn judge(recipe: &Recipe, instruction: &Instruction, sections: &[Section]) -> Result<String, PromptError> {
    let (name, template) = match instruction.language {
        Language::En => ("templates.judge_en", &recipe.templates.judge_en),
        Language::Zh => ("templates.judge_zh", &recipe.templates.judge_zh),
    };
    let form = judge::DIMENSIONS.map(|name| format!("\"{name}\": N")).join(", ");
    let values = context! {
        instruction => instruction.text(),
        text => assemble(sections),
        form => format!("{{{form}}}"),
    };
    render(name, template, values)
}

fn references(shown: &[Excerpt<'_>]) -> Vec<Value> {
    shown.iter().map(|item| context! { id => item.id, text => item.text.as_ref() }).collect()
}

/// What templates may use; to make it takes longer than to render one.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    // A block on a line of its own leaves no trace of that line.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    let mut environment = Environment::new();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    // A name that a template misspells is an error, not an empty text.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
});

fn render(name: &'static str, template: &str, values: Value) -> Result<String, PromptError> {
    check_template(template).map_err(|bound| PromptError { name, problem: bound.to_string() })?;
    if let Some(line) = adds_lists(template) {
        return Err(PromptError { name, problem: format!("line {line}: `+` adds a number only; join texts with `~`") });
    }
    let text = ENVIRONMENT.render_str(template, values);
    let text = text.map_err(|error| PromptError { name, problem: problem(&error) })?;
    Ok(text.trim().to_owned())
}

fn problem(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line}: {detail}"),
        None => detail,
    }
}

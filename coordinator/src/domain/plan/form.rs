//! The form of a plan's lines, and a plan as prompts show it.

use super::step::{Plan, Step};
use crate::domain::language::Language;

/// The form of a line, as prompts and messages show it.
pub fn form(language: Language) -> &'static str {
    match language {
        Language::En => "Paragraph N - Main Point: ... - Word Count: NNN words",
        Language::Zh => "段落N - 主要内容：…… - 字数：NNN字",
    }
}

/// A plan as prompts show it, in the form that was asked for.
pub fn render(plan: &Plan, language: Language) -> String {
    let lines = plan.steps.iter().enumerate().map(|(index, step)| render_step(index, step, language));
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines around one step: its group of so many and the next, and dots for those left out. The lines change with the
/// group and not with the step, so that prompts share them. 0 gives all lines.
pub fn render_around(plan: &Plan, step: usize, group: usize, language: Language) -> String {
    let steps = plan.steps.len();
    if group == 0 || steps <= 2 * group {
        return render(plan, language);
    }
    let first = step / group * group;
    let last = (first + 2 * group).min(steps);
    let mut lines: Vec<String> = (first..last).map(|index| render_step(index, &plan.steps[index], language)).collect();
    if first > 0 {
        lines.insert(0, "…".into());
    }
    if last < steps {
        lines.push("…".into());
    }
    lines.join("\n")
}

fn render_step(index: usize, step: &Step, language: Language) -> String {
    let (number, point, words) = (index + 1, &step.main_point, step.words);
    match language {
        Language::En => format!("Paragraph {number} - Main Point: {point} - Word Count: {words} words"),
        Language::Zh => format!("段落{number} - 主要内容：{point} - 字数：{words}字"),
    }
}

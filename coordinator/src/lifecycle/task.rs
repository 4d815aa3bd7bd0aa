//! What a worker is asked to do next: a pure function of the document and the recipe.

use std::collections::BTreeSet;

use longhand_proto::task::{Constraint, LengthControl, Letters, Message, Sampling, Task, TaskKind};

use crate::domain::document::{Document, Progress, Rejection, Section};
use crate::domain::language::Language;
use crate::domain::plan::Plan;
use crate::domain::recipe::{PromptError, Recipe};
use crate::domain::section_budget::SectionBudget;
use crate::domain::{judge, seed};
use crate::text::{names, prompt};

/// Room for a short section: punctuation, headings and names cost tokens that no word count sees.
const MIN_SECTION_TOKENS: u32 = 64;
/// Most tokens of a text that is written in one piece; a model's window is mostly less.
const SINGLE_PIECE_MAX_TOKENS: u32 = 32_768;
/// A text so many times as long as was asked for has a length score of 0: to write on would change nothing.
const MAX_LENGTH_RATIO: u32 = 4;
/// How a conclusion begins, and a letter ends.
const CONCLUSIONS_EN: [&str; 11] = [
    "In conclusion",
    "To conclude",
    "In summary",
    "To summarize",
    "To sum up",
    "In closing",
    "The end.",
    "Sincerely,",
    "Yours sincerely",
    "Yours faithfully",
    "Best regards",
];
const CONCLUSIONS_ZH: [&str; 6] = ["综上所述", "总而言之", "总之", "总的来说", "此致", "敬礼"];
/// A Chinese text has no other Latin words than its instruction and its context have, if those have no more than so many.
const MAX_LATIN_WORDS: usize = 32;
/// What a Chinese text on it needs Latin words for.
const LATIN_SUBJECTS: &str =
    "英语 英文 外语 外文 法语 德语 拉丁 西班牙语 双语 单词 字母 代码 编程 程序 脚本 软件 算法 公式";
/// Rules of what was said before.
const REPETITION_RULES: [&str; 4] =
    ["repetition_within", "repetition_between", "section_similarity", "repeated_sentences"];
/// With each draft that such a rule rejected, DRY's multiplier grows by this.
const REPETITION_STEP: f32 = 1.5;
/// A summary may be shorter than it was asked to be, down to this share.
const SUMMARY_FLOOR: f32 = 0.5;

impl Document {
    /// The task to lease out, or none if the document is at an end. [`Task::attempt`] is 1 plus the errors of the
    /// task; a caller that knows of lost and released leases may add them.
    ///
    /// Fails only on a template that a recipe named and that cannot be rendered for this very document. Give that
    /// error to [`Document::apply`] as an [`super::Outcome::Error`]: it converts into a permanent failure.
    pub fn next_task(&self, recipe: &Recipe) -> Result<Option<Task>, PromptError> {
        match &self.progress {
            Progress::Planning { repair } => self.plan_task(recipe, repair.as_deref()).map(Some),
            Progress::Writing { plan, .. } if plan.is_single_piece() => Ok(Some(self.single_piece_task(recipe))),
            Progress::Writing { plan, sections, .. } => self.section_task(recipe, plan, sections).map(Some),
            Progress::Summarising { plan, sections } => self.summary_task(recipe, plan, sections).map(Some),
            Progress::Judging { sections, votes, .. } => self.judge_task(recipe, sections, votes.len()).map(Some),
            Progress::Finished { .. } | Progress::Failed { .. } | Progress::Cancelled { .. } => Ok(None),
        }
    }

    fn plan_task(&self, recipe: &Recipe, repair: Option<&str>) -> Result<Task, PromptError> {
        let (language, required_words) = (self.instruction.language, self.instruction.required_words);
        let rules = recipe.plan.of_language(language);
        let prompt = prompt::plan(recipe, &self.instruction, repair)?;
        let grammar = || Constraint::Lark(crate::domain::plan::grammar(&rules, language, required_words));
        Ok(Task {
            constraint: rules.grammar.then(grammar),
            max_tokens: rules.max_tokens,
            ..self.task(TaskKind::Plan, 0, prompt, recipe)
        })
    }

    fn section_task(&self, recipe: &Recipe, plan: &Plan, sections: &[Section]) -> Result<Task, PromptError> {
        let rules = &recipe.section;
        let SectionBudget { target: target_words, floor, .. } =
            SectionBudget::next(rules, plan, sections, &self.rejections);
        let messages = prompt::section(recipe, &self.instruction, plan, self.written(sections))?;
        let length =
            || LengthControl { target_words, floor, bias: rules.bias, ceiling: rules.ceiling, hard: rules.hard };
        let task = self.task(TaskKind::Section, sections.len() as u32, String::new(), recipe);
        Ok(Task {
            length: rules.length_control.then(length),
            max_tokens: max_tokens(recipe, target_words),
            messages,
            ban: self.banned(recipe, sections.len() + 1 == plan.steps.len()),
            sampling: self.section_sampling(recipe),
            names: [self.names(plan, sections), task.names].concat(),
            ..task
        })
    }

    /// The instruction as it is, to be answered at the length that the model chooses.
    fn single_piece_task(&self, recipe: &Recipe) -> Task {
        Task {
            messages: self.instruction.messages.clone(),
            max_tokens: match self.instruction.required_words {
                Some(words) => max_tokens(recipe, words.saturating_mul(MAX_LENGTH_RATIO)).min(SINGLE_PIECE_MAX_TOKENS),
                None => SINGLE_PIECE_MAX_TOKENS,
            },
            ..self.task(TaskKind::Section, 0, String::new(), recipe)
        }
    }

    fn summary_task(&self, recipe: &Recipe, plan: &Plan, sections: &[Section]) -> Result<Task, PromptError> {
        let (rules, target_words) = (&recipe.section, recipe.rolling.summary_words);
        let until = self.sections_to_summarise(recipe, sections).unwrap_or(sections.len());
        let (summary, older) = self.visible(&sections[..until]);
        let summary = summary.map(|summary| summary.text.as_str());
        let prompt = prompt::summary(recipe, &self.instruction, plan, (summary, older))?;
        let length =
            || LengthControl { target_words, floor: SUMMARY_FLOOR, bias: rules.bias, ceiling: 1.0, hard: rules.hard };
        Ok(Task {
            length: rules.length_control.then(length),
            max_tokens: max_tokens(recipe, target_words),
            ..self.task(TaskKind::Summary, self.summaries.len() as u32, prompt, recipe)
        })
    }

    fn judge_task(&self, recipe: &Recipe, sections: &[Section], vote: usize) -> Result<Task, PromptError> {
        let rules = &recipe.judge;
        let prompt = prompt::judge(recipe, &self.instruction, sections)?;
        Ok(Task {
            constraint: Some(Constraint::JsonSchema(judge::schema())),
            max_tokens: rules.max_tokens,
            ..self.task(TaskKind::Judge, vote as u32, prompt, recipe)
        })
    }

    /// What all tasks of a document share.
    fn task(&self, kind: TaskKind, section: u32, prompt: String, recipe: &Recipe) -> Task {
        let letters = self.letters(kind);
        Task {
            run: self.run.clone(),
            document: self.id,
            kind,
            section,
            attempt: self.failed_tries() + 1,
            messages: vec![Message { role: "user".into(), content: prompt }],
            sampling: *recipe.sampling(kind),
            length: None,
            constraint: None,
            ban: Vec::new(),
            max_tokens: 0,
            seed: self.task_seed(kind, section),
            letters,
            words_left: self.words_left(kind),
            names: self.latin_names(letters),
            traceparent: self.traceparent.clone(),
        }
    }

    /// Words planned for what is not written yet; 0 if nobody said.
    fn words_left(&self, kind: TaskKind) -> u32 {
        match (kind, self.plan()) {
            (TaskKind::Judge, _) => 1,
            (_, Some(plan)) if !plan.is_single_piece() => {
                plan.steps.iter().skip(self.sections().len()).map(|step| step.words).sum()
            }
            _ => self.instruction.required_words.unwrap_or(0),
        }
    }

    /// Phrases that a section does not hold. One before the last does not conclude.
    fn banned(&self, recipe: &Recipe, is_last: bool) -> Vec<String> {
        let (phrases, conclusions) = match self.instruction.language {
            Language::En => (&recipe.section.ban_en, CONCLUSIONS_EN.as_slice()),
            Language::Zh => (&recipe.section.ban_zh, CONCLUSIONS_ZH.as_slice()),
        };
        // A phrase of the instruction itself must be writable.
        let given = self.instruction.text().to_lowercase();
        let conclusions =
            conclusions.iter().filter(|_| !is_last && !phrases.is_empty()).map(|phrase| (*phrase).to_owned());
        phrases.iter().cloned().chain(conclusions).filter(|phrase| !given.contains(&phrase.to_lowercase())).collect()
    }

    /// Names that a section keeps to: those of the instruction, the plan and the sections before it.
    fn names(&self, plan: &Plan, sections: &[Section]) -> Vec<String> {
        let instruction = self.instruction.text();
        let points = plan.steps.iter().map(|step| step.main_point.as_str());
        let outline: Vec<&str> = instruction.lines().chain(points).collect();
        let written: Vec<&str> = sections.iter().map(|section| section.text.as_str()).collect();
        names::find(self.instruction.language, &outline, &written)
    }

    /// A draft that repeated too much is written again with a stronger penalty.
    fn section_sampling(&self, recipe: &Recipe) -> Sampling {
        let repeated = |rejection: &&Rejection| REPETITION_RULES.contains(&rejection.rule.as_str());
        let times = self.rejections.iter().filter(repeated).count();
        let sampling = *recipe.sampling(TaskKind::Section);
        Sampling { dry_multiplier: sampling.dry_multiplier * REPETITION_STEP.powi(times as i32), ..sampling }
    }

    /// The letters of a text of this kind: those of the document's language, unless the instruction has others too. Where a
    /// Chinese word would repeat what was said, a model writes the English one if it may. A judge's answer is JSON, and quotes
    /// nothing.
    fn letters(&self, kind: TaskKind) -> Letters {
        let own = match (kind, self.instruction.language) {
            (TaskKind::Judge, _) => return Letters::Any,
            (TaskKind::Plan | TaskKind::Section | TaskKind::Summary, Language::En) => Letters::Latin,
            (TaskKind::Plan | TaskKind::Section | TaskKind::Summary, Language::Zh) => Letters::Chinese,
        };
        let is_on_latin = |text: &str| LATIN_SUBJECTS.split(' ').any(|word| text.contains(word));
        let needs_latin = || self.given().any(is_on_latin) || self.latin_words().len() > MAX_LATIN_WORDS;
        if !self.given().all(|text| text.chars().all(|c| own.allow(c))) {
            Letters::Any
        } else if own == Letters::Chinese && !needs_latin() {
            Letters::Han
        } else {
            own
        }
    }

    /// The texts of the instruction and of its context.
    fn given(&self) -> impl Iterator<Item = &str> {
        let messages = self.instruction.messages.iter().map(|message| message.content.as_str());
        messages.chain(self.instruction.context.iter().map(|context| context.text.as_str()))
    }

    /// The Latin words that a text in these letters may have, where it may have no others.
    fn latin_names(&self, letters: Letters) -> Vec<String> {
        let words = (letters == Letters::Han).then(|| self.latin_words());
        words.into_iter().flatten().map(str::to_owned).collect()
    }

    fn latin_words(&self) -> BTreeSet<&str> {
        self.given().flat_map(names::latin).collect()
    }

    /// The seed of this try of a task.
    pub(crate) fn task_seed(&self, kind: TaskKind, section: u32) -> u64 {
        seed::of_task(self.seed, self.round, kind, section, self.failed_tries())
    }
}

/// Bound on the tokens of a text of so many words.
fn max_tokens(recipe: &Recipe, words: u32) -> u32 {
    let tokens = (f64::from(words) * f64::from(recipe.section.max_tokens_per_word)).ceil() as u32;
    tokens.max(MIN_SECTION_TOKENS)
}

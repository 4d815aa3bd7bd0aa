//! What a finished task makes of a document. The state is moved by value: it is taken out of the document, and what becomes
//! of it is put back.

use longhand_proto::task::{Failure, FinishReason, ModelInfo, Output, TaskKind, Usage};
use longhand_proto::{WorkerId, words};

use super::gate;
use super::transition::{Outcome, Position, Transition, is_valid_transition};
use crate::domain::document::{
    Assembled, Document, Progress, Rejection, Section, Summary, Verdict, add_usage, assemble,
};
use crate::domain::instruction::Instruction;
use crate::domain::judge::{self, Vote};
use crate::domain::plan::{self, Plan, PlanError};
use crate::domain::recipe::Recipe;
use crate::domain::section_budget::SectionBudget;
use crate::domain::state::State;
use crate::text::filter::Measured;
use crate::text::{context, filter, plan_check};

/// Error class of a judge's answer that cannot be read.
const BAD_VERDICT: &str = "bad_verdict";
/// Rule of a document whose score is too low.
pub(crate) const SCORE_QUALITY: &str = "score_quality";
/// Error class of a document that was to be judged, and that no vote judges.
const UNJUDGED: &str = "unjudged";

impl Document {
    /// Takes the end of an attempt of the current task. A document at an end stays as it is: the store has fenced such
    /// a call off already.
    pub fn apply(&mut self, recipe: &Recipe, outcome: Outcome) -> Transition {
        self.checked(|document| match outcome {
            _ if document.ended().is_some() => document.transition(),
            Outcome::Error(failure) => {
                let progress = document.take_progress();
                document.fail_attempt(recipe, failure, progress)
            }
            Outcome::Written { output, worker, model } => document.apply_output(recipe, output, worker, model),
        })
    }

    fn apply_output(&mut self, recipe: &Recipe, output: Output, worker: WorkerId, model: ModelInfo) -> Transition {
        add_usage(&mut self.usage, output.usage);
        match self.take_progress() {
            Progress::Planning { repair: _ } => {
                self.model = Some(model);
                self.apply_plan(recipe, &output)
            }
            Progress::Writing { plan, sections, tail_sections } => {
                self.model = Some(model);
                self.apply_section(recipe, output, worker, (plan, sections, tail_sections))
            }
            Progress::Summarising { plan, sections } => {
                self.model = Some(model);
                self.apply_summary(recipe, &output, worker, plan, sections)
            }
            Progress::Judging { plan, sections, votes } => {
                self.apply_vote(recipe, &output, (worker, &model), (plan, sections, votes))
            }
            end @ (Progress::Finished { .. } | Progress::Failed { .. } | Progress::Cancelled { .. }) => {
                self.move_to(end)
            }
        }
    }

    fn apply_plan(&mut self, recipe: &Recipe, output: &Output) -> Transition {
        match read_plan(recipe, output, &self.instruction) {
            Ok(plan) => {
                self.next_task_begins();
                self.move_to(Progress::Writing { plan, sections: Vec::new(), tail_sections: Vec::new() })
            }
            Err(error) => {
                let (class, message) = (error.class().to_owned(), error.to_string());
                let permanent = error.is_final() || self.errors + 1 >= recipe.plan.tries;
                let repair = Some(message.clone());
                self.fail_attempt(recipe, Failure { class, message, permanent }, Progress::Planning { repair })
            }
        }
    }

    fn apply_section(
        &mut self,
        recipe: &Recipe,
        output: Output,
        worker: WorkerId,
        (plan, mut sections, tail_sections): (Plan, Vec<Section>, Vec<Section>),
    ) -> Transition {
        let index = sections.len();
        let step = &plan.steps[index];
        let budget = SectionBudget::next(&recipe.section, &plan, &sections, &self.rejections);
        let text = filter::clean_section(&output.text, &step.main_point);
        let last_try = self.errors + 1 >= recipe.retry.max_errors;
        if let Some((class, what)) = section_fault(&plan, index, output.finish_reason, &text, last_try) {
            let message = format!("section {} of {}: {what}", index + 1, plan.steps.len());
            let failure = Failure { class: class.into(), message, permanent: false };
            return self.fail_attempt(recipe, failure, Progress::Writing { plan, sections, tail_sections });
        }
        let words = words::count(&text) as u32;
        let context = context::for_step(&recipe.context, &self.instruction, &step.main_point).ids();
        sections.push(Section {
            text,
            target_words: budget.target,
            asked_words: (budget.asked != budget.target).then_some(budget.asked),
            words,
            finish_reason: output.finish_reason,
            attempt: self.failed_tries() + 1,
            worker,
            usage: output.usage,
            timings: output.timings,
            seed: self.task_seed(TaskKind::Section, index as u32),
            trace_id: self.trace_id(),
            context: if plan.is_single_piece() { Vec::new() } else { context },
            rejections: Vec::new(),
        });
        // One that was cut had its tries already.
        if !is_cut(output.finish_reason)
            && let Some(refused) = gate::section(recipe, &self.instruction, &plan, &sections)
        {
            return self.reject_section(recipe, refused, (plan, sections, tail_sections));
        }
        if let Some(section) = sections.last_mut() {
            section.rejections = self.take_rejections();
        }
        sections.extend(tail_sections);
        self.add_section(recipe, plan, sections)
    }

    /// The newest of `sections` is not taken: its step is written again. After the last try the best one is taken, or the
    /// document ends with the last one.
    fn reject_section(
        &mut self,
        recipe: &Recipe,
        refused: Measured,
        (plan, mut sections, tail_sections): (Plan, Vec<Section>, Vec<Section>),
    ) -> Transition {
        let index = sections.len() - 1;
        let section = &sections[index];
        let Measured { rule, value, threshold, fired: _, detail } = refused.clone();
        let rejection = Rejection {
            rule: rule.into(),
            value,
            threshold,
            detail,
            attempt: section.attempt,
            generated: section.usage.generated,
            asked_words: section.asked(),
            words: section.words,
            text: recipe.section.keep_drafts.then(|| section.text.clone()),
            draft: None,
        };
        let draft = recipe.section.keep_best.then(|| Box::new(section.clone()));
        self.rejections.push(Rejection { draft, ..rejection.clone() });
        self.errors = 0;
        if self.rejections.len() < recipe.section.tries as usize {
            sections.truncate(index);
            self.progress = Progress::Writing { plan, sections, tail_sections };
            return Transition::SectionRejected(rejection);
        }
        if let Some(best) = gate::best(&mut self.rejections) {
            sections[index] = best;
        }
        sections[index].rejections = self.take_rejections();
        sections.extend(tail_sections);
        if recipe.section.keep_best {
            return self.add_section(recipe, plan, sections);
        }
        self.next_task_begins();
        let tries = recipe.section.tries;
        let problem =
            format!("section {} of {}, each of {tries} tries: {}", index + 1, plan.steps.len(), refused.detail);
        let (text, verdict) = (assemble(&sections), Measured { detail: problem, ..refused }.rejected());
        self.move_to(Progress::Finished { plan, sections, text, verdict, votes: Vec::new() })
    }

    fn add_section(&mut self, recipe: &Recipe, plan: Plan, sections: Vec<Section>) -> Transition {
        self.next_task_begins();
        let truncated = sections.iter().filter(|section| is_cut(section.finish_reason)).count();
        let allowed = filter::TRUNCATED.threshold(&recipe.filters).unwrap_or(f64::INFINITY);
        let (written, steps) = (sections.len(), plan.steps.len());
        if truncated as f64 <= allowed && written < steps {
            let next = self.next_progress(recipe, plan, sections);
            return self.move_to(next);
        }
        let text = assemble(&sections);
        let verdict = if written < steps {
            Verdict::Rejected {
                rule: filter::TRUNCATED.name.into(),
                value: truncated as f64,
                threshold: allowed,
                detail: format!("section {written} of {steps} was cut on every try; writing ended there"),
            }
        } else {
            self.evaluate_text(recipe, &plan, &sections, &text)
        };
        let judged = verdict == Verdict::Accepted || (recipe.judge.all && written == steps);
        if judged && recipe.judge.votes > 0 {
            return self.move_to(Progress::Judging { plan, sections, votes: Vec::new() });
        }
        self.move_to(Progress::Finished { plan, sections, text, verdict, votes: Vec::new() })
    }

    /// What the filters say of a text.
    fn evaluate_text(&self, recipe: &Recipe, plan: &Plan, sections: &[Section], text: &str) -> Verdict {
        let assembled = Assembled { instruction: &self.instruction, plan, sections, text };
        filter::evaluate(&recipe.filters, &assembled)
    }

    fn apply_summary(
        &mut self,
        recipe: &Recipe,
        output: &Output,
        worker: WorkerId,
        plan: Plan,
        sections: Vec<Section>,
    ) -> Transition {
        let until = self.sections_to_summarise(recipe, &sections).unwrap_or(sections.len());
        let text = match output.finish_reason {
            FinishReason::Stop | FinishReason::Ceiling => output.text.trim(),
            // What was cut off is at most a sentence.
            FinishReason::Length => complete_sentences(&output.text),
            FinishReason::Repetition => "",
        };
        if text.is_empty() {
            let message = format!("the summary of the first {until} sections is empty, or fell into a loop");
            let failure = Failure { class: "bad_summary".into(), message, permanent: false };
            return self.fail_attempt(recipe, failure, Progress::Summarising { plan, sections });
        }
        let seed = self.task_seed(TaskKind::Summary, self.summaries.len() as u32);
        let summary = Summary { text: text.to_owned(), sections: until as u32, worker, usage: output.usage, seed };
        self.next_task_begins();
        self.summaries.push(summary);
        let next = self.next_progress(recipe, plan, sections);
        self.move_to(next)
    }

    fn apply_vote(
        &mut self,
        recipe: &Recipe,
        output: &Output,
        by: (WorkerId, &ModelInfo),
        (plan, sections, votes): (Plan, Vec<Section>, Vec<Vote>),
    ) -> Transition {
        match judge::parse(&output.text) {
            Ok(scores) => {
                let vote = Vote { scores: Some(scores), ..self.unread_vote(votes.len(), output.usage, Some(by)) };
                self.add_vote(recipe, vote, recipe.judge.votes, (plan, sections, votes))
            }
            Err(error) => {
                let failure = Failure { class: BAD_VERDICT.into(), message: error.to_string(), permanent: false };
                self.fail_attempt(recipe, failure, Progress::Judging { plan, sections, votes })
            }
        }
    }

    /// Vote `index`, as one that could not be read.
    fn unread_vote(&self, index: usize, usage: Usage, by: Option<(WorkerId, &ModelInfo)>) -> Vote {
        let (worker, model) = by.unzip();
        let (model, weights_hash) =
            model.map(|model| (model.name.clone(), model.weights_hash.clone())).unwrap_or_default();
        Vote {
            scores: None,
            problem: String::new(),
            attempt: self.errors + 1,
            worker,
            model,
            weights_hash,
            seed: self.task_seed(TaskKind::Judge, index as u32),
            usage,
        }
    }

    /// Adds a vote; the last of `wanted` ends the document.
    fn add_vote(
        &mut self,
        recipe: &Recipe,
        vote: Vote,
        wanted: u32,
        (plan, sections, mut votes): (Plan, Vec<Section>, Vec<Vote>),
    ) -> Transition {
        self.next_task_begins();
        votes.push(vote);
        if (votes.len() as u32) < wanted {
            return self.move_to(Progress::Judging { plan, sections, votes });
        }
        let (least, text) = (recipe.judge.min, assemble(&sections));
        let verdict = match (self.evaluate_text(recipe, &plan, &sections, &text), judge::score_quality(&votes)) {
            (rejected @ Verdict::Rejected { .. }, _) => rejected,
            (Verdict::Accepted, None) if least > 0.0 => {
                let last = votes.last().map_or("", |vote| vote.problem.as_str());
                let message = format!("none of {} votes of the judge could be read; the last: {last}", votes.len());
                let (class, plan) = (UNJUDGED.to_owned(), Some(plan));
                return self.move_to(Progress::Failed { class, message, plan, sections });
            }
            (Verdict::Accepted, Some(score)) if score < least => Verdict::Rejected {
                rule: SCORE_QUALITY.into(),
                value: score,
                threshold: least,
                detail: describe_votes(&votes),
            },
            (Verdict::Accepted, Some(_) | None) => Verdict::Accepted,
        };
        self.move_to(Progress::Finished { plan, sections, text, verdict, votes })
    }

    /// Counts an error of the current task of `progress`: again, or the end.
    fn fail_attempt(&mut self, recipe: &Recipe, failure: Failure, progress: Progress) -> Transition {
        self.errors += 1;
        if !failure.permanent && self.errors < recipe.retry.max_errors {
            self.progress = progress;
            return Transition::Retry { errors: self.errors, failure };
        }
        let Failure { class, message, permanent } = failure;
        if let Progress::Judging { plan, sections, votes } = progress {
            // The text is good whatever becomes of the vote. A permanent error would end the other votes too.
            let wanted = if permanent { votes.len() as u32 + 1 } else { recipe.judge.votes };
            self.errors -= 1;
            let problem = format!("{class}: {message}");
            let vote = Vote { problem, ..self.unread_vote(votes.len(), Usage::default(), None) };
            return self.add_vote(recipe, vote, wanted, (plan, sections, votes));
        }
        let (plan, sections) = progress.into_text();
        self.move_to(Progress::Failed { class, message, plan, sections })
    }

    /// The current task is done: what went wrong with it counts no more.
    pub(super) fn next_task_begins(&mut self) {
        self.errors = 0;
        self.rejections.clear();
    }

    /// The rejections of the current task, without the sections that they were.
    fn take_rejections(&mut self) -> Vec<Rejection> {
        std::mem::take(&mut self.rejections)
            .into_iter()
            .map(|rejection| Rejection { draft: None, ..rejection })
            .collect()
    }

    /// Takes the progress out, for a change that puts another one back.
    pub(super) fn take_progress(&mut self) -> Progress {
        std::mem::replace(&mut self.progress, Progress::Planning { repair: None })
    }

    /// Puts the progress back as the change left it.
    pub(super) fn move_to(&mut self, next: Progress) -> Transition {
        self.progress = next;
        self.transition()
    }

    /// Makes a change, and checks in debug builds that it is a legal one.
    pub(super) fn checked(&mut self, change: impl FnOnce(&mut Self) -> Transition) -> Transition {
        let (from, ended) = (Position::of(&self.progress), self.ended().is_some());
        let transition = change(self);
        let to = Position::of(&self.progress);
        let stays = matches!(transition, Transition::Retry { .. } | Transition::SectionRejected(_))
            || (ended && self.ended().is_some());
        debug_assert!((stays && from == to) || is_valid_transition(from, to), "from {from:?} to {to:?}");
        transition
    }

    /// What the store is to do with the document as it stands.
    fn transition(&self) -> Transition {
        match self.ended() {
            Some((state, reason)) => Transition::Ended { state, reason },
            None => Transition::NextTask,
        }
    }

    /// State and reason if the document is at an end: what [`Transition::Ended`] said when it got there.
    pub fn ended(&self) -> Option<(State, String)> {
        let (state, reason) = match &self.progress {
            Progress::Planning { .. }
            | Progress::Writing { .. }
            | Progress::Summarising { .. }
            | Progress::Judging { .. } => return None,
            Progress::Finished { verdict: Verdict::Accepted, .. } => (State::Accepted, ""),
            Progress::Finished { verdict: Verdict::Rejected { rule, .. }, .. } => (State::Rejected, rule.as_str()),
            Progress::Failed { class, .. } => (State::Failed, class.as_str()),
            Progress::Cancelled { .. } => (State::Cancelled, ""),
        };
        Some((state, reason.to_owned()))
    }
}

/// Error class and message of a section that is not taken; `text` is what cleaning left of it.
fn section_fault(
    plan: &Plan,
    index: usize,
    finish_reason: FinishReason,
    text: &str,
    last_try: bool,
) -> Option<(&'static str, String)> {
    let words = words::count(text);
    match finish_reason {
        _ if text.is_empty() => Some(("empty_section", "nothing is left of the text after cleaning".to_owned())),
        // A text in one piece is the model's as it is, with its loop or its open end.
        FinishReason::Repetition | FinishReason::Length if plan.is_single_piece() => None,
        FinishReason::Repetition => Some(("repetition", format!("the model fell into a loop after {words} words"))),
        FinishReason::Length if !last_try => {
            Some(("truncated_section", format!("cut at {words} of {} words", plan.steps[index].words)))
        }
        // On the last try it is kept, marked by its finish reason.
        FinishReason::Length | FinishReason::Stop | FinishReason::Ceiling => None,
    }
}

/// True for a section that did not come to its own end.
fn is_cut(reason: FinishReason) -> bool {
    match reason {
        FinishReason::Length | FinishReason::Repetition => true,
        FinishReason::Stop | FinishReason::Ceiling => false,
    }
}

/// The plan in a worker's text, its budgets scaled to the length asked for.
fn read_plan(recipe: &Recipe, output: &Output, instruction: &Instruction) -> Result<Plan, PlanError> {
    match output.finish_reason {
        FinishReason::Stop | FinishReason::Ceiling => {}
        FinishReason::Length => return Err(PlanError::Cut),
        FinishReason::Repetition => return Err(PlanError::Loop),
    }
    let rules = recipe.plan.of_language(instruction.language);
    let plan = plan::parse(&output.text, &rules, instruction.language)?;
    let plan = plan_check::check(plan, instruction, &rules)?;
    match instruction.required_words {
        Some(required) => plan.scale(required, &rules),
        None => Ok(plan),
    }
}

/// `text` up to its last sentence end; all of it if it has none.
fn complete_sentences(text: &str) -> &str {
    let text = text.trim();
    let end = text.rfind(['.', '!', '?', '。', '！', '？', '…']);
    match end.and_then(|at| Some(at + text[at..].chars().next()?.len_utf8())) {
        Some(end) => &text[..end],
        None => text,
    }
}

/// What the votes say, for people.
fn describe_votes(votes: &[Vote]) -> String {
    let means = judge::means(votes).map_or([0.0; 6], |means| means.all());
    let scores = judge::DIMENSIONS.iter().zip(means).map(|(name, mean)| format!("{name} {mean:.1}"));
    let (read, all) = (votes.len() - judge::unread(votes), votes.len());
    format!("{} (mean of {read} of {all} votes)", scores.collect::<Vec<_>>().join(", "))
}

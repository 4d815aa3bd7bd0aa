//! What a finished task makes of a document. All moves between states stand here.

use longhand_proto::WorkerId;
use longhand_proto::task::{Failure, FinishReason, ModelInfo, Output, TaskKind, Usage};

use crate::domain::document::{Assembled, BAD_ROW, Document, Progress, Section, Summary, Verdict, add_usage, assemble};
use crate::domain::instruction::Instruction;
use crate::domain::judge::{self, Vote};
use crate::domain::plan::{self, Plan, PlanError};
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::text::{context, filter};

/// How an attempt ended, for one that its worker reported while it held the lease.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Written { output: Output, worker: WorkerId, model: ModelInfo },
    Error(Failure),
}

/// What the store is to do with the document after an [`Outcome`].
#[derive(Debug, Clone, PartialEq)]
#[must_use = "the store must be told"]
pub enum Applied {
    /// The document waits for its next task.
    NextTask,
    /// The same task again, after a back-off: see [`crate::domain::recipe::Retry::delay_ms`].
    Retry { errors: u32, failure: Failure },
    /// At an end. The reason is the rule of a rejected document, the error class of a failed one, else empty.
    Ended { state: State, reason: String },
}

/// A requeue or cancel that the document's state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("document is {state}: {remedy}")]
pub struct Refused {
    pub state: &'static str,
    pub remedy: &'static str,
}

/// Error class of a judge's answer that cannot be read.
const BAD_VERDICT: &str = "bad_verdict";
/// Rule of a document whose score is too low.
pub(crate) const SCORE_QUALITY: &str = "score_quality";
/// Error class of a document that was to be judged, and that no vote judges.
const UNJUDGED: &str = "unjudged";

/// All legal moves. Drawn in the documentation of [`crate::domain::document`].
fn may_move(from: &Progress, to: &Progress) -> bool {
    use Progress::{Cancelled, Failed, Finished, Judging, Planning, Summarising, Writing};
    match (from, to) {
        (Planning { repair: None }, Planning { repair: Some(_) }) => true,
        (Planning { .. }, Writing { sections, .. }) => sections.is_empty(),
        (Writing { sections: old, .. }, Writing { sections: new, kept: _, .. } | Summarising { sections: new, .. }) => {
            new.len() == old.len() + 1
        }
        (Summarising { sections: old, .. }, Summarising { sections: new, .. } | Writing { sections: new, .. }) => {
            new.len() == old.len()
        }
        (Writing { sections: old, kept, .. }, Judging { sections: new, .. } | Finished { sections: new, .. }) => {
            new.len() == old.len() + 1 + kept.len()
        }
        (Judging { votes: old, .. }, Judging { votes: new, .. } | Finished { votes: new, .. }) => new.len() > old.len(),
        (Planning { .. } | Writing { .. } | Summarising { .. } | Judging { .. }, Failed { .. } | Cancelled { .. }) => {
            true
        }
        // Requeued. A row that could not be read has nothing to write from.
        (Failed { class, .. }, _) if class == BAD_ROW => false,
        (
            Finished { .. } | Failed { .. } | Cancelled { .. },
            Planning { repair: None } | Writing { .. } | Summarising { .. } | Judging { .. },
        ) => true,
        _ => false,
    }
}

impl Document {
    /// Takes the end of an attempt of the current task. A document at an end stays as it is: the store has fenced such
    /// a call off already.
    pub fn apply(&mut self, recipe: &Recipe, outcome: Outcome) -> Applied {
        if let Some((state, reason)) = self.ended() {
            return Applied::Ended { state, reason };
        }
        let (output, worker, model) = match outcome {
            Outcome::Error(failure) => return self.error(recipe, failure),
            Outcome::Written { output, worker, model } => (output, worker, model),
        };
        add_usage(&mut self.usage, output.usage);
        if let Progress::Judging { .. } = &self.progress {
            return self.take_vote(recipe, &output, worker, &model);
        }
        self.model = Some(model);
        match &self.progress {
            Progress::Planning { repair } => {
                let repaired = repair.is_some();
                self.take_plan(recipe, &output, repaired)
            }
            Progress::Writing { .. } => self.take_section(recipe, output, worker),
            Progress::Summarising { .. } => self.take_summary(recipe, &output, worker),
            Progress::Judging { .. }
            | Progress::Finished { .. }
            | Progress::Failed { .. }
            | Progress::Cancelled { .. } => unreachable!("answered above"),
        }
    }

    /// Ends the document by hand. Refused if it is at an end already.
    pub fn cancel(&mut self) -> Result<Applied, Refused> {
        if self.ended().is_some() {
            return Err(Refused { state: self.state_word(), remedy: "there is nothing left to cancel" });
        }
        let (plan, sections) = (self.plan().cloned(), self.sections().to_vec());
        Ok(self.end(Progress::Cancelled { plan, sections }))
    }

    /// Takes an ended document up again, as a new round with other seeds. With `from_section` the plan and the sections
    /// before that index are kept; without it, a document that failed or was cancelled goes on where it stood, and any
    /// other begins with a new plan.
    pub fn requeue(&mut self, recipe: &Recipe, from_section: Option<usize>) -> Result<Applied, Refused> {
        let refuse = |document: &Self, remedy| Err(Refused { state: document.state_word(), remedy });
        let from = match (&self.progress, from_section) {
            _ if self.ended().is_none() => {
                return refuse(self, "it is still being written; wait for its end or cancel it first");
            }
            (Progress::Failed { class, .. }, _) if class == BAD_ROW => {
                return refuse(self, "its input row could not be read; correct the row and submit the file again");
            }
            (Progress::Finished { plan, .. }, None) if !plan.is_whole() => {
                self.take_up(Progress::Planning { repair: None });
                return Ok(Applied::NextTask);
            }
            (Progress::Finished { .. }, None) => 0,
            (_, None) => self.sections().len(),
            (_, Some(index)) => index,
        };
        let sections = self.sections();
        let next = match self.plan() {
            Some(plan) if from < plan.steps.len() && from <= sections.len() => {
                let (plan, sections) = (plan.clone(), sections[..from].to_vec());
                self.forget_after(from);
                self.onward(recipe, plan, sections)
            }
            // All was written: only the judge can have stood in the way.
            Some(plan) if from_section.is_none() && sections.len() == plan.steps.len() => {
                Progress::Judging { plan: plan.clone(), sections: sections.to_vec(), votes: Vec::new() }
            }
            None if from_section.is_none() => Progress::Planning { repair: None },
            _ => return refuse(self, "it has no such section to begin with; look at the sections that it has"),
        };
        self.take_up(next);
        Ok(Applied::NextTask)
    }

    /// Takes an ended document up again to write one section anew; those before and after it are kept as they are. Only
    /// for a document that has all its sections: else those that are missing would have to be written too.
    pub fn rewrite(&mut self, section: usize) -> Result<Applied, Refused> {
        let refuse = |remedy| Err(Refused { state: self.state_word(), remedy });
        if self.ended().is_none() {
            return refuse("it is still being written; wait for its end or cancel it first");
        }
        let sections = self.sections();
        let Some(plan) = self.plan().filter(|plan| plan.steps.len() == sections.len()) else {
            return refuse("it does not have all its sections; leave --only out to go on from there");
        };
        if section >= sections.len() {
            return refuse("it has no such section; look at the sections that it has");
        }
        let (before, after) = (sections[..section].to_vec(), sections[section + 1..].to_vec());
        let next = Progress::Writing { plan: plan.clone(), sections: before, kept: after };
        self.forget_after(section);
        self.take_up(next);
        Ok(Applied::NextTask)
    }

    /// Ends the document as failed, for a reason that none of its attempts could tell: its workers never came back.
    /// Nothing if it is at an end already.
    pub fn fail(&mut self, class: &str, message: &str) {
        if self.ended().is_none() {
            let (plan, sections) = (self.plan().cloned(), self.sections().to_vec());
            self.move_to(Progress::Failed { class: class.into(), message: message.into(), plan, sections });
        }
    }

    fn take_up(&mut self, next: Progress) {
        if matches!(next, Progress::Planning { .. }) {
            self.summaries.clear();
        }
        self.move_to(next);
        self.errors = 0;
        self.round += 1;
    }

    fn take_plan(&mut self, recipe: &Recipe, output: &Output, repaired: bool) -> Applied {
        match read_plan(recipe, output, &self.instruction) {
            Ok(plan) => {
                self.move_to(Progress::Writing { plan, sections: Vec::new(), kept: Vec::new() });
                self.errors = 0;
                Applied::NextTask
            }
            Err(error) => {
                let (class, message) = (error.class().to_owned(), error.to_string());
                let permanent = error.is_final() || (repaired && !error.is_chance());
                if !permanent && !repaired {
                    self.move_to(Progress::Planning { repair: Some(message.clone()) });
                }
                self.error(recipe, Failure { class, message, permanent })
            }
        }
    }

    fn take_section(&mut self, recipe: &Recipe, output: Output, worker: WorkerId) -> Applied {
        let Progress::Writing { plan, sections, kept } = &self.progress else {
            unreachable!("only called while writing")
        };
        let (mut sections, plan, kept) = (sections.clone(), plan.clone(), kept.clone());
        let (index, steps) = (sections.len(), plan.steps.len());
        let earlier: Vec<&str> = sections.iter().map(|section| section.text.as_str()).collect();
        let text = filter::clean_section(&output.text, self.instruction.language, &earlier).trim().to_owned();
        let (words, target_words) = (longhand_proto::words::count(&text) as u32, plan.steps[index].words);
        let context = context::for_step(&recipe.context, &self.instruction, &plan.steps[index].main_point).ids();
        let last_try = self.errors + 1 >= recipe.retry.max_errors;
        let fault = match output.finish_reason {
            _ if text.is_empty() => Some(("empty_section", "nothing is left of the text after cleaning".to_owned())),
            // A text in one piece is the model's as it is, with its loop or its open end.
            FinishReason::Repetition | FinishReason::Length if plan.is_whole() => None,
            FinishReason::Repetition => Some(("repetition", format!("the model fell into a loop after {words} words"))),
            FinishReason::Length if !last_try => {
                Some(("truncated_section", format!("cut at {words} of {target_words} words")))
            }
            // On the last try it is kept, marked by its finish reason.
            FinishReason::Length | FinishReason::Stop | FinishReason::Ceiling => None,
        };
        if let Some((class, what)) = fault {
            let message = format!("section {} of {steps}: {what}", index + 1);
            return self.error(recipe, Failure { class: class.into(), message, permanent: false });
        }
        sections.push(Section {
            text,
            target_words,
            words,
            finish_reason: output.finish_reason,
            attempt: self.errors + 1,
            worker,
            usage: output.usage,
            timings: output.timings,
            seed: self.task_seed(TaskKind::Section, index as u32),
            trace_id: self.trace_id(),
            context: if plan.is_whole() { Vec::new() } else { context },
        });
        sections.extend(kept);
        self.add_section(recipe, plan, sections)
    }

    fn add_section(&mut self, recipe: &Recipe, plan: Plan, sections: Vec<Section>) -> Applied {
        self.errors = 0;
        let cut = |reason| match reason {
            FinishReason::Length | FinishReason::Repetition => true,
            FinishReason::Stop | FinishReason::Ceiling => false,
        };
        let truncated = sections.iter().filter(|section| cut(section.finish_reason)).count() as u32;
        let allowed = recipe.filters.max_truncated;
        let (written, steps) = (sections.len(), plan.steps.len());
        if truncated <= allowed && written < steps {
            let next = self.onward(recipe, plan, sections);
            self.move_to(next);
            return Applied::NextTask;
        }
        let text = assemble(&sections);
        let verdict = if written < steps {
            Verdict::Rejected {
                rule: "truncated".into(),
                value: f64::from(truncated),
                threshold: f64::from(allowed),
                detail: format!("section {written} of {steps} was cut on every try; writing ended there"),
            }
        } else {
            self.by_rules(recipe, &plan, &sections, &text)
        };
        let judged = verdict == Verdict::Accepted || (recipe.judge.all && written == steps);
        if judged && recipe.judge.votes > 0 {
            self.move_to(Progress::Judging { plan, sections, votes: Vec::new() });
            return Applied::NextTask;
        }
        self.end(Progress::Finished { plan, sections, text, verdict, votes: Vec::new() })
    }

    /// What the filters say of a text.
    fn by_rules(&self, recipe: &Recipe, plan: &Plan, sections: &[Section], text: &str) -> Verdict {
        let assembled = Assembled { instruction: &self.instruction, plan, sections, text };
        filter::judge(&recipe.filters, &assembled)
    }

    fn take_summary(&mut self, recipe: &Recipe, output: &Output, worker: WorkerId) -> Applied {
        let Progress::Summarising { plan, sections } = &self.progress else {
            unreachable!("only called while a summary is written")
        };
        let until = self.to_cover(recipe, sections).unwrap_or(sections.len());
        let text = match output.finish_reason {
            FinishReason::Stop | FinishReason::Ceiling => output.text.trim(),
            // What was cut off is at most a sentence.
            FinishReason::Length => whole_sentences(&output.text),
            FinishReason::Repetition => "",
        };
        if text.is_empty() {
            let message = format!("the summary of the first {until} sections is empty, or fell into a loop");
            return self.error(recipe, Failure { class: "bad_summary".into(), message, permanent: false });
        }
        let seed = self.task_seed(TaskKind::Summary, self.summaries.len() as u32);
        let summary = Summary { text: text.to_owned(), sections: until as u32, worker, usage: output.usage, seed };
        let (plan, sections) = (plan.clone(), sections.clone());
        self.errors = 0;
        self.summaries.push(summary);
        let next = self.onward(recipe, plan, sections);
        self.move_to(next);
        Applied::NextTask
    }

    fn take_vote(&mut self, recipe: &Recipe, output: &Output, worker: WorkerId, model: &ModelInfo) -> Applied {
        match judge::parse(&output.text) {
            Ok(scores) => {
                let vote = self.vote(output.usage, Some((worker, model)));
                self.add_vote(recipe, Vote { scores: Some(scores), ..vote }, recipe.judge.votes)
            }
            Err(error) => {
                let failure = Failure { class: BAD_VERDICT.into(), message: error.to_string(), permanent: false };
                self.error(recipe, failure)
            }
        }
    }

    /// The current vote, as one that could not be read.
    fn vote(&self, usage: Usage, by: Option<(WorkerId, &ModelInfo)>) -> Vote {
        let (_, index) = self.current();
        let (worker, model) = by.unzip();
        let (model, weights_hash) =
            model.map(|model| (model.name.clone(), model.weights_hash.clone())).unwrap_or_default();
        let seed = self.task_seed(TaskKind::Judge, index);
        Vote {
            scores: None,
            problem: String::new(),
            attempt: self.errors + 1,
            worker,
            model,
            weights_hash,
            seed,
            usage,
        }
    }

    /// Adds a vote; the last of `wanted` ends the document.
    fn add_vote(&mut self, recipe: &Recipe, vote: Vote, wanted: u32) -> Applied {
        let Progress::Judging { plan, sections, votes } = &self.progress else {
            unreachable!("only called while it is judged")
        };
        let (plan, sections, mut votes) = (plan.clone(), sections.clone(), votes.clone());
        self.errors = 0;
        votes.push(vote);
        if (votes.len() as u32) < wanted {
            self.move_to(Progress::Judging { plan, sections, votes });
            return Applied::NextTask;
        }
        let (least, text) = (recipe.judge.min, assemble(&sections));
        let verdict = match (self.by_rules(recipe, &plan, &sections, &text), judge::score_quality(&votes)) {
            (rejected @ Verdict::Rejected { .. }, _) => rejected,
            (Verdict::Accepted, None) if least > 0.0 => {
                let last = votes.last().map_or("", |vote| vote.problem.as_str());
                let message = format!("none of {} votes of the judge could be read; the last: {last}", votes.len());
                let (class, plan) = (UNJUDGED.to_owned(), Some(plan));
                return self.end(Progress::Failed { class, message, plan, sections });
            }
            (Verdict::Accepted, Some(score)) if score < least => {
                Verdict::Rejected { rule: SCORE_QUALITY.into(), value: score, threshold: least, detail: judged(&votes) }
            }
            (Verdict::Accepted, Some(_) | None) => Verdict::Accepted,
        };
        self.end(Progress::Finished { plan, sections, text, verdict, votes })
    }

    /// Counts an error of the current task: again, or the end.
    fn error(&mut self, recipe: &Recipe, failure: Failure) -> Applied {
        self.errors += 1;
        if !failure.permanent && self.errors < recipe.retry.max_errors {
            return Applied::Retry { errors: self.errors, failure };
        }
        if let Progress::Judging { votes, .. } = &self.progress {
            // The text is good whatever becomes of the vote. What no try can mend would befall the other votes too.
            let wanted = if failure.permanent { votes.len() as u32 + 1 } else { recipe.judge.votes };
            self.errors -= 1;
            let vote = self.vote(Usage::default(), None);
            let problem = format!("{}: {}", failure.class, failure.message);
            return self.add_vote(recipe, Vote { problem, ..vote }, wanted);
        }
        let Failure { class, message, .. } = failure;
        let (plan, sections) = (self.plan().cloned(), self.sections().to_vec());
        self.end(Progress::Failed { class, message, plan, sections })
    }

    fn end(&mut self, progress: Progress) -> Applied {
        let (state, reason) = ending(&progress).unwrap_or_else(|| unreachable!("only called with an end"));
        self.move_to(progress);
        Applied::Ended { state, reason }
    }

    fn move_to(&mut self, next: Progress) {
        debug_assert!(may_move(&self.progress, &next), "from {:?} to {next:?}", self.progress);
        self.progress = next;
    }

    /// State and reason if the document is at an end: what [`Applied::Ended`] said when it got there.
    pub fn ended(&self) -> Option<(State, String)> {
        ending(&self.progress)
    }

    fn state_word(&self) -> &'static str {
        self.ended().map_or("unfinished", |(state, _)| state.as_str())
    }
}

fn ending(progress: &Progress) -> Option<(State, String)> {
    let (state, reason) = match progress {
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

/// The plan in a worker's text, its budgets scaled to the length asked for.
fn read_plan(recipe: &Recipe, output: &Output, instruction: &Instruction) -> Result<Plan, PlanError> {
    match output.finish_reason {
        FinishReason::Stop | FinishReason::Ceiling => {}
        FinishReason::Length => return Err(PlanError::Cut),
        FinishReason::Repetition => return Err(PlanError::Loop),
    }
    let plan = plan::parse(&output.text, &recipe.plan, instruction.language)?;
    match instruction.required_words {
        Some(required) => plan.scale(required, &recipe.plan),
        None => Ok(plan),
    }
}

/// `text` up to its last sentence end; all of it if it has none.
fn whole_sentences(text: &str) -> &str {
    let text = text.trim();
    let end = text.rfind(['.', '!', '?', '。', '！', '？', '…']);
    match end.and_then(|at| Some(at + text[at..].chars().next()?.len_utf8())) {
        Some(end) => &text[..end],
        None => text,
    }
}

/// What the votes say, for people.
fn judged(votes: &[Vote]) -> String {
    let means = judge::means(votes).map_or([0.0; 6], |means| means.all());
    let marks = judge::DIMENSIONS.iter().zip(means).map(|(name, mean)| format!("{name} {mean:.1}"));
    let (read, all) = (votes.len() - judge::unread(votes), votes.len());
    format!("{} (mean of {read} of {all} votes)", marks.collect::<Vec<_>>().join(", "))
}

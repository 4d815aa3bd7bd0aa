//! What people do to a document: cancel it, or start it again from a section, from its plan or from its votes.

use super::transition::{NotAllowed, Transition};
use crate::domain::document::{BAD_ROW, Document, Progress};
use crate::domain::recipe::Recipe;

/// Where an ended document starts again.
enum Restart {
    Plan,
    /// With this section; those before it are kept.
    Section(usize),
    /// With the first vote; all sections are kept.
    Vote,
}

impl Document {
    /// Ends the document as cancelled; what was written stays.
    ///
    /// # Errors
    /// If it is at an end already.
    pub fn cancel(&mut self) -> Result<Transition, NotAllowed> {
        if self.ended().is_some() {
            return Err(self.not_allowed("there is nothing left to cancel"));
        }
        Ok(self.checked(|document| {
            let (plan, sections) = document.take_progress().into_text();
            document.move_to(Progress::Cancelled { plan, sections })
        }))
    }

    /// Requeues an ended document, as a new round with other seeds. With `from_section` the plan and the sections before
    /// that index are kept; without it, a document that failed or was cancelled resumes where it stopped, and any other
    /// begins with a new plan.
    ///
    /// # Errors
    /// If it is not at an end, has no such section, or is a row that could not be read.
    pub fn requeue(&mut self, recipe: &Recipe, from_section: Option<usize>) -> Result<Transition, NotAllowed> {
        let restart = self.restart(from_section)?;
        Ok(self.checked(|document| {
            let (plan, mut sections) = document.take_progress().into_text();
            let next = match (restart, plan) {
                (Restart::Section(index), Some(plan)) => {
                    sections.truncate(index);
                    document.drop_summaries_after(index);
                    document.next_progress(recipe, plan, sections)
                }
                (Restart::Vote, Some(plan)) => Progress::Judging { plan, sections, votes: Vec::new() },
                (Restart::Plan, _) | (Restart::Section(_) | Restart::Vote, None) => {
                    document.summaries.clear();
                    Progress::Planning { repair: None }
                }
            };
            document.reopen(next)
        }))
    }

    /// Requeues an ended document to write one section anew; those before and after it are kept as they are. Only for a
    /// document that has all its sections: else those that are missing would have to be written too.
    ///
    /// # Errors
    /// If it is not at an end, or does not have all its sections, or not this one.
    pub fn rewrite(&mut self, section: usize) -> Result<Transition, NotAllowed> {
        if self.ended().is_none() {
            return Err(self.not_allowed("it is still being written; wait for its end or cancel it first"));
        }
        let written = self.sections().len();
        if self.plan().is_none_or(|plan| plan.steps.len() != written) {
            return Err(self.not_allowed("it does not have all its sections; leave --only out to resume from there"));
        }
        if section >= written {
            return Err(self.not_allowed("it has no such section; look at the sections that it has"));
        }
        Ok(self.checked(|document| {
            let (plan, mut sections) = document.take_progress().into_text();
            let tail_sections = sections.split_off(section + 1);
            sections.truncate(section);
            document.drop_summaries_after(section);
            document.reopen(match plan {
                Some(plan) => Progress::Writing { plan, sections, tail_sections },
                None => Progress::Planning { repair: None },
            })
        }))
    }

    /// Ends the document as failed, for a reason that none of its attempts could report: its workers never came back.
    /// Nothing if it is at an end already.
    pub fn fail(&mut self, class: &str, message: &str) {
        if self.ended().is_none() {
            let _ended = self.checked(|document| {
                let (plan, sections) = document.take_progress().into_text();
                document.move_to(Progress::Failed { class: class.into(), message: message.into(), plan, sections })
            });
        }
    }

    /// Where a requeue starts, if it is allowed.
    fn restart(&self, from_section: Option<usize>) -> Result<Restart, NotAllowed> {
        if self.ended().is_none() {
            return Err(self.not_allowed("it is still being written; wait for its end or cancel it first"));
        }
        let index = match (&self.progress, from_section) {
            (Progress::Failed { class, .. }, _) if class == BAD_ROW => {
                return Err(self.not_allowed("its input row could not be read; fix the row and submit the file again"));
            }
            (Progress::Finished { plan, .. }, None) if !plan.is_single_piece() => return Ok(Restart::Plan),
            (Progress::Finished { .. }, None) => 0,
            (_, None) => self.sections().len(),
            (_, Some(index)) => index,
        };
        let (written, steps) = (self.sections().len(), self.plan().map(|plan| plan.steps.len()));
        match steps {
            Some(steps) if index < steps && index <= written => Ok(Restart::Section(index)),
            // All was written: only the judge can have stood in the way.
            Some(steps) if from_section.is_none() && written == steps => Ok(Restart::Vote),
            None if from_section.is_none() => Ok(Restart::Plan),
            Some(_) | None => {
                Err(self.not_allowed("it has no such section to begin with; look at the sections that it has"))
            }
        }
    }

    /// A new round.
    fn reopen(&mut self, next: Progress) -> Transition {
        self.next_task_begins();
        self.round += 1;
        self.move_to(next)
    }

    fn not_allowed(&self, remedy: &'static str) -> NotAllowed {
        let state = self.ended().map_or("unfinished", |(state, _)| state.as_str());
        NotAllowed { state, remedy }
    }
}

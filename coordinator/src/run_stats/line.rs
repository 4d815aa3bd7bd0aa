//! One document as a list shows it, and which of them somebody wants to see.

use std::fmt;

use longhand_proto::DocumentId;
use longhand_proto::task::TaskKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::document::{BAD_ROW, Document, Progress, Verdict};
use crate::domain::state::State;
use crate::store::{Attempt, AttemptEnd, Record};
use crate::text::filter::score_length;

/// Characters of an instruction or an error in a list. A search looks no further.
const TITLE: usize = 200;
/// What a lost lease is called among the classes of errors.
const LOST: &str = "lost";

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    pub(crate) id: DocumentId,
    #[serde(skip)]
    pub(crate) mark: u64,
    /// The row's own id.
    pub(crate) name: String,
    /// The beginning of the instruction.
    pub(crate) title: String,
    pub(crate) state: State,
    pub(crate) reason: String,
    /// Error or verdict in words; of a document in work the last error.
    pub(crate) message: String,
    pub(crate) worker: String,
    pub(crate) words: u32,
    pub(crate) target: Option<u32>,
    pub(crate) score: Option<f64>,
    pub(crate) sections: u32,
    pub(crate) steps: u32,
    pub(crate) attempts: u32,
    /// Classes of the attempts that brought nothing, `lost` among them; each once.
    pub(crate) faults: Vec<String>,
    /// How many attempts that were.
    pub(crate) tries: u32,
    pub(crate) spent_ms: u64,
    pub(crate) begun_ms: Option<u64>,
    pub(crate) changed_ms: u64,
    /// Tokens generated for it, and those whose text is still there.
    pub(crate) generated: u64,
    pub(crate) kept: u64,
    /// All that a search looks at, in lower case.
    #[serde(skip)]
    search: String,
}

impl Line {
    pub(crate) fn of(record: &Record, attempts: &[Attempt]) -> Self {
        let document: Option<Document> = record.document().ok();
        let document = document.as_ref();
        let sections = document.map_or(&[][..], Document::sections);
        let words = sections.iter().map(|section| section.words).sum();
        let target = document.and_then(|document| {
            let planned = document.plan().map(|plan| plan.steps.iter().map(|step| step.words).sum());
            document.instruction.required_words.or(planned)
        });
        let failed = || attempts.iter().filter_map(|attempt| fault(attempt).map(|class| (attempt, class)));
        let mut faults: Vec<String> = failed().map(|(_, class)| class.to_owned()).collect();
        faults.sort_unstable();
        faults.dedup();
        let last = || failed().next_back().and_then(|(attempt, _)| attempt.detail.pointer("/error/message")?.as_str());
        let message = match document.map(|document| &document.progress) {
            Some(Progress::Failed { message, .. }) => message.as_str(),
            Some(Progress::Finished { verdict: Verdict::Rejected { detail, .. }, .. }) => detail.as_str(),
            Some(
                Progress::Planning { .. }
                | Progress::Writing { .. }
                | Progress::Summarising { .. }
                | Progress::Judging { .. },
            ) => last().unwrap_or_default(),
            Some(Progress::Finished { .. } | Progress::Cancelled { .. }) | None => "",
        };
        let planned = attempts.iter().rfind(|attempt| is_plan(attempt) && fault(attempt).is_none());
        let plan = document.and_then(Document::plan);
        let name = document.and_then(|it| it.instruction.id.clone()).unwrap_or_default();
        let title = document.map_or_else(String::new, |it| short(&it.instruction.text()));
        let message = short(message);
        let search = format!("{name}\n{title}\n{message}").to_lowercase();
        let written: u64 = sections.iter().map(|section| u64::from(section.usage.generated)).sum();
        Self {
            id: record.id,
            mark: record.change_seq,
            name,
            title,
            state: record.state,
            reason: record.reason.clone(),
            message,
            search,
            worker: (record.lease.as_ref().map(|lease| lease.worker.as_str()))
                .or_else(|| attempts.last().map(|attempt| attempt.worker.as_str()))
                .unwrap_or_default()
                .to_owned(),
            words,
            target,
            score: target.filter(|_| record.state.is_terminal() && words > 0).map(|target| score_length(target, words)),
            sections: sections.len() as u32,
            steps: plan.map_or(0, |plan| plan.steps.len() as u32),
            attempts: attempts.len() as u32,
            tries: failed().count() as u32,
            faults,
            spent_ms: attempts.iter().map(|attempt| attempt.ended_ms.saturating_sub(attempt.granted_ms)).sum(),
            begun_ms: attempts
                .first()
                .map(|attempt| attempt.granted_ms)
                .or(record.lease.as_ref().map(|it| it.granted_ms)),
            changed_ms: record.changed_ms,
            generated: attempts.iter().map(generated).sum(),
            kept: written + if plan.is_some() { planned.map_or(0, generated) } else { 0 },
        }
    }

    /// It ended, and there is a row to write from.
    pub(crate) fn may_be_requeued(&self) -> bool {
        self.state.is_terminal() && self.reason != BAD_ROW
    }

    /// Sections that a requeue writes anew: an end by error or by hand keeps what is there.
    pub(crate) fn redone(&self) -> u64 {
        let anew = matches!(self.state, State::Accepted | State::Rejected);
        u64::from(if anew { self.sections } else { 0 })
    }
}

/// Tokens that this attempt added: those of a checkpoint that it took over belong to it too, as the attempt that left them
/// could not tell of them.
pub(crate) fn generated(attempt: &Attempt) -> u64 {
    attempt.detail.pointer("/usage/generated").and_then(Value::as_u64).unwrap_or(0)
}

/// Why an attempt brought nothing; none for one that did, or that was given back.
pub(crate) fn fault(attempt: &Attempt) -> Option<&str> {
    match attempt.end {
        AttemptEnd::Completed | AttemptEnd::Released => None,
        AttemptEnd::Lost => Some(LOST),
        AttemptEnd::Error => Some(attempt.detail.pointer("/error/class").and_then(Value::as_str).unwrap_or("error")),
    }
}

fn is_plan(attempt: &Attempt) -> bool {
    attempt.detail.get("kind").and_then(Value::as_str) == Some(TaskKind::Plan.as_str())
}

fn short(text: &str) -> String {
    match text.char_indices().nth(TITLE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What a list shows. Empty fields select all.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Filter {
    pub(crate) state: Option<State>,
    /// Rule of rejected, error class of failed documents.
    pub(crate) reason: String,
    /// Class of any attempt that brought nothing.
    pub(crate) error: String,
    pub(crate) worker: String,
    /// Part of the row's id, of the instruction's beginning or of the error; or the beginning of the document's id.
    pub(crate) q: String,
    /// Words.
    pub(crate) min: Option<u32>,
    pub(crate) max: Option<u32>,
}

impl Filter {
    /// With its texts as they are compared.
    pub(crate) fn ready(mut self) -> Self {
        self.q = self.q.trim().to_lowercase();
        self
    }

    /// Asked of a filter that is [`Filter::ready`].
    pub(crate) fn fits(&self, line: &Line) -> bool {
        self.state.is_none_or(|state| line.state == state)
            && (self.reason.is_empty() || line.reason == self.reason)
            && (self.error.is_empty() || line.faults.contains(&self.error))
            && (self.worker.is_empty() || line.worker == self.worker)
            && self.min.is_none_or(|min| line.words >= min)
            && self.max.is_none_or(|max| line.words <= max)
            && (self.q.is_empty() || line.search.contains(&self.q) || self.names(line))
    }

    /// A few digits would name documents by chance.
    fn names(&self, line: &Line) -> bool {
        let digits = self.q.len() >= 6 && self.q.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits && line.id.to_string().starts_with(&self.q)
    }
}

/// For the diary of what was done by hand.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all")?;
        if let Some(state) = self.state {
            write!(f, " that are {}", state.as_str())?;
        }
        for (what, value) in
            [("cause", &self.reason), ("error", &self.error), ("worker", &self.worker), ("text", &self.q)]
        {
            if !value.is_empty() {
                write!(f, ", {what} {value}")?;
            }
        }
        for (what, value) in [("from", self.min), ("to", self.max)] {
            if let Some(value) = value {
                write!(f, ", {what} {value} words")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_says_in_words_what_it_selects() {
        assert_eq!(Filter::default().to_string(), "all");
        let filter =
            Filter { state: Some(State::Failed), reason: "bad_plan".into(), min: Some(3), ..Filter::default() };
        assert_eq!(filter.to_string(), "all that are failed, cause bad_plan, from 3 words");
    }
}

//! One document as a list shows it, and the filter of such a list.

use std::collections::BTreeMap;
use std::fmt;

use longhand_proto::DocumentId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cost::cost_of;
use crate::domain::document::{BAD_ROW, Document, Progress, Verdict};
use crate::domain::state::State;
use crate::store::{Attempt, AttemptEnd, Record};
use crate::text::filter::score_length;

/// Most characters of an instruction or an error in a list; a search covers these.
const MAX_TITLE_CHARS: usize = 200;
/// Error class of a lost lease.
const LOST: &str = "lost";

/// A document without its texts. Field names are those of the HTTP API.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DocumentSummary {
    pub(crate) id: DocumentId,
    #[serde(skip)]
    pub(crate) change_seq: u64,
    /// The row's own id.
    pub(crate) name: String,
    /// Number of the candidate, from 0.
    pub(crate) candidate: u32,
    /// Model that wrote the latest task; taken out when the summary is added to its run.
    #[serde(skip)]
    pub(super) model: Option<String>,
    /// The beginning of the instruction.
    pub(crate) title: String,
    pub(crate) state: State,
    pub(crate) reason: String,
    /// Message of the error or verdict; of an unfinished document the last error.
    pub(crate) message: String,
    pub(crate) worker: String,
    pub(crate) words: u32,
    pub(crate) target: Option<u32>,
    pub(crate) score: Option<f64>,
    pub(crate) sections: u32,
    pub(crate) steps: u32,
    pub(crate) attempts: u32,
    /// Error classes of failed attempts, `lost` among them; sorted, each once.
    pub(crate) faults: Vec<String>,
    /// Number of failed attempts.
    pub(crate) tries: u32,
    /// Duration of all attempts.
    pub(crate) spent_ms: u64,
    /// Begin of the first attempt.
    pub(crate) begun_ms: Option<u64>,
    pub(crate) changed_ms: u64,
    /// Tokens generated in all attempts.
    pub(crate) generated: u64,
    /// What all attempts cost.
    #[serde(skip)]
    pub(crate) cost: f64,
    /// Tokens of texts that were not kept, by rule or error class.
    #[serde(skip)]
    pub(crate) discarded: BTreeMap<String, u64>,
    /// The text that a search covers, in lower case.
    #[serde(skip)]
    search: String,
}

impl DocumentSummary {
    /// Summarises a stored document and its attempts. Of a body that cannot be read, the record's own fields remain.
    pub(crate) fn of(record: &Record, attempts: &[Attempt]) -> Self {
        let document: Option<Document> = record.document().ok();
        let document = document.as_ref();
        let sections = document.map_or(&[][..], Document::sections);
        let words = sections.iter().map(|section| section.words).sum();
        let target = document.and_then(|document| {
            let planned = document.plan().map(|plan| plan.steps.iter().map(|step| step.words).sum());
            document.instruction.required_words.or(planned)
        });
        let failed = || attempts.iter().filter_map(|attempt| error_class(attempt).map(|class| (attempt, class)));
        let mut faults: Vec<String> = failed().map(|(_, class)| class.to_owned()).collect();
        faults.sort_unstable();
        faults.dedup();
        let last = || failed().next_back().and_then(|(attempt, _)| attempt.detail.pointer("/error/message")?.as_str());
        let message = message_of(document, last());
        let plan = document.and_then(Document::plan);
        let name = document.and_then(|it| it.instruction.id.clone()).unwrap_or_default();
        let title = document.map_or_else(String::new, |it| truncated(&it.instruction.text()));
        let message = truncated(message);
        let search = format!("{name}\n{title}\n{message}").to_lowercase();
        let mut discarded = BTreeMap::new();
        for (attempt, cause) in attempts.iter().filter_map(|attempt| Some((attempt, attempt.discarded_by()?))) {
            *discarded.entry(cause.to_owned()).or_default() += attempt.generated();
        }
        Self {
            id: record.id,
            change_seq: record.change_seq,
            name,
            candidate: document.map_or(0, |document| document.candidate),
            model: document.and_then(|document| document.model.as_ref()).map(|model| model.name.clone()),
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
            generated: attempts.iter().map(Attempt::generated).sum(),
            discarded,
            cost: cost_of(attempts),
        }
    }

    /// True if it is in a terminal state and its input row was valid.
    pub(crate) fn can_requeue(&self) -> bool {
        self.state.is_terminal() && self.reason != BAD_ROW
    }

    /// Number of sections that a requeue rewrites. A failed or cancelled document keeps its sections.
    pub(crate) fn sections_rewritten(&self) -> u64 {
        let rewritten = matches!(self.state, State::Accepted | State::Rejected);
        u64::from(if rewritten { self.sections } else { 0 })
    }
}

/// Error class of a failed attempt; none for one that completed or was released.
pub(crate) fn error_class(attempt: &Attempt) -> Option<&str> {
    match attempt.end {
        AttemptEnd::Completed | AttemptEnd::Released => None,
        AttemptEnd::Lost => Some(LOST),
        AttemptEnd::Error => Some(attempt.detail.pointer("/error/class").and_then(Value::as_str).unwrap_or("error")),
    }
}

/// Message of a document's failure or rejection; of an unfinished document the last error.
fn message_of<'a>(document: Option<&'a Document>, last_error: Option<&'a str>) -> &'a str {
    match document.map(|document| &document.progress) {
        Some(Progress::Failed { message, .. }) => message.as_str(),
        Some(Progress::Finished { verdict: Verdict::Rejected { detail, .. }, .. }) => detail.as_str(),
        Some(
            Progress::Planning { .. }
            | Progress::Writing { .. }
            | Progress::Summarising { .. }
            | Progress::Judging { .. },
        ) => last_error.unwrap_or_default(),
        Some(Progress::Finished { .. } | Progress::Cancelled { .. }) | None => "",
    }
}

fn truncated(text: &str) -> String {
    match text.char_indices().nth(MAX_TITLE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What a list shows. Empty fields match all documents.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct DocumentFilter {
    pub(crate) state: Option<State>,
    /// Rule of rejected, error class of failed documents.
    pub(crate) reason: String,
    /// Error class of any failed attempt.
    pub(crate) error: String,
    pub(crate) worker: String,
    /// Part of the row's id, of the start of the instruction or of the error; or the start of the document's id.
    pub(crate) q: String,
    /// Least number of words.
    pub(crate) min: Option<u32>,
    /// Greatest number of words.
    pub(crate) max: Option<u32>,
}

impl DocumentFilter {
    /// With the search text trimmed and in lower case.
    pub(crate) fn normalized(mut self) -> Self {
        self.q = self.q.trim().to_lowercase();
        self
    }

    /// True if the document is selected. Call it on a [`DocumentFilter::normalized`] filter.
    pub(crate) fn matches(&self, document: &DocumentSummary) -> bool {
        self.state.is_none_or(|state| document.state == state)
            && (self.reason.is_empty() || document.reason == self.reason)
            && (self.error.is_empty() || document.faults.contains(&self.error))
            && (self.worker.is_empty() || document.worker == self.worker)
            && self.min.is_none_or(|min| document.words >= min)
            && self.max.is_none_or(|max| document.words <= max)
            && (self.q.is_empty() || document.search.contains(&self.q) || self.matches_id(document))
    }

    /// Fewer than six digits would match documents by chance.
    fn matches_id(&self, document: &DocumentSummary) -> bool {
        let is_prefix = self.q.len() >= 6 && self.q.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_prefix && document.id.to_string().starts_with(&self.q)
    }
}

/// For the audit log.
impl fmt::Display for DocumentFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all")?;
        if let Some(state) = self.state {
            write!(f, " {}", state.as_str())?;
        }
        for (name, value) in
            [("cause", &self.reason), ("error", &self.error), ("worker", &self.worker), ("text", &self.q)]
        {
            if !value.is_empty() {
                write!(f, ", {name} {value}")?;
            }
        }
        for (name, value) in [("at least", self.min), ("at most", self.max)] {
            if let Some(value) = value {
                write!(f, ", {name} {value} words")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_displayed_in_words() {
        assert_eq!(DocumentFilter::default().to_string(), "all");
        let filter = DocumentFilter {
            state: Some(State::Failed),
            reason: "bad_plan".into(),
            min: Some(3),
            ..DocumentFilter::default()
        };
        assert_eq!(filter.to_string(), "all failed, cause bad_plan, at least 3 words");
    }
}

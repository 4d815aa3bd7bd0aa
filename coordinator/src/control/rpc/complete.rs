//! The end of an attempt: what the document makes of it, written in one atomic step.

use std::time::Duration;

use longhand_proto::task::{Checkpoint, Failure, Lease, Output, TaskKind};
use longhand_proto::{LeaseId, WorkerId, chance, clock};
use serde_json::{Map, Value, json};

use super::{Coordinator, render};
use crate::control::metrics::{Spent, Watch};
use crate::control::trace::Trail;
use crate::domain::document::{Document, Progress};
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::lifecycle::{Applied, Outcome};
use crate::store::{AttemptEnd, Commit, Committed, Counters, Lookup, Next, Record, Result};

/// A finished attempt as its worker reports it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) worker: WorkerId,
    pub(super) lease: LeaseId,
    pub(super) outcome: Outcome,
    /// The worker would go on with the document's next task.
    pub(super) want_next: bool,
    /// The tasks that it knows.
    pub(super) kinds: Vec<TaskKind>,
    /// Span of the attempt, from the call's metadata; may be empty.
    pub(super) traceparent: String,
}

#[derive(Debug)]
pub(super) enum Answer {
    Recorded(Option<Box<Lease>>),
    Stale,
}

impl Coordinator {
    pub(super) async fn complete(&self, report: Report) -> Result<Answer> {
        let generated = match &report.outcome {
            Outcome::Written { output, .. } => output.usage.generated,
            Outcome::Error(_) => 0,
        };
        let (worker, lease) = (report.worker.clone(), report.lease);
        // A lease that is gone leads to no document.
        let trace_id = longhand_proto::trace::id_of(&report.traceparent);
        let looked = match self.inner.given.take(lease) {
            Some(record) => Lookup::Live(Box::new(record)),
            None => self.inner.store.lookup(lease).await?,
        };
        let answer = match looked {
            // A worker completes only what it leases itself.
            Lookup::Live(record) if !held_by(&record, &report.worker) => Answer::Stale,
            Lookup::Live(record) => self.record(*record, report).await?,
            Lookup::Committed(_) => self.repeat(lease).await?,
            Lookup::Stale => Answer::Stale,
        };
        if matches!(answer, Answer::Stale) {
            self.metrics().stale(generated);
            tracing::info!(%worker, %lease, trace_id, "result refused: its lease is not live any more");
        }
        Ok(answer)
    }

    async fn record(&self, record: Record, report: Report) -> Result<Answer> {
        let lease = report.lease;
        let (commit, spent, trail) = match render::read(&record) {
            Ok(document) => self.judge(&record, document, report).await?,
            Err(failure) => {
                let commit = Commit {
                    lease,
                    body: None,
                    checkpoint: None,
                    next: Next::End { state: State::Failed, reason: failure.class.clone() },
                    detail: json!({ "error": failure }),
                    ttl_ms: 0,
                };
                (commit, Spent { error: Some(failure.class), ..Spent::default() }, None)
            }
        };
        let watch = Watch::start();
        let committed = self.note(self.inner.store.commit(&commit).await)?;
        if matches!(committed, Committed::Done(_)) {
            self.metrics().committed(watch.took(), &commit.next, &spent);
            if let Some(trail) = trail {
                trail.committed(spent.end(&commit.next), came_to(&commit.next));
            }
        }
        match committed {
            Committed::Stale => Ok(Answer::Stale),
            Committed::Repeated(_) => self.repeat(lease).await,
            Committed::Done(None) => {
                self.wake(usize::from(matches!(commit.next, Next::Continue { .. } | Next::Judge { .. })));
                Ok(Answer::Recorded(None))
            }
            Committed::Done(Some(grant)) => {
                self.changed();
                // The next task begins with what was just written: the store need not be asked for it.
                let body = commit.body.unwrap_or_default();
                let counters = Counters { releases: record.counters.releases, ..Counters::default() };
                let judge = matches!(commit.next, Next::Judge { .. });
                let next = Record { lease: Some(grant), judge, body, checkpoint: None, counters, ..record };
                self.inner.given.keep(&next);
                Ok(Answer::Recorded(self.render(next).await?.map(Box::new)))
            }
        }
    }

    /// Lets the document take the result.
    async fn judge(
        &self,
        record: &Record,
        mut document: Document,
        report: Report,
    ) -> Result<(Commit, Spent, Option<Trail>)> {
        let known = self.known(record).await?;
        let recipe = known.recipe.as_ref();
        let Report { worker: _, lease, outcome, want_next, kinds, traceparent: _ } = report;
        let (kind, section) = document.current();
        let attempt = document.errors + 1 + record.counters.losses;
        let mut trail = self.trail(record, &document, recipe, &outcome).await?;
        let mut detail = Map::new();
        detail.insert("kind".into(), json!(kind));
        detail.insert("section".into(), json!(section));
        detail.insert("attempt".into(), json!(attempt));
        describe(&mut detail, &outcome);
        let granted_ms = record.lease.as_ref().map_or(0, |lease| lease.granted_ms);
        let held = Duration::from_millis(clock::unix_ms().saturating_sub(granted_ms));
        let mut spent = Spent { kind: Some(kind), held, ..Spent::default() };
        if let Outcome::Written { output, .. } = &outcome {
            (spent.usage, spent.timings) = (output.usage, Some(output.timings));
        }
        // Whether this worker may go on with the votes, where the run has a judge of its own.
        let judges = match &outcome {
            Outcome::Written { model, .. } => known.policy.can_judge(&model.name, &model.weights_hash),
            Outcome::Error(_) => false,
        };
        let begun = clock::wall();
        let applied = document.apply(recipe, outcome);
        let want_next = want_next && kinds.contains(&document.current().0);
        let next = match applied {
            Applied::NextTask if known.policy.judge.is_empty() || document.current().0 != TaskKind::Judge => {
                Next::Continue { lease: want_next.then(LeaseId::mint) }
            }
            Applied::NextTask => Next::Judge { lease: (want_next && judges).then(LeaseId::mint) },
            Applied::Retry { errors, failure } => {
                detail.insert("error".into(), json!(failure));
                if let Some(trail) = &mut trail {
                    trail.failed(&failure.class, &failure.message);
                }
                spent.error = Some(failure.class);
                Next::Retry { delay_ms: recipe.retry.delay_ms(errors, chance::unit()) }
            }
            Applied::Ended { state, reason } => {
                if let Progress::Failed { class, message, .. } = &document.progress {
                    spent.error = Some(class.clone());
                    detail.entry("error").or_insert_with(|| json!({ "class": class, "message": message }));
                    if let Some(trail) = &mut trail {
                        trail.failed(class, message);
                    }
                }
                spent.words = document.sections().iter().map(|section| u64::from(section.words)).sum();
                Next::End { state, reason }
            }
        };
        if let Some(trail) = &mut trail {
            trail.applied(begun);
            document.traceparent = trail.traceparent();
        }
        if kind == TaskKind::Section
            && spent.error.is_none()
            && let Some(section) = document.sections().get(section as usize)
        {
            detail.insert("words".into(), json!(section.words));
            if let Some(trail) = &mut trail {
                trail.wrote(section.words);
            }
        }
        if kind == TaskKind::Judge
            && spent.error.is_none()
            && let Some(vote) = document.votes().get(section as usize)
        {
            match &vote.scores {
                Some(scores) => drop(detail.insert("scores".into(), json!(scores))),
                // The last try of a vote: the document goes on without it.
                None => {
                    detail.insert("problem".into(), json!(vote.problem));
                    let class = vote.problem.split(':').next().unwrap_or_default();
                    spent.error = Some(class.to_owned());
                    if let Some(trail) = &mut trail {
                        trail.failed(class, &vote.problem);
                    }
                }
            }
        }
        let commit = Commit {
            lease,
            body: Some(render::write(&document)?),
            checkpoint: None,
            next,
            detail: Value::Object(detail),
            ttl_ms: self.lease_ms(),
        };
        Ok((commit, spent, trail))
    }

    /// The attempt for the document's trace, before the document takes its result; none if nobody will look at it.
    pub(super) async fn trail(
        &self,
        record: &Record,
        document: &Document,
        recipe: &Recipe,
        outcome: &Outcome,
    ) -> Result<Option<Trail>> {
        let Some(grant) = &record.lease else { return Ok(None) };
        let trail = Trail::of(self.inner.store.as_ref(), record.counters, grant, document).await?;
        Ok(trail.map(|mut trail| {
            trail.asked(document, recipe);
            trail.outcome(outcome);
            // A prompt that cannot be rendered is an error of its own.
            if self.inner.options.trace_content
                && let Ok(Some(task)) = document.next_task(recipe)
            {
                trail.content(&task.messages, outcome);
            }
            trail
        }))
    }

    /// Answers a call that was answered before: the same outcome, and the same next lease as long as it lives.
    async fn repeat(&self, lease: LeaseId) -> Result<Answer> {
        // Changes nothing, as this lease is not live any more; only its memory is asked for.
        let probe = Commit { lease, body: None, checkpoint: None, next: Next::Release, detail: json!({}), ttl_ms: 0 };
        match self.inner.store.commit(&probe).await? {
            Committed::Repeated(Some(grant)) => self.leased(grant.id).await,
            Committed::Repeated(None) | Committed::Done(_) => Ok(Answer::Recorded(None)),
            Committed::Stale => Ok(Answer::Stale),
        }
    }

    /// The answer that brings the next lease, as the store holds it now.
    async fn leased(&self, lease: LeaseId) -> Result<Answer> {
        match self.inner.store.lookup(lease).await? {
            Lookup::Live(record) => Ok(Answer::Recorded(self.render(*record).await?.map(Box::new))),
            Lookup::Committed(_) | Lookup::Stale => Ok(Answer::Recorded(None)),
        }
    }

    /// Gives a document back unharmed. False if the lease is not live.
    pub(super) async fn release(
        &self,
        worker: &WorkerId,
        lease: LeaseId,
        checkpoint: Option<Checkpoint>,
    ) -> Result<bool> {
        let (mut task, mut trail) = (None, None);
        let detail = match self.inner.store.lookup(lease).await? {
            Lookup::Live(record) if !held_by(&record, worker) => return Ok(false),
            Lookup::Live(record) => match render::read(&record) {
                Ok(document) => {
                    let (kind, section) = document.current();
                    task = Some(kind);
                    if let Some(grant) = &record.lease {
                        trail = Trail::of(self.inner.store.as_ref(), record.counters, grant, &document).await?;
                    }
                    json!({ "kind": kind, "section": section, "attempt": document.errors + 1 + record.counters.losses })
                }
                Err(failure) => json!({ "error": failure }),
            },
            Lookup::Committed(_) => json!({}),
            Lookup::Stale => return Ok(false),
        };
        let commit = Commit { lease, body: None, checkpoint, next: Next::Release, detail, ttl_ms: 0 };
        match self.note(self.inner.store.commit(&commit).await)? {
            Committed::Done(_) => {
                tracing::debug!(%worker, %lease, "lease given back");
                self.metrics().attempt(task, AttemptEnd::Released);
                if let Some(trail) = trail {
                    trail.released("released", State::Ready);
                }
                self.wake(1);
                Ok(true)
            }
            Committed::Repeated(_) => Ok(true),
            Committed::Stale => Ok(false),
        }
    }

    pub(super) fn lease_ms(&self) -> u64 {
        self.inner.options.lease.as_millis() as u64
    }
}

fn held_by(record: &Record, worker: &WorkerId) -> bool {
    record.lease.as_ref().is_some_and(|lease| lease.worker == *worker)
}

fn came_to(next: &Next) -> Option<(State, &str)> {
    match next {
        Next::End { state, reason } => Some((*state, reason)),
        Next::Continue { .. } | Next::Judge { .. } | Next::Retry { .. } | Next::Release => None,
    }
}

/// What is kept of an attempt's result: everything but its text.
fn describe(detail: &mut Map<String, Value>, outcome: &Outcome) {
    match outcome {
        Outcome::Written { output, model, .. } => {
            let Output { text: _, finish_reason, usage, timings } = output;
            detail.insert("finish_reason".into(), json!(finish_reason));
            detail.insert("usage".into(), json!(usage));
            detail.insert("timings".into(), json!(timings));
            detail.insert("model".into(), json!(model.name));
        }
        Outcome::Error(failure @ Failure { .. }) => {
            detail.insert("error".into(), json!(failure));
        }
    }
}

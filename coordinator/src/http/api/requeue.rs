//! Taking documents up again: one, or all that a filter selects.

use axum::Json;
use axum::extract::{Extension, Path, State as Extract};
use longhand_proto::{DocumentId, RunId};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Asker, Here, Refusal, conflict, run_id, wrong};
use crate::control::admin::{Extent, Requeued, Which};
use crate::control::rpc::{Coordinator, Who};
use crate::domain::state::State;
use crate::run_stats::{Filter, Line};
use crate::store::StoreError;

/// Documents taken up between two entries of the diary.
const PAGE: usize = 64;

/// What to take up again: one document, or all that end up in a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Requeue {
    #[serde(default)]
    document: Option<String>,
    #[serde(default)]
    filter: Option<Filter>,
    /// With a filter: as the answer to a `dry_run` named it. What changed since then is left alone, so that what a person
    /// said yes to is what is done.
    #[serde(default)]
    mark: Option<u64>,
    /// From 1.
    #[serde(default)]
    from_section: Option<usize>,
    /// That section alone.
    #[serde(default)]
    only: bool,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn requeue(
    Extract(site): Here,
    Extension(who): Asker,
    Path(run): Path<String>,
    Json(asked): Json<Requeue>,
) -> Answer {
    let coordinator = site.behind()?;
    let run = run_id(&run)?;
    let extent = match (asked.from_section.map(|section| section.checked_sub(1)), asked.only) {
        (None, false) => Extent::AsNeeded,
        (Some(Some(index)), false) => Extent::From(index),
        (Some(Some(index)), true) => Extent::Only(index),
        (Some(None), _) => return Err(wrong("sections are counted from 1")),
        (None, true) => return Err(wrong("`only` needs the section that it means")),
    };
    let done = match (asked.document, asked.filter) {
        (Some(id), None) => {
            let which = Which::One(id.parse().map_err(wrong)?);
            let done = coordinator.requeue(&who, &run, &which, extent, None, asked.dry_run).await?;
            if let Some((_, reason)) = done.skipped.first() {
                return Err(conflict(reason.clone()));
            }
            done
        }
        (None, Some(filter)) if extent == Extent::AsNeeded => {
            let chosen = Chosen::of(coordinator, &run, filter.ready()).await?;
            match asked.mark {
                _ if asked.dry_run => return Ok(Json(chosen.told())),
                Some(mark) => chosen.take_up(coordinator.clone(), who, run, mark).await?,
                None => return Err(wrong("ask with `dry_run` first, and send the `mark` of the answer")),
            }
        }
        _ => return Err(wrong("want one of `document` and `filter`, and sections with a document only")),
    };
    Ok(Json(json!({ "documents": done.documents, "redone": done.redone, "skipped": done.skipped.len() })))
}

/// The documents that a filter selects now, and that can be taken up.
#[derive(Debug)]
struct Chosen {
    filter: Filter,
    /// With the change that made each what it is.
    documents: Vec<(DocumentId, u64)>,
    redone: u64,
    mark: u64,
}

impl Chosen {
    async fn of(coordinator: &Coordinator, run: &RunId, filter: Filter) -> Result<Self, Refusal> {
        let shelf = coordinator.run_stats().look(coordinator.store(), run).await?;
        let catalogue = shelf.read();
        if !catalogue.complete {
            return Err(conflict("this run is still being read: ask again in a moment".into()));
        }
        // What was accepted is written anew only by who asks for just that.
        let meant = |line: &&Line| {
            line.may_be_requeued() && (line.state != State::Accepted || filter.state == Some(State::Accepted))
        };
        let chosen: Vec<&Line> = catalogue.documents().filter(|line| filter.fits(line)).filter(meant).collect();
        let documents = chosen.iter().map(|line| (line.id, line.mark)).collect();
        let redone = chosen.iter().map(|line| line.redone()).sum();
        let mark = catalogue.mark;
        Ok(Self { documents, redone, mark, filter })
    }

    fn told(&self) -> serde_json::Value {
        json!({ "documents": self.documents.len(), "redone": self.redone, "mark": self.mark })
    }

    /// Goes to its end even if the browser does not wait for it.
    async fn take_up(self, coordinator: Coordinator, who: Who, run: RunId, mark: u64) -> Result<Requeued, Refusal> {
        let words = self.filter.to_string();
        let ids: Vec<DocumentId> =
            self.documents.into_iter().filter(|(_, changed)| *changed <= mark).map(|(id, _)| id).collect();
        let work = tokio::spawn(async move {
            let mut sum = Requeued::default();
            for ids in ids.chunks(PAGE) {
                let which = Which::These { ids: ids.to_vec(), words: words.clone() };
                let done = coordinator.requeue(&who, &run, &which, Extent::AsNeeded, None, false).await?;
                sum.documents += done.documents;
                sum.redone += done.redone;
                sum.skipped.extend(done.skipped);
            }
            Ok::<_, StoreError>(sum)
        });
        Ok(work.await.map_err(|error| StoreError::Other(format!("requeueing did not end: {error}")))??)
    }
}

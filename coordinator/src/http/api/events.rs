//! Server-sent events: a page is told that there is something new, and asks for what it shows. So a page that is looked at
//! costs one look at the store a second, and what it shows has one way to it.

use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State as Extract};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use longhand_proto::RunId;
use serde::Deserialize;

use super::{Here, Refusal, run_id};
use crate::http::Served;
use crate::store::Result;

/// Time between two looks for changes.
const LOOK: Duration = Duration::from_secs(1);
/// Looks after which a page is told all the same: tokens of unfinished sections and times go on without a change.
const LOOKS: u32 = 3;

/// Whose changes; of all runs and workers if none.
#[derive(Debug, Deserialize)]
pub(super) struct Scope {
    run: Option<String>,
}

pub(super) async fn events(Extract(site): Here, Query(scope): Query<Scope>) -> Result<Response, Refusal> {
    let run = scope.run.as_deref().map(run_id).transpose()?;
    site.behind()?;
    let Ok(place) = Arc::clone(&site.streams).try_acquire_owned() else {
        let full = "as many pages as this coordinator tells of changes are open; this one asks now and then";
        return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, full.into()));
    };
    let begun = Follow { site, run, last: None, quiet: 0 };
    let events = stream::unfold((begun, place), |(mut follow, place)| async move {
        follow.change().await?;
        // One without data is none to a browser.
        Some((Ok::<_, Infallible>(Event::default().event("change").data("new")), (follow, place)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}

struct Follow {
    site: Arc<Served>,
    run: Option<RunId>,
    last: Option<u64>,
    quiet: u32,
}

impl Follow {
    /// Waits for something new; none when the server ends.
    async fn change(&mut self) -> Option<()> {
        loop {
            self.site.stop.run_until_cancelled(tokio::time::sleep(LOOK)).await?;
            let now = self.site.stop.run_until_cancelled(self.look()).await?;
            // A page that asks is told what is wrong with the store.
            let now = now.unwrap_or_else(|error| {
                tracing::debug!(%error, "no look at the store for a page");
                None
            });
            self.quiet += 1;
            if now != self.last || self.quiet >= LOOKS {
                (self.last, self.quiet) = (now, 0);
                return Some(());
            }
        }
    }

    /// A number that is another one after a change.
    async fn look(&self) -> Result<Option<u64>> {
        let Some(coordinator) = &self.site.site.coordinator else { return Ok(None) };
        let store = coordinator.store();
        let mut hash = DefaultHasher::new();
        match &self.run {
            Some(run) => {
                let shelf = coordinator.run_stats().look(store, run).await?;
                let paused = store.run(run).await?.map(|run| run.paused);
                (shelf.read().mark, paused).hash(&mut hash);
            }
            None => {
                for run in store.runs().await? {
                    let counts = store.counts(&run.id).await?;
                    (run.id.as_str(), run.paused, format!("{counts:?}")).hash(&mut hash);
                }
            }
        }
        Ok(Some(hash.finish()))
    }
}

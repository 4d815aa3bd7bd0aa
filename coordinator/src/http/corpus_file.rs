//! The accepted documents of a run as one file, written while it is read.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State as Extract};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::stream;

use super::error::{ApiError, run_id};
use super::guard::Access;
use super::state::AppState;
use crate::corpus::Record;
use crate::domain::document::Document;
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::files::atomic;
use crate::store::{Filter, Run, Store, StoreError};
use crate::text::filter::{NEAR_DUPLICATE, NearDuplicateIndex};

/// Documents of one page: about 8 MB of the longest ones.
const PAGE: u32 = 32;

/// The format of the file.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// One record on each line, as in `data/` of an export.
    JsonLines,
    /// Instruction and text.
    Markdown,
}

/// What the rest of the file is made of.
struct Rest {
    store: Arc<dyn Store>,
    run: Run,
    recipe: Recipe,
    kind: Kind,
    /// As in an export, a near duplicate of an earlier document is left out.
    others: NearDuplicateIndex,
    after: Option<u64>,
    done: bool,
    access: Access,
}

pub(super) async fn corpus(
    Extract(state): Extract<Arc<AppState>>,
    Extension(access): Extension<Access>,
    Path((run, file)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let (kind, content_type) = match file.as_str() {
        "corpus.jsonl" => (Kind::JsonLines, "application/jsonl"),
        "corpus.md" => (Kind::Markdown, "text/markdown; charset=utf-8"),
        _ => return Err(ApiError(StatusCode::NOT_FOUND, "expected corpus.jsonl or corpus.md".into())),
    };
    let (id, store) = (run_id(&run)?, Arc::clone(state.coordinator()?.store()));
    let run = store.run(&id).await?.ok_or(StoreError::NotFound { kind: "run", name: id.to_string() })?;
    let recipe = Recipe::from_toml(&run.recipe).map_err(|error| StoreError::Refused(error.to_string()))?;
    let others = NearDuplicateIndex::new();
    let rest = Rest { store, run, recipe, kind, others, after: None, done: false, access };
    let pages = stream::try_unfold(rest, Rest::page);
    let name =
        format!("attachment; filename=\"{id}.{}\"", if matches!(kind, Kind::JsonLines) { "jsonl" } else { "md" });
    Ok(([(CONTENT_TYPE, content_type.to_owned()), (CONTENT_DISPOSITION, name)], Body::from_stream(pages))
        .into_response())
}

impl Rest {
    async fn page(mut self) -> Result<Option<(Vec<u8>, Self)>, StoreError> {
        if self.done {
            return Ok(None);
        }
        // A large file takes longer than a token may live.
        if !self.access.is_valid() {
            return Err(StoreError::Refused("the token expired or was withdrawn".into()));
        }
        let filter = Filter { state: Some(State::Accepted), reason: None };
        let page = self.store.list(&self.run.id, &filter, self.after, PAGE).await?;
        (self.after, self.done) = (page.next, page.next.is_none());
        let unreadable = |error: crate::store::UnreadableDocument| StoreError::Other(error.to_string());
        let documents = page.records.iter().map(|record| record.document().map_err(unreadable));
        let documents = documents.collect::<Result<Vec<_>, _>>()?;
        let written = tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            for document in &documents {
                self.add(document, &mut out)?;
            }
            Ok::<_, StoreError>((out, self))
        });
        written.await.map_err(|error| StoreError::Other(error.to_string()))?.map(Some)
    }

    fn add(&mut self, document: &Document, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let Some(assembled) = document.assembled() else { return Ok(()) };
        let most = NEAR_DUPLICATE.threshold(&self.recipe.filters).unwrap_or(1.0);
        if self.others.measure(document.id, assembled.text, most).fired {
            return Ok(());
        }
        match self.kind {
            Kind::JsonLines => {
                let record = Record::of(document, &self.run, &self.recipe);
                atomic::json_line(out, &record).map_err(|error| StoreError::Other(error.to_string()))
            }
            Kind::Markdown => {
                let (instruction, text) = (document.instruction.text().replace('\n', "\n> "), assembled.text);
                out.extend(format!("> {instruction}\n\n{text}\n\n---\n\n").into_bytes());
                Ok(())
            }
        }
    }
}

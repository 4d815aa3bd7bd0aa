//! Reads a coordinator's run for an export.

use std::fmt;

use async_trait::async_trait;
use longhand_command::exit::Failure;
use longhand_coordinator::control::wire;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{self, Attempt, Counters, Filter, Page, Record, Run, Source, StoreError};
use longhand_proto::{DocumentId, RunId, v1};
use tokio::sync::Mutex;

use super::client::{OperatorClient, grpc};
use super::runs;

/// A source over gRPC. Which documents are exported is recorded in the folder, so nothing is marked in the store.
pub(super) struct RemoteSource {
    client: OperatorClient,
    /// Attempts of the last page: they come with their documents.
    attempts: Mutex<Vec<(DocumentId, Vec<Attempt>)>>,
    /// Sequence number up to which accepted documents were written, and up to which they were returned.
    written: Mutex<Option<u64>>,
    returned: Mutex<Option<u64>>,
}

impl fmt::Debug for RemoteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSource").field("client", &self.client).finish_non_exhaustive()
    }
}

impl RemoteSource {
    /// A source that reads through `client`.
    pub(super) fn new(client: OperatorClient) -> Self {
        Self { client, attempts: Mutex::default(), written: Mutex::default(), returned: Mutex::default() }
    }

    async fn page(
        &self,
        run: &RunId,
        filter: &Filter,
        after: Option<u64>,
        limit: u32,
    ) -> store::Result<(Page, Vec<(DocumentId, Vec<Attempt>)>)> {
        let request = v1::ListDocumentsRequest {
            run: run.to_string(),
            state: filter.state.map_or("", State::as_str).into(),
            reason: filter.reason.clone().unwrap_or_default(),
            after,
            limit,
            whole: true,
        };
        let list = |wire| {
            let request = request.clone();
            async move { grpc(wire).list_documents(request).await }
        };
        let reply = self.client.call("documents", list).await.map_err(unreachable)?;
        let mut page = Page { records: Vec::new(), next: reply.next };
        let mut attempts = Vec::new();
        for document in reply.documents {
            let (record, of) = record(document)?;
            attempts.push((record.id, of));
            page.records.push(record);
        }
        Ok((page, attempts))
    }
}

#[async_trait]
impl Source for RemoteSource {
    async fn run(&self, id: &RunId) -> store::Result<Option<Run>> {
        let run = runs::fetch(&self.client, id).await.map_err(unreachable)?;
        wire::run_from_wire(run).map(Some).map_err(|error| StoreError::Other(error.to_string()))
    }

    async fn attempts(&self, document: DocumentId) -> store::Result<Vec<Attempt>> {
        let attempts = self.attempts.lock().await;
        let found = attempts.iter().find(|(id, _)| *id == document);
        found
            .map(|(_, attempts)| attempts.clone())
            .ok_or_else(|| StoreError::NotFound { kind: "document", name: document.to_string() })
    }

    async fn list(&self, run: &RunId, filter: &Filter, after: Option<u64>, limit: u32) -> store::Result<Page> {
        let (page, attempts) = self.page(run, filter, after, limit).await?;
        *self.attempts.lock().await = attempts;
        Ok(page)
    }

    async fn unflushed(&self, run: &RunId, limit: u32) -> store::Result<Vec<Record>> {
        let after = *self.written.lock().await;
        let filter = Filter { state: Some(State::Accepted), reason: None };
        let (page, _) = self.page(run, &filter, after, limit).await?;
        *self.returned.lock().await = page.records.last().map(|record| record.seq);
        Ok(page.records)
    }

    async fn mark_flushed(&self, _: &RunId, _: &[DocumentId]) -> store::Result<Vec<DocumentId>> {
        if let Some(returned) = self.returned.lock().await.take() {
            *self.written.lock().await = Some(returned);
        }
        Ok(Vec::new())
    }
}

/// The error as an export expects it from a store.
fn unreachable(failure: Failure) -> StoreError {
    StoreError::Unreachable(failure.message)
}

pub(super) fn record(document: v1::Document) -> store::Result<(Record, Vec<Attempt>)> {
    let invalid =
        |what: &dyn fmt::Display| StoreError::Other(format!("cannot parse the coordinator's response: {what}"));
    let attempts = wire::attempts_from_wire(&document).map_err(|e| invalid(&e))?;
    let record = Record {
        id: document.id.parse().map_err(|e| invalid(&e))?,
        run: document.run.parse().map_err(|e| invalid(&e))?,
        state: document.state.parse().map_err(|e| invalid(&e))?,
        reason: document.reason,
        version: document.version,
        seq: document.seq,
        // An export does not follow changes.
        change_seq: 0,
        changed_ms: 0,
        open: document.open,
        judge: false,
        due_ms: document.due_ms,
        counters: Counters { errors: document.errors, losses: document.losses, releases: document.releases },
        lease: None,
        checkpoint: None,
        body: document.body,
        flushed: document.flushed,
    };
    Ok((record, attempts))
}

//! The run that a command reads: one of a coordinator, or the one of a corpus folder.

use std::path::Path;

use longhand_command::exit::{Failure, Result};
use longhand_command::output;
use longhand_coordinator::control::rpc::{self, Coordinator, ServiceOptions};
use longhand_proto::{DocumentId, RunId, v1};
use longhand_worker::client::failover_channel::{Credentials, FailoverChannel};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::{OperatorClient, grpc};
use crate::args::connection::ConnectionArgs;
use crate::run::pipe;
use crate::run::stored_corpus::{self, StoredCorpus};

/// Documents per call.
pub(super) const PAGE: u32 = 256;

/// A run, and a client that answers for it.
#[derive(Debug)]
pub(super) struct RunSource {
    pub(super) client: OperatorClient,
    pub(super) run: RunId,
    /// The folder, and the coordinator over it that ends with this value.
    _folder: Option<(StoredCorpus, DropGuard)>,
}

impl RunSource {
    /// The folder `name` if it is one of a corpus, else the coordinator's run of this name.
    pub(super) async fn open(name: &str, connection: &ConnectionArgs) -> Result<Self> {
        let dir = Path::new(name);
        if !stored_corpus::is_corpus(dir) {
            let run = name.parse().map_err(|error| {
                Failure::refused(format!("{error}; expected the name of a run, or the folder of a corpus"))
            })?;
            return Ok(Self { client: OperatorClient::open(connection)?, run, _folder: None });
        }
        output::note(&format!("reading the folder {}", dir.display()));
        let corpus = StoredCorpus::open(dir, None).await?;
        let (channel, incoming) = pipe::open().map_err(Failure::refused)?;
        let stop = CancellationToken::new();
        let coordinator = Coordinator::new(corpus.store.clone(), ServiceOptions::default());
        drop(tokio::spawn(rpc::serve_on(incoming, coordinator, None, stop.clone().cancelled_owned())));
        let link = FailoverChannel::from_channels(vec![channel], Credentials::default()).map_err(Failure::refused)?;
        let (client, run) = (OperatorClient::over(link, dir), corpus.run.clone());
        Ok(Self { client, run, _folder: Some((corpus, stop.drop_guard())) })
    }

    /// The document of this id, or the one of the row with this id.
    pub(super) async fn document(&self, name: &str) -> Result<DocumentId> {
        if let Ok(id) = name.parse() {
            return Ok(id);
        }
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(v1::ListDocumentsRequest { after, limit: PAGE, ..self.request() }).await?;
            found.extend(page.documents.into_iter().filter(|document| document.instruction_id == name));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        match &found[..] {
            [] => Err(Failure::refused(format!(
                "run {} has no document or row {name:?}; `longhand documents` lists both ids",
                self.run
            ))),
            [one] => one.id.parse().map_err(Failure::refused),
            several => {
                let ids: Vec<&str> = several.iter().map(|document| document.id.as_str()).collect();
                Err(Failure::refused(format!(
                    "row {name} has {} documents; name one of them: {}",
                    ids.len(),
                    ids.join(", ")
                )))
            }
        }
    }

    /// A request for all documents of the run.
    pub(super) fn request(&self) -> v1::ListDocumentsRequest {
        v1::ListDocumentsRequest { run: self.run.to_string(), ..v1::ListDocumentsRequest::default() }
    }

    /// A page of the run's documents.
    pub(super) async fn page(&self, request: v1::ListDocumentsRequest) -> Result<v1::ListDocumentsReply> {
        let list = |wire| {
            let request = request.clone();
            async move { grpc(wire).list_documents(request).await }
        };
        self.client.call("documents", list).await
    }
}

//! A coordinator on a free port over an in-memory store with a clock that tests advance, and workers with the mock engine.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use longhand_coordinator::control::rpc::{Access, Coordinator, ServiceOptions, serve_with};
use longhand_coordinator::control::submit::{RunSpec, SubmitReport, submit};
use longhand_coordinator::control::sweeper::{SweeperOptions, sweep};
use longhand_coordinator::domain::document::Document;
use longhand_coordinator::domain::instruction::Instruction;
use longhand_coordinator::domain::language::Language;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::store::{Attempt, AttemptEnd, Counts, Record, RunPolicy, SqliteStore, Store};
use longhand_proto::task::{Checkpoint, Failure, Lease, Message, ModelInfo, Output, Task};
use longhand_proto::v1::coordinator_client::CoordinatorClient;
use longhand_proto::{DocumentId, LeaseId, MAX_MESSAGE_BYTES, RunId, WorkerId, clock, v1};
use longhand_worker::client::{
    Credentials, FailoverChannel, Worker, WorkerError, WorkerOptions, WorkerReport, endpoint,
};
use longhand_worker::engine::mock::{MockEngine, MockOptions};
use longhand_worker::engine::{Engine, EngineStats, Event, Generation};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// A test that waits longer than this has hung.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The result of a future; panics after [`TIMEOUT`].
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("timed out")
}

pub(crate) struct Harness {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) coordinator: Coordinator,
    pub(crate) address: SocketAddr,
    pub(crate) recipe: Recipe,
    access: Access,
    /// Milliseconds by which the store's clock is ahead.
    ahead: Arc<AtomicU64>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

pub(crate) fn run_id() -> RunId {
    "harness".parse().unwrap()
}

/// A recipe with a short back-off.
pub(crate) fn quick_recipe() -> Recipe {
    let mut recipe = Recipe::builtin();
    recipe.retry.backoff_ms = 1;
    recipe.retry.max_backoff_ms = 5;
    recipe
}

pub(crate) fn instruction(number: usize, words: u32) -> Instruction {
    Instruction {
        id: Some(format!("row-{number}")),
        messages: vec![Message { role: "user".into(), content: format!("Write about harbour number {number}.") }],
        language: Language::En,
        required_words: Some(words),
        context: Vec::new(),
        metadata: serde_json::Map::new(),
        line: number as u64 + 1,
    }
}

impl Harness {
    /// With so many ready documents of 1,500 words.
    pub(crate) async fn start(documents: usize) -> Self {
        Self::with(documents, ServiceOptions::default()).await
    }

    pub(crate) async fn with(documents: usize, options: ServiceOptions) -> Self {
        Self::with_access(documents, options, Access::default()).await
    }

    pub(crate) async fn with_access(documents: usize, options: ServiceOptions, access: Access) -> Self {
        let harness = Self::empty(options, access).await;
        harness.submit(documents).await;
        harness
    }

    /// Of a recipe of the caller's.
    pub(crate) async fn with_recipe(documents: usize, recipe: Recipe) -> Self {
        let harness = Self { recipe, ..Self::empty(ServiceOptions::default(), Access::default()).await };
        harness.submit(documents).await;
        harness
    }

    /// Without a run.
    async fn empty(options: ServiceOptions, access: Access) -> Self {
        let ahead = Arc::new(AtomicU64::new(0));
        let moved = Arc::clone(&ahead);
        let now = move || clock::unix_ms() + moved.load(Ordering::SeqCst);
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory(now).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let coordinator = Coordinator::new(Arc::clone(&store), options);
        let stop = CancellationToken::new();
        let server = spawn_server(listener, coordinator.clone(), access.clone(), stop.clone());
        Self { store, coordinator, address, recipe: quick_recipe(), access, ahead, stop, server }
    }

    /// Over a coordinator that is already served.
    pub(crate) fn over(store: Arc<dyn Store>, coordinator: Coordinator, address: SocketAddr) -> Self {
        let (ahead, stop, server) = (Arc::default(), CancellationToken::new(), tokio::spawn(async {}));
        let access = Access::default();
        Self { store, coordinator, address, recipe: quick_recipe(), access, ahead, stop, server }
    }

    pub(crate) async fn submit(&self, documents: usize) -> SubmitReport {
        self.submit_rows((0..documents).map(|number| instruction(number, 1_500)).collect()).await
    }

    /// Submits documents of a few hundred words.
    pub(crate) async fn submit_short(&self, documents: usize) -> SubmitReport {
        self.submit_rows((0..documents).map(|number| instruction(number, 200)).collect()).await
    }

    /// Submits documents whose instructions have these sizes in bytes.
    pub(crate) async fn submit_prompts(&self, sizes: Vec<usize>) -> SubmitReport {
        let long = |(number, size): (usize, usize)| {
            let mut row = instruction(number, 1_500);
            row.messages[0].content.extend(std::iter::repeat_n('x', size));
            row
        };
        self.submit_rows(sizes.into_iter().enumerate().map(long).collect()).await
    }

    async fn submit_rows(&self, rows: Vec<Instruction>) -> SubmitReport {
        let spec =
            RunSpec { id: run_id(), recipe: self.recipe.clone(), seed: 7, candidates: 1, policy: RunPolicy::default() };
        let report = submit(self.store.as_ref(), &spec, rows.into_iter().map(Ok)).await.unwrap();
        self.coordinator.wake(report.inserted as usize);
        report
    }

    /// Advances the store's clock.
    pub(crate) fn advance(&self, by: Duration) {
        self.ahead.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    pub(crate) async fn sweep(&self) -> usize {
        sweep(&self.coordinator, &SweeperOptions::default()).await.unwrap()
    }

    /// Lets every lease expire, and sweeps.
    pub(crate) async fn expire(&self) -> usize {
        self.advance(self.coordinator.options().lease + Duration::from_secs(1));
        self.sweep().await
    }

    /// Stops the coordinator and starts another one on the same port over the same store.
    pub(crate) async fn restart(&mut self) {
        self.stop.cancel();
        within(&mut self.server).await.unwrap();
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.coordinator = Coordinator::new(Arc::clone(&self.store), self.coordinator.options().clone());
        self.stop = CancellationToken::new();
        self.server = spawn_server(listener, self.coordinator.clone(), self.access.clone(), self.stop.clone());
    }

    /// Stops the coordinator.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        within(&mut self.server).await.unwrap();
    }

    pub(crate) fn channel(&self) -> Channel {
        endpoint(&format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    pub(crate) fn worker(&self, engine: Arc<dyn Engine>) -> WorkerHandle {
        let mut options = WorkerOptions::new(WorkerId::mint("test"));
        options.checkpoint_every = Duration::from_millis(5);
        self.start_worker(engine, options)
    }

    pub(crate) fn start_worker(&self, engine: Arc<dyn Engine>, options: WorkerOptions) -> WorkerHandle {
        self.start_worker_with(engine, options, Credentials::default())
    }

    pub(crate) fn start_worker_with(
        &self,
        engine: Arc<dyn Engine>,
        options: WorkerOptions,
        credentials: Credentials,
    ) -> WorkerHandle {
        let link = FailoverChannel::from_channels(vec![self.channel()], credentials).unwrap();
        let worker = Worker::new(link, engine, options);
        let stop = CancellationToken::new();
        WorkerHandle { work: tokio::spawn(worker.run(stop.clone())), stop }
    }

    pub(crate) async fn counts(&self) -> Counts {
        self.store.counts(&run_id()).await.unwrap()
    }

    pub(crate) async fn records(&self) -> Vec<Record> {
        self.store.list(&run_id(), &Default::default(), None, 1_000).await.unwrap().records
    }

    pub(crate) async fn record(&self, id: DocumentId) -> Record {
        self.store.get(id).await.unwrap().expect("a document that was submitted")
    }

    pub(crate) async fn attempts(&self, id: DocumentId) -> Vec<Attempt> {
        self.store.attempts(id).await.unwrap()
    }

    /// Waits until `condition` holds for the documents. Checks after every change, and every few milliseconds, because
    /// renewals are not announced as changes.
    pub(crate) async fn until(&self, condition: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        let mut changes = self.coordinator.changes();
        within(async {
            loop {
                changes.borrow_and_update();
                let records = self.records().await;
                if condition(&records) {
                    return records;
                }
                tokio::time::timeout(Duration::from_millis(5), changes.changed()).await.ok();
            }
        })
        .await
    }

    pub(crate) async fn finished(&self) -> Vec<Record> {
        self.until(|records| records.iter().all(|record| record.state.is_terminal())).await
    }

    /// Sections of the completed attempts of this kind, in order: shows that nothing was done twice.
    pub(crate) async fn completed(&self, id: DocumentId, kind: &str) -> Vec<u64> {
        let attempts = self.attempts(id).await;
        let completed = attempts.iter().filter(|it| it.end == AttemptEnd::Completed && it.detail["kind"] == kind);
        completed.map(|it| it.detail["section"].as_u64().unwrap()).collect()
    }
}

fn spawn_server(
    listener: TcpListener,
    coordinator: Coordinator,
    access: Access,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move { serve_with(listener, coordinator, access, stop.cancelled_owned()).await.unwrap() })
}

/// A running worker. Dropping it kills it: its leases are not released.
pub(crate) struct WorkerHandle {
    pub(crate) stop: CancellationToken,
    work: JoinHandle<Result<WorkerReport, WorkerError>>,
}

impl WorkerHandle {
    pub(crate) async fn end(mut self) -> Result<WorkerReport, WorkerError> {
        within(&mut self.work).await.unwrap()
    }

    pub(crate) async fn stop(self) -> WorkerReport {
        self.stop.cancel();
        self.end().await.unwrap()
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.work.abort();
    }
}

pub(crate) fn mock(options: MockOptions) -> Arc<MockEngine> {
    Arc::new(MockEngine::new(options))
}

pub(crate) fn document(record: &Record) -> Document {
    record.document().unwrap()
}

/// What the mock engine writes for a task.
pub(crate) async fn write(task: Task) -> Output {
    let mut generation = MockEngine::new(MockOptions::default()).start(task, None);
    within(async {
        loop {
            match generation.events.recv().await.expect("an end") {
                Event::Tokens(_) => {}
                Event::Done(output) => return output,
                Event::Failed(failure) => panic!("{failure:?}"),
            }
        }
    })
    .await
}

/// A worker that makes single calls.
pub(crate) struct RawClient {
    pub(crate) client: CoordinatorClient<Channel>,
    worker: WorkerId,
    kinds: Vec<i32>,
}

impl RawClient {
    pub(crate) fn of(harness: &Harness) -> Self {
        let client = CoordinatorClient::new(harness.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Self { client, worker: WorkerId::mint("raw"), kinds: v1::TaskKind::known() }
    }

    /// Another worker, at that address of this machine.
    pub(crate) fn at(harness: &Harness, address: IpAddr) -> Self {
        let endpoint = endpoint(&format!("http://{}", harness.address)).unwrap().local_address(Some(address));
        Self { client: CoordinatorClient::new(endpoint.connect_lazy()), ..Self::of(harness) }
    }

    /// A worker of an older build, which does not state the task kinds that it supports.
    pub(crate) fn older(harness: &Harness) -> Self {
        Self { kinds: Vec::new(), ..Self::of(harness) }
    }

    pub(crate) async fn lease(&self, request_id: &str, slots: u32, wait: Duration) -> Vec<Lease> {
        let request = v1::LeaseRequest {
            worker: self.worker.to_string(),
            request_id: request_id.into(),
            slots,
            wait_ms: wait.as_millis() as u64,
            model: "mock".into(),
            weights_hash: "mock".into(),
            kinds: self.kinds.clone(),
        };
        let reply = within(self.client.clone().lease(request)).await.unwrap().into_inner();
        reply.leases.into_iter().map(|lease| lease.try_into().unwrap()).collect()
    }

    /// Leases one document, without waiting.
    pub(crate) async fn take(&self) -> Lease {
        let mut leases = self.lease(&LeaseId::mint().to_string(), 1, Duration::ZERO).await;
        leases.pop().expect("a document was ready")
    }

    pub(crate) async fn complete(&self, lease: LeaseId, output: Output) -> (v1::Outcome, Option<Lease>) {
        let request = v1::CompleteRequest {
            worker: self.worker.to_string(),
            lease_id: lease.to_string(),
            result: Some(v1::complete_request::Result::Output(output.into())),
            want_next: true,
            model: Some(ModelInfo::default().into()),
            kinds: self.kinds.clone(),
            cost: 0.0,
        };
        let reply = within(self.client.clone().complete(request)).await.unwrap().into_inner();
        (reply.outcome(), reply.next.map(|lease| lease.try_into().unwrap()))
    }

    /// Fails a document for good.
    pub(crate) async fn fail(&self, lease: LeaseId) {
        let failure = v1::Failure { class: "stolen".into(), message: "gone".into(), permanent: true };
        let request = v1::CompleteRequest {
            worker: self.worker.to_string(),
            lease_id: lease.to_string(),
            result: Some(v1::complete_request::Result::Failure(failure)),
            ..v1::CompleteRequest::default()
        };
        within(self.client.clone().complete(request)).await.unwrap();
    }

    pub(crate) async fn renew(&self, lease: LeaseId, progress: u64, tokens: Vec<u32>) -> Vec<String> {
        let checkpoint = Some(Checkpoint { tokens, tokenizer_hash: "mock".into(), ..Checkpoint::default() }.into());
        let renewals =
            vec![v1::Renewal { lease_id: lease.to_string(), progress, checkpoint, ..v1::Renewal::default() }];
        let request = v1::RenewRequest { worker: self.worker.to_string(), renewals, vitals: None };
        within(self.client.clone().renew(request)).await.unwrap().into_inner().lost
    }
}

/// An engine that fails one document permanently and writes all others.
#[derive(Debug)]
pub(crate) struct RejectingEngine {
    pub(crate) inner: MockEngine,
    pub(crate) rejects: DocumentId,
    pub(crate) failure: Failure,
}

impl Engine for RejectingEngine {
    fn model(&self) -> &ModelInfo {
        self.inner.model()
    }

    fn slots(&self) -> u32 {
        self.inner.slots()
    }

    fn start(&self, task: Task, resume: Option<Checkpoint>) -> Generation {
        if task.document != self.rejects {
            return self.inner.start(task, resume);
        }
        let (sender, events) = tokio::sync::mpsc::channel(1);
        sender.try_send(Event::Failed(self.failure.clone())).unwrap();
        Generation { events }
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }

    fn dead(&self) -> BoxFuture<'_, String> {
        self.inner.dead()
    }
}

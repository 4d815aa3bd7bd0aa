//! Two coordinators over one store, four workers and an operator, on a simulated network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longhand_coordinator::control::rpc::{Coordinator, ServiceOptions, serve_on};
use longhand_coordinator::control::submit::{RunSpec, submit};
use longhand_coordinator::control::sweeper::{self, SweeperOptions};
use longhand_coordinator::domain::instruction::Instruction;
use longhand_coordinator::domain::language::Language;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::store::{RunPolicy, SqliteStore, Store};
use longhand_proto::task::Message;
use longhand_proto::v1::operator_client::OperatorClient;
use longhand_proto::{DocumentId, RunId, rng, v1};
use longhand_worker::client::failover_channel::RetryPolicy;
use longhand_worker::client::{Credentials, FailoverChannel, Worker, WorkerError, WorkerOptions};
use longhand_worker::engine::mock::{Faults, MockEngine, MockOptions};
use turmoil::Sim;

use super::clock;
use super::event_counts::EventCounts;
use super::fault_schedule::{Fault, Host, ScheduledFault, draw};
use super::history::History;
use super::invariant_checker::InvariantChecker;
use super::mutation::Mutation;
use super::network::{accept, channel};
use super::process::Process;
use super::store_proxy::StoreProxy;

pub(crate) const COORDINATORS: usize = 2;
pub(crate) const WORKERS: usize = 4;
pub(crate) const HOSTS: usize = COORDINATORS + WORKERS;
const OPERATOR: &str = "operator";
const DOCUMENTS: usize = 5;
/// Three sections.
const WORDS: u32 = 900;
/// Time slice of a host: coarser ones hide races, finer ones take longer. Latencies are up to two slices.
const TICK: Duration = Duration::from_millis(50);
const MIN_LATENCY: Duration = Duration::from_millis(1);
const MAX_LATENCY: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_secs(10);
/// A fault-free run takes 35 s. One that takes longer than this is stuck.
const LIMIT: Duration = Duration::from_secs(900);
/// A process that exited is restarted after this.
const RESTART: Duration = Duration::from_secs(1);

pub(crate) fn run_id() -> RunId {
    "simulated".parse().unwrap()
}

/// What is simulated beside the seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) mutation: Mutation,
    /// No faults are injected.
    pub(crate) fault_free: bool,
}

/// How a simulation ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) history: History,
    pub(crate) counts: EventCounts,
    pub(crate) violation: Option<String>,
    /// Texts of the documents at the end.
    pub(crate) texts: BTreeMap<DocumentId, String>,
}

pub(crate) fn host_name(host: Host) -> String {
    if host < COORDINATORS { format!("coordinator-{host}") } else { format!("worker-{}", host - COORDINATORS) }
}

/// Runs one simulation on this thread.
pub(crate) fn simulate(scenario: Scenario, texts: Option<&BTreeMap<DocumentId, String>>) -> Outcome {
    clock::start();
    rng::seed(scenario.seed);
    Simulation::new(scenario).run(texts)
}

struct Simulation {
    sim: Sim<'static>,
    checker: Arc<InvariantChecker>,
    processes: Vec<Arc<Process>>,
    documents: Vec<DocumentId>,
    scheduled: Vec<ScheduledFault>,
    /// Faults that are active.
    active: Vec<ScheduledFault>,
    /// Hosts whose processes are down, and when they are restarted.
    down: BTreeMap<Host, Duration>,
    /// Links with an active fault.
    faulty_links: BTreeSet<(Host, Host)>,
}

impl Simulation {
    fn new(scenario: Scenario) -> Self {
        let store = SqliteStore::in_memory(clock::unix_ms).unwrap();
        let checker = Arc::new(InvariantChecker::new(store.clone()));
        let processes: Vec<Arc<Process>> = (0..HOSTS).map(|host| Process::new(&host_name(host))).collect();
        // The run exists before the hosts start.
        let documents = futures::executor::block_on(submit_all(&store));
        checker.observe(OPERATOR, &super::step::Step::Submit);

        let mut sim = turmoil::Builder::new()
            .rng_seed(scenario.seed)
            .tick_duration(TICK)
            .min_message_latency(MIN_LATENCY)
            .max_message_latency(MAX_LATENCY)
            .tcp_capacity(4_096)
            .simulation_duration(LIMIT * 2)
            .build();
        for (host, process) in processes.iter().enumerate() {
            let (process, checker) = (Arc::clone(process), Arc::clone(&checker));
            if host < COORDINATORS {
                let store = store.clone();
                sim.host(host_name(host), move || {
                    let (store, checker, process) = (store.clone(), Arc::clone(&checker), Arc::clone(&process));
                    let mutation = scenario.mutation;
                    let store: Arc<dyn Store> =
                        Arc::new(StoreProxy { store, checker, process: Arc::clone(&process), mutation });
                    async move { run_coordinator(store, &process).await }
                });
            } else {
                let faults = faults(scenario);
                sim.host(host_name(host), move || {
                    let (checker, process) = (Arc::clone(&checker), Arc::clone(&process));
                    async move {
                        run_worker(&checker, &process, faults).await;
                        Ok(())
                    }
                });
            }
        }
        let (operated, watcher) = (documents.clone(), Arc::clone(&checker));
        sim.client(OPERATOR, async move {
            if !scenario.fault_free && scenario.seed.is_multiple_of(3) {
                operate(&operated, &watcher).await;
            }
            Ok(())
        });
        let scheduled = if scenario.fault_free { Vec::new() } else { draw(scenario.seed) };
        Self {
            sim,
            checker,
            processes,
            documents,
            scheduled,
            active: Vec::new(),
            down: BTreeMap::new(),
            faulty_links: BTreeSet::new(),
        }
    }

    fn run(mut self, texts: Option<&BTreeMap<DocumentId, String>>) -> Outcome {
        let ended = self
            .until_ended()
            .and_then(|()| self.shut_down())
            .and_then(|()| self.checker.check_end(&self.documents, texts));
        if let Err(violation) = ended {
            self.checker.report(violation);
        }
        let texts = self.checker.records().iter().map(|record| (record.id, text(&record.body))).collect();
        // The hosts are dropped first: they use the checker.
        drop(self.sim);
        let mut state = self.checker.state();
        let (history, counts) = (std::mem::take(&mut state.history), state.counts);
        Outcome { history, counts, violation: state.violation.take(), texts }
    }

    /// Steps until every document has ended and the operator is done.
    fn until_ended(&mut self) -> Result<(), String> {
        loop {
            self.begin_faults();
            self.end_faults();
            self.restart_hosts();
            let done = self.sim.step().map_err(|error| format!("the simulation stopped: {error}"))?;
            if let Some(violation) = &self.checker.state().violation {
                return Err(violation.clone());
            }
            if done && self.checker.unfinished() == 0 {
                return Ok(());
            }
            if self.sim.elapsed() > LIMIT {
                return Err(format!("{} documents have not ended after {LIMIT:?}", self.checker.unfinished()));
            }
        }
    }

    /// Ends all faults and stops all processes: no lease may be left.
    fn shut_down(&mut self) -> Result<(), String> {
        self.scheduled.clear();
        for fault in &mut self.active {
            fault.until = Duration::ZERO;
        }
        self.end_faults();
        // Workers first: they have leases to hand back.
        for hosts in [COORDINATORS..HOSTS, 0..COORDINATORS] {
            self.processes[hosts.clone()].iter().for_each(|process| process.stop());
            let limit = self.sim.elapsed() + Duration::from_secs(60);
            while let Some(left) = hosts.clone().find(|host| self.sim.is_host_running(host_name(*host))) {
                self.sim.step().map_err(|error| format!("the simulation stopped: {error}"))?;
                if self.sim.elapsed() > limit {
                    return Err(format!("{} did not stop when asked to", host_name(left)));
                }
            }
        }
        match self.checker.state().violation.clone() {
            Some(violation) => Err(violation),
            None => Ok(()),
        }
    }

    fn begin_faults(&mut self) {
        while let Some(fault) = self.scheduled.first().copied().filter(|fault| fault.at <= self.sim.elapsed()) {
            self.scheduled.remove(0);
            if self.begin(fault.fault, fault.until) {
                self.checker.note("faults", format!("{:?} until {:.1}", fault.fault, fault.until.as_secs_f64()));
                self.active.push(fault);
            }
        }
    }

    fn end_faults(&mut self) {
        let now = self.sim.elapsed();
        let (over, active): (Vec<_>, Vec<_>) = self.active.drain(..).partition(|fault| fault.until <= now);
        self.active = active;
        for fault in over {
            self.checker.note("faults", format!("{:?} is over", fault.fault));
            self.end(fault.fault);
        }
    }

    /// False if another fault is active there.
    fn begin(&mut self, fault: Fault, until: Duration) -> bool {
        match fault {
            Fault::Crash(host) => {
                if self.down.contains_key(&host) || !self.sim.is_host_running(host_name(host)) {
                    return false;
                }
                self.with_constant_latency(host, |sim, name| sim.crash(name));
                self.down.insert(host, until);
            }
            Fault::Stop(host) => self.processes[host].stop(),
            Fault::EngineDies(host) => self.processes[host].kill_engine(),
            Fault::StoreUnreliable(host) => self.processes[host].set_store_loss(30),
            Fault::Freeze(host) => {
                let links: Vec<_> = (0..HOSTS).filter(|it| *it != host).map(|it| link(host, it)).collect();
                if links.iter().any(|link| self.faulty_links.contains(link)) {
                    return false;
                }
                self.processes[host].freeze(true);
                for link in links {
                    self.faulty_links.insert(link);
                    self.sim.hold(host_name(link.0), host_name(link.1));
                }
                self.sim.hold(host_name(host), OPERATOR);
            }
            Fault::Cut(a, b) if self.faulty_links.insert(link(a, b)) => self.sim.partition(host_name(a), host_name(b)),
            Fault::CutOneWay(a, b) if self.faulty_links.insert(link(a, b)) => {
                self.sim.partition_oneway(host_name(a), host_name(b));
            }
            Fault::Delay(a, b) if self.faulty_links.insert(link(a, b)) => self.sim.hold(host_name(a), host_name(b)),
            Fault::Cut(..) | Fault::CutOneWay(..) | Fault::Delay(..) => return false,
        }
        true
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(_) | Fault::Stop(_) | Fault::EngineDies(_) => {}
            Fault::StoreUnreliable(host) => self.processes[host].set_store_loss(0),
            Fault::Freeze(host) => {
                for other in (0..HOSTS).filter(|it| *it != host) {
                    self.faulty_links.remove(&link(host, other));
                    self.sim.release(host_name(host), host_name(other));
                }
                self.sim.release(host_name(host), OPERATOR);
                self.processes[host].freeze(false);
            }
            Fault::Cut(a, b) | Fault::CutOneWay(a, b) => {
                self.faulty_links.remove(&link(a, b));
                self.sim.repair(host_name(a), host_name(b));
            }
            Fault::Delay(a, b) => {
                self.faulty_links.remove(&link(a, b));
                self.sim.release(host_name(a), host_name(b));
            }
        }
    }

    /// Kills or restarts a host. The order in which its tasks end and close their connections depends on process-wide ids
    /// of tokio, which no seed controls; constant latency makes the order irrelevant.
    fn with_constant_latency(&mut self, host: Host, end: impl FnOnce(&mut Sim<'static>, String)) {
        let others: Vec<_> = (0..HOSTS).filter(|it| *it != host).map(host_name).chain([OPERATOR.to_owned()]).collect();
        for other in &others {
            self.sim.set_link_latency(host_name(host), other.as_str(), MIN_LATENCY);
        }
        end(&mut self.sim, host_name(host));
        for other in &others {
            self.sim.set_link_max_message_latency(host_name(host), other.as_str(), MAX_LATENCY);
        }
    }

    fn restart_hosts(&mut self) {
        let now = self.sim.elapsed();
        for host in 0..HOSTS {
            if !self.down.contains_key(&host) && !self.sim.is_host_running(host_name(host)) {
                self.down.insert(host, now + RESTART);
            }
            if self.down.get(&host).is_some_and(|until| *until <= now) {
                self.down.remove(&host);
                self.checker.note("faults", format!("{} restarts", host_name(host)));
                self.with_constant_latency(host, |sim, name| sim.bounce(name));
            }
        }
    }
}

fn link(a: Host, b: Host) -> (Host, Host) {
    (a.min(b), a.max(b))
}

fn text(body: &str) -> String {
    let document: longhand_coordinator::domain::document::Document = serde_json::from_str(body).unwrap();
    document.sections().iter().map(|section| section.text.as_str()).collect::<Vec<_>>().join("\n\n")
}

async fn submit_all(store: &SqliteStore) -> Vec<DocumentId> {
    let mut recipe = Recipe::builtin();
    recipe.retry.backoff_ms = 500;
    recipe.retry.max_backoff_ms = 4_000;
    let rows = (0..DOCUMENTS).map(|number| Instruction {
        id: Some(format!("row-{number}")),
        messages: vec![Message { role: "user".into(), content: format!("Write about harbour number {number}.") }],
        language: Language::En,
        required_words: Some(WORDS),
        context: Vec::new(),
        metadata: serde_json::Map::new(),
        line: number as u64 + 1,
    });
    let spec = RunSpec { id: run_id(), recipe, seed: 7, candidates: 1, policy: RunPolicy::default() };
    submit(store, &spec, rows.map(Ok)).await.unwrap();
    (0..DOCUMENTS).map(|number| DocumentId::derive(&run_id(), &format!("row-{number}"), 0)).collect()
}

/// Half of the seeds have a failing engine too.
fn faults(scenario: Scenario) -> Faults {
    if scenario.fault_free || scenario.seed.is_multiple_of(2) {
        return Faults::default();
    }
    Faults { error: 0.05, bad_plan: 0.05, truncated: 0.03, repetition: 0.03, stall: 0.03, die_after: None }
}

async fn run_coordinator(store: Arc<dyn Store>, process: &Arc<Process>) -> Result<(), Box<dyn std::error::Error>> {
    let stop = process.begin(None);
    let options = ServiceOptions {
        lease: LEASE,
        max_wait: Duration::from_secs(5),
        poll: Duration::from_millis(500),
        ..ServiceOptions::default()
    };
    let sweep = SweeperOptions {
        every: Duration::from_secs(2),
        no_progress: Duration::from_secs(40),
        audit: Duration::from_secs(30),
        ..SweeperOptions::default()
    };
    let coordinator = Coordinator::new(store, options);
    let sweeper = sweeper::run(coordinator.clone(), sweep, stop.clone());
    let incoming = accept().await?;
    let served = serve_on(incoming, coordinator, None, stop.cancelled());
    let (served, ()) = process.run(futures::future::join(served, sweeper)).await;
    Ok(served?)
}

async fn run_worker(checker: &InvariantChecker, process: &Arc<Process>, faults: Faults) {
    let options = MockOptions { slots: 2, tokens_per_second: 40.0, faults, ..MockOptions::default() };
    let engine = Arc::new(MockEngine::new(options));
    let stop = process.begin(Some(Arc::clone(&engine)));
    let replicas = (0..COORDINATORS).map(|host| channel(&host_name(host))).collect();
    let link = FailoverChannel::from_channels(replicas, Credentials::default()).unwrap();
    let mut options = WorkerOptions::new(format!("{}-{:x}", process.name, rng::below(1 << 32)).parse().unwrap());
    options.checkpoint_every = Duration::from_secs(2);
    options.wait = Duration::from_secs(5);
    options.call_timeout = Duration::from_secs(3);
    options.grace = Duration::from_secs(5);
    match process.run(Worker::new(link, engine, options).run(stop)).await {
        Ok(report) => checker.note(&process.name, format!("ended: {report:?}")),
        Err(error @ WorkerError::EngineDead(_)) => checker.note(&process.name, error),
        Err(error @ (WorkerError::Refused(_) | WorkerError::Unreachable { .. })) => {
            checker.report(format!("{} ended: {error}", process.name));
        }
    }
}

/// An operator who cancels, requeues and pauses at random times.
async fn operate(documents: &[DocumentId], checker: &InvariantChecker) {
    let replicas = (0..COORDINATORS).map(|host| channel(&host_name(host))).collect();
    let link = FailoverChannel::from_channels(replicas, Credentials::default()).unwrap();
    let patience = RetryPolicy {
        attempt_timeout: Duration::from_secs(3),
        total_timeout: Duration::from_secs(600),
        refused_timeout: Duration::from_secs(600),
    };
    for _ in 0..4 {
        tokio::time::sleep(rng::around(Duration::from_secs(12))).await;
        let (run, document) = (run_id().to_string(), documents[rng::below(documents.len() as u64) as usize]);
        let action = rng::below(3);
        let done = match action {
            0 => {
                let request = v1::CancelRequest { run, document: document.to_string() };
                let call = |wire| {
                    let request = request.clone();
                    async move { OperatorClient::new(wire).cancel(request).await }
                };
                link.call_with_retry("cancel", patience, call).await.map(drop)
            }
            1 => {
                let which = v1::requeue_request::Which::Document(document.to_string());
                let request = v1::RequeueRequest { run, which: Some(which), ..Default::default() };
                let call = |wire| {
                    let request = request.clone();
                    async move { OperatorClient::new(wire).requeue(request).await }
                };
                link.call_with_retry("requeue", patience, call).await.map(drop)
            }
            _ => {
                for paused in [true, false] {
                    let request = v1::PauseRequest { run: run.clone(), paused };
                    let call = |wire| {
                        let request = request.clone();
                        async move { OperatorClient::new(wire).pause(request).await }
                    };
                    if let Err(error) = link.call_with_retry("pause", patience, call).await {
                        checker.report(format!("the run cannot be paused: {:?}", error.status()));
                    }
                    tokio::time::sleep(rng::up_to(Duration::from_secs(10))).await;
                }
                Ok(())
            }
        };
        let refused = done.err().map(|error| error.status().message().to_owned());
        checker.note(OPERATOR, format!("action {action} on {document}: {refused:?}"));
    }
    if rng::below(4) == 0 {
        let request = v1::CancelRequest { run: run_id().to_string(), document: String::new() };
        let call = |wire| {
            let request = request.clone();
            async move { OperatorClient::new(wire).cancel(request).await }
        };
        if let Err(error) = link.call_with_retry("cancel", patience, call).await {
            checker.report(format!("the run cannot be cancelled: {:?}", error.status()));
        }
    }
}

//! Two coordinators over one store, four workers, and an operator, on a simulated network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longhand_coordinator::control::rpc::{Access, Coordinator, ServiceOptions, serve_on};
use longhand_coordinator::control::submit::{RunSpec, submit};
use longhand_coordinator::control::sweeper::{self, SweeperOptions};
use longhand_coordinator::domain::instruction::Instruction;
use longhand_coordinator::domain::language::Language;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::store::{SqliteStore, Store, Terms};
use longhand_proto::task::Message;
use longhand_proto::v1::operator_client::OperatorClient;
use longhand_proto::{DocumentId, RunId, chance, v1};
use longhand_worker::client::failover_channel::RetryPolicy;
use longhand_worker::client::{Credentials, FailoverChannel, Worker, WorkerError, WorkerOptions};
use longhand_worker::engine::mock::{Faults, MockEngine, MockOptions};
use turmoil::Sim;

use super::clock;
use super::history::History;
use super::mutation::Mutation;
use super::process::Process;
use super::replica::Replica;
use super::weather::{Fault, Host, Spell, forecast};
use super::wire::{accept, channel};
use super::witness::{Tally, Witness};

pub(crate) const COORDINATORS: usize = 2;
pub(crate) const WORKERS: usize = 4;
pub(crate) const HOSTS: usize = COORDINATORS + WORKERS;
const OPERATOR: &str = "operator";
const DOCUMENTS: usize = 5;
/// Three sections.
const WORDS: u32 = 900;
/// Each host's turn: coarser ones hide races, finer ones take longer. Latencies go up to two of them.
const TICK: Duration = Duration::from_millis(50);
const LEAST_LATENCY: Duration = Duration::from_millis(1);
const LATENCY: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_secs(10);
/// A run that nothing disturbs takes 35 s. Whatever lasts longer than this is stuck.
const LIMIT: Duration = Duration::from_secs(900);
/// A process that ended is started again after this.
const RESTART: Duration = Duration::from_secs(1);

pub(crate) fn run_id() -> RunId {
    "simulated".parse().unwrap()
}

/// What is simulated beside the seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) mutation: Mutation,
    /// Nothing goes wrong.
    pub(crate) calm: bool,
}

/// How a simulation ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) history: History,
    pub(crate) tally: Tally,
    pub(crate) breach: Option<String>,
    /// Texts of the documents as they are.
    pub(crate) texts: BTreeMap<DocumentId, String>,
}

pub(crate) fn host_name(host: Host) -> String {
    if host < COORDINATORS { format!("coordinator-{host}") } else { format!("worker-{}", host - COORDINATORS) }
}

/// Runs one simulation on this thread.
pub(crate) fn simulate(scenario: Scenario, texts: Option<&BTreeMap<DocumentId, String>>) -> Outcome {
    clock::start();
    chance::seed(scenario.seed);
    World::new(scenario).run(texts)
}

struct World {
    sim: Sim<'static>,
    witness: Arc<Witness>,
    processes: Vec<Arc<Process>>,
    documents: Vec<DocumentId>,
    spells: Vec<Spell>,
    /// Spells that have begun.
    begun: Vec<Spell>,
    /// Hosts whose processes are down, and when they are started again.
    down: BTreeMap<Host, Duration>,
    /// Links that a spell has.
    taken: BTreeSet<(Host, Host)>,
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let store = SqliteStore::in_memory(clock::unix_ms).unwrap();
        let witness = Arc::new(Witness::new(store.clone()));
        let processes: Vec<Arc<Process>> = (0..HOSTS).map(|host| Process::new(&host_name(host))).collect();
        // The run is there before the fleet.
        let documents = futures::executor::block_on(submit_all(&store));
        witness.saw(OPERATOR, &super::witness::Step::Submit);

        let mut sim = turmoil::Builder::new()
            .rng_seed(scenario.seed)
            .tick_duration(TICK)
            .min_message_latency(LEAST_LATENCY)
            .max_message_latency(LATENCY)
            .tcp_capacity(4_096)
            .simulation_duration(LIMIT * 2)
            .build();
        for (host, process) in processes.iter().enumerate() {
            let (process, witness) = (Arc::clone(process), Arc::clone(&witness));
            if host < COORDINATORS {
                let store = store.clone();
                sim.host(host_name(host), move || {
                    let (store, witness, process) = (store.clone(), Arc::clone(&witness), Arc::clone(&process));
                    let mutation = scenario.mutation;
                    let store: Arc<dyn Store> =
                        Arc::new(Replica { store, witness, process: Arc::clone(&process), mutation });
                    async move { coordinate(store, &process).await }
                });
            } else {
                let faults = faults(scenario);
                sim.host(host_name(host), move || {
                    let (witness, process) = (Arc::clone(&witness), Arc::clone(&process));
                    async move {
                        work(&witness, &process, faults).await;
                        Ok(())
                    }
                });
            }
        }
        let (operated, watcher) = (documents.clone(), Arc::clone(&witness));
        sim.client(OPERATOR, async move {
            if !scenario.calm && scenario.seed.is_multiple_of(3) {
                operate(&operated, &watcher).await;
            }
            Ok(())
        });
        let spells = if scenario.calm { Vec::new() } else { forecast(scenario.seed) };
        Self {
            sim,
            witness,
            processes,
            documents,
            spells,
            begun: Vec::new(),
            down: BTreeMap::new(),
            taken: BTreeSet::new(),
        }
    }

    fn run(mut self, texts: Option<&BTreeMap<DocumentId, String>>) -> Outcome {
        let ended = self
            .until_ended()
            .and_then(|()| self.retire())
            .and_then(|()| self.witness.judge_end(&self.documents, texts));
        if let Err(breach) = ended {
            self.witness.breach(breach);
        }
        let texts = self.witness.records().iter().map(|record| (record.id, text(&record.body))).collect();
        // The hosts go first: they hold the witness.
        drop(self.sim);
        let mut book = self.witness.book();
        let (history, tally) = (std::mem::take(&mut book.history), book.tally);
        Outcome { history, tally, breach: book.breach.take(), texts }
    }

    /// Steps until every document is at its end and the operator has gone.
    fn until_ended(&mut self) -> Result<(), String> {
        loop {
            self.begin_spells();
            self.end_spells();
            self.start_again();
            let gone = self.sim.step().map_err(|error| format!("the simulation stopped: {error}"))?;
            if let Some(breach) = &self.witness.book().breach {
                return Err(breach.clone());
            }
            if gone && self.witness.unfinished() == 0 {
                return Ok(());
            }
            if self.sim.elapsed() > LIMIT {
                return Err(format!("{} documents are not at their end after {LIMIT:?}", self.witness.unfinished()));
            }
        }
    }

    /// Heals everything and asks all to stop: nothing may be left in anybody's hands.
    fn retire(&mut self) -> Result<(), String> {
        self.spells.clear();
        for spell in &mut self.begun {
            spell.until = Duration::ZERO;
        }
        self.end_spells();
        // Workers first, as one does: they have something to hand back.
        for hosts in [COORDINATORS..HOSTS, 0..COORDINATORS] {
            self.processes[hosts.clone()].iter().for_each(|process| process.stop());
            let limit = self.sim.elapsed() + Duration::from_secs(60);
            while let Some(left) = hosts.clone().find(|host| self.sim.is_host_running(host_name(*host))) {
                self.sim.step().map_err(|error| format!("the simulation stopped: {error}"))?;
                if self.sim.elapsed() > limit {
                    return Err(format!("{} did not end when it was asked to", host_name(left)));
                }
            }
        }
        match self.witness.book().breach.clone() {
            Some(breach) => Err(breach),
            None => Ok(()),
        }
    }

    fn begin_spells(&mut self) {
        while let Some(spell) = self.spells.first().copied().filter(|spell| spell.at <= self.sim.elapsed()) {
            self.spells.remove(0);
            if self.begin(spell.fault, spell.until) {
                self.witness.note("weather", format!("{:?} until {:.1}", spell.fault, spell.until.as_secs_f64()));
                self.begun.push(spell);
            }
        }
    }

    fn end_spells(&mut self) {
        let now = self.sim.elapsed();
        let (over, begun): (Vec<_>, Vec<_>) = self.begun.drain(..).partition(|spell| spell.until <= now);
        self.begun = begun;
        for spell in over {
            self.witness.note("weather", format!("{:?} is over", spell.fault));
            self.end(spell.fault);
        }
    }

    /// False if another spell is in the way.
    fn begin(&mut self, fault: Fault, until: Duration) -> bool {
        match fault {
            Fault::Crash(host) => {
                if self.down.contains_key(&host) || !self.sim.is_host_running(host_name(host)) {
                    return false;
                }
                self.in_no_order(host, |sim, name| sim.crash(name));
                self.down.insert(host, until);
            }
            Fault::Stop(host) => self.processes[host].stop(),
            Fault::EngineDies(host) => self.processes[host].kill_engine(),
            Fault::StoreShaky(host) => self.processes[host].unlucky(30),
            Fault::Freeze(host) => {
                let links: Vec<_> = (0..HOSTS).filter(|it| *it != host).map(|it| link(host, it)).collect();
                if links.iter().any(|link| self.taken.contains(link)) {
                    return false;
                }
                self.processes[host].freeze(true);
                for link in links {
                    self.taken.insert(link);
                    self.sim.hold(host_name(link.0), host_name(link.1));
                }
                self.sim.hold(host_name(host), OPERATOR);
            }
            Fault::Cut(a, b) if self.taken.insert(link(a, b)) => self.sim.partition(host_name(a), host_name(b)),
            Fault::CutOneWay(a, b) if self.taken.insert(link(a, b)) => {
                self.sim.partition_oneway(host_name(a), host_name(b));
            }
            Fault::Delay(a, b) if self.taken.insert(link(a, b)) => self.sim.hold(host_name(a), host_name(b)),
            Fault::Cut(..) | Fault::CutOneWay(..) | Fault::Delay(..) => return false,
        }
        true
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(_) | Fault::Stop(_) | Fault::EngineDies(_) => {}
            Fault::StoreShaky(host) => self.processes[host].unlucky(0),
            Fault::Freeze(host) => {
                for other in (0..HOSTS).filter(|it| *it != host) {
                    self.taken.remove(&link(host, other));
                    self.sim.release(host_name(host), host_name(other));
                }
                self.sim.release(host_name(host), OPERATOR);
                self.processes[host].freeze(false);
            }
            Fault::Cut(a, b) | Fault::CutOneWay(a, b) => {
                self.taken.remove(&link(a, b));
                self.sim.repair(host_name(a), host_name(b));
            }
            Fault::Delay(a, b) => {
                self.taken.remove(&link(a, b));
                self.sim.release(host_name(a), host_name(b));
            }
        }
    }

    /// Ends all that runs on a host. In which order its tasks go, and close their connections, depends on numbers that
    /// tokio gives out to the whole process; so all that they say then takes equally long.
    fn in_no_order(&mut self, host: Host, end: impl FnOnce(&mut Sim<'static>, String)) {
        let others: Vec<_> = (0..HOSTS).filter(|it| *it != host).map(host_name).chain([OPERATOR.to_owned()]).collect();
        for other in &others {
            self.sim.set_link_latency(host_name(host), other.as_str(), LEAST_LATENCY);
        }
        end(&mut self.sim, host_name(host));
        for other in &others {
            self.sim.set_link_max_message_latency(host_name(host), other.as_str(), LATENCY);
        }
    }

    fn start_again(&mut self) {
        let now = self.sim.elapsed();
        for host in 0..HOSTS {
            if !self.down.contains_key(&host) && !self.sim.is_host_running(host_name(host)) {
                self.down.insert(host, now + RESTART);
            }
            if self.down.get(&host).is_some_and(|until| *until <= now) {
                self.down.remove(&host);
                self.witness.note("weather", format!("{} starts again", host_name(host)));
                self.in_no_order(host, |sim, name| sim.bounce(name));
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
    let spec = RunSpec { id: run_id(), recipe, seed: 7, candidates: 1, terms: Terms::default() };
    submit(store, &spec, rows.map(Ok)).await.unwrap();
    (0..DOCUMENTS).map(|number| DocumentId::derive(&run_id(), &format!("row-{number}"), 0)).collect()
}

/// Half of the seeds have an engine that fails, too.
fn faults(scenario: Scenario) -> Faults {
    if scenario.calm || scenario.seed.is_multiple_of(2) {
        return Faults::default();
    }
    Faults { error: 0.05, bad_plan: 0.05, truncated: 0.03, repetition: 0.03, stall: 0.03, die_after: None }
}

async fn coordinate(store: Arc<dyn Store>, process: &Arc<Process>) -> Result<(), Box<dyn std::error::Error>> {
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
    let served = serve_on(incoming, coordinator, Access::default(), stop.cancelled());
    let (served, ()) = process.run(futures::future::join(served, sweeper)).await;
    Ok(served?)
}

async fn work(witness: &Witness, process: &Arc<Process>, faults: Faults) {
    let options = MockOptions { slots: 2, tokens_per_second: 40.0, faults, ..MockOptions::default() };
    let engine = Arc::new(MockEngine::new(options));
    let stop = process.begin(Some(Arc::clone(&engine)));
    let replicas = (0..COORDINATORS).map(|host| channel(&host_name(host))).collect();
    let link = FailoverChannel::from_channels(replicas, Credentials::default()).unwrap();
    let mut options = WorkerOptions::new(format!("{}-{:x}", process.name, chance::below(1 << 32)).parse().unwrap());
    options.checkpoint_every = Duration::from_secs(2);
    options.wait = Duration::from_secs(5);
    options.call_timeout = Duration::from_secs(3);
    options.grace = Duration::from_secs(5);
    match process.run(Worker::new(link, engine, options).run(stop)).await {
        Ok(report) => witness.note(&process.name, format!("ended: {report:?}")),
        Err(error @ WorkerError::EngineDead(_)) => witness.note(&process.name, error),
        Err(error @ (WorkerError::Refused(_) | WorkerError::Unreachable { .. })) => {
            witness.breach(format!("{} ended: {error}", process.name));
        }
    }
}

/// A person who cannot leave the documents alone.
async fn operate(documents: &[DocumentId], witness: &Witness) {
    let replicas = (0..COORDINATORS).map(|host| channel(&host_name(host))).collect();
    let link = FailoverChannel::from_channels(replicas, Credentials::default()).unwrap();
    let patience = RetryPolicy { attempt_timeout: Duration::from_secs(3), total_timeout: Duration::from_secs(600) };
    for _ in 0..4 {
        tokio::time::sleep(chance::around(Duration::from_secs(12))).await;
        let (run, document) = (run_id().to_string(), documents[chance::below(documents.len() as u64) as usize]);
        let action = chance::below(3);
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
                        witness.breach(format!("the run cannot be paused: {:?}", error.status()));
                    }
                    tokio::time::sleep(chance::up_to(Duration::from_secs(10))).await;
                }
                Ok(())
            }
        };
        let refused = done.err().map(|error| error.status().message().to_owned());
        witness.note(OPERATOR, format!("action {action} on {document}: {refused:?}"));
    }
}

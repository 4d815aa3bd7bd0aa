//! The fleet, the faults that are injected, and the verification at the end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{RedisOptions, RedisStore, RunStore, Store};
use longhand_proto::{RunId, clock};
use longhand_tests::server::{Kind, Server, free_port};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::Value;
use tempfile::TempDir;

use crate::durability_checker::DurabilityChecker;
use crate::process::{Fault, Process};
use crate::program::longhand;

const DOCUMENTS: usize = 64;
const SECTIONS: usize = 10;
const COORDINATORS: usize = 2;
const WORKERS: usize = 4;
/// Concurrent documents per worker.
const SLOTS: usize = 4;
/// Tokens per document of the mock engine.
const TOKENS: f64 = 3_300.0;
const LEASE: Duration = Duration::from_secs(3);
/// Mean time between two faults.
const PAUSE: Duration = Duration::from_secs(2);
/// In addition to the planned time: a fleet that needs longer is stuck.
const PATIENCE: Duration = Duration::from_secs(180);

/// The plan of a chaos test.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Time during which faults are injected; it decides the speed of the workers.
    pub(crate) duration: Duration,
    /// Redis may lose the end of its append-only file.
    pub(crate) rollback: bool,
}

/// Redis, coordinators and workers.
#[derive(Debug)]
pub(crate) struct Fleet {
    // The processes are dropped before their folder.
    redis: Process,
    processes: Vec<Process>,
    checker: DurabilityChecker,
    run: RunId,
    urls: String,
    dir: TempDir,
}

impl Fleet {
    /// Starts all processes, and submits the run.
    pub(crate) fn start(plan: &Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = |name: &str| dir.path().join(format!("{name}.log"));
        // Redis syncs before it acknowledges: any loss is the fleet's.
        let redis = Process::redis(Server::durable(Kind::Redis, &["--appendfsync", "always"]));
        let store = redis.server().url();
        let addresses: Vec<String> = (0..COORDINATORS).map(|_| format!("127.0.0.1:{}", free_port())).collect();
        let lease = LEASE.as_secs().to_string();
        let mut processes: Vec<Process> = addresses
            .iter()
            .zip(1..)
            .map(|(address, number)| {
                let name = format!("coordinator {number}");
                // No document may become poison because of killed workers.
                let arguments = [
                    "coordinator",
                    "--store",
                    &store,
                    "--listen",
                    address,
                    "--http",
                    "off",
                    "--insecure",
                    "--lease-seconds",
                    &lease,
                    "--max-losses",
                    "1000",
                ];
                Process::longhand(&name, log(&name), &arguments)
            })
            .collect();
        let urls = addresses.iter().map(|address| format!("http://{address}")).collect::<Vec<_>>().join(",");
        submit(&urls, dir.path());
        let speed = DOCUMENTS as f64 * TOKENS / (WORKERS * SLOTS) as f64 / plan.duration.as_secs_f64();
        let (speed, slots) = (format!("{speed:.1}"), SLOTS.to_string());
        for number in 1..=WORKERS {
            let name = format!("worker {number}");
            let arguments = [
                "worker",
                "--engine",
                "mock",
                "--mock-tokens-per-second",
                &speed,
                "--max-sequences",
                &slots,
                "--checkpoint-seconds",
                "1",
                "--coordinator",
                &urls,
            ];
            processes.push(Process::longhand(&name, log(&name), &arguments));
        }
        let run = "chaos".parse().unwrap();
        Self { redis, processes, checker: DurabilityChecker::default(), run, urls, dir }
    }

    /// Injects faults for the planned time, then lets the fleet finish.
    pub(crate) async fn run(&mut self, plan: &Plan, mut random: StdRng) {
        let begin = clock::now();
        let store = self.store().await;
        let (mut next_fault, mut next_check) = (begin, begin);
        let (mut kills, mut stops, mut rollbacks) = (0, 0, 0);
        loop {
            let now = clock::now();
            let injecting = now.duration_since(begin) < plan.duration;
            for process in self.processes.iter_mut().chain([&mut self.redis]) {
                process.recover(now);
            }
            if injecting && now >= next_fault {
                next_fault = now + PAUSE.mul_f64(random.random_range(0.2..1.8));
                match random.random_range(0..20) {
                    0 if plan.rollback => {
                        rollbacks += 1;
                        self.roll_back(&store, &mut random).await;
                    }
                    0..=2 => self.inject_into_redis(&mut random, &mut kills, &mut stops),
                    _ => self.inject_into_fleet(&mut random, &mut kills, &mut stops),
                }
            }
            if now >= next_check && self.redis.is_up() {
                next_check = now + Duration::from_secs(1);
                // A failed check is repeated.
                if let Ok(records) = self.checker.check(&store, &self.run, false).await {
                    let ended = records.iter().filter(|record| record.state.is_terminal()).count();
                    if ended == DOCUMENTS && records.len() == DOCUMENTS {
                        println!(
                            "{kills} kills, {stops} stops, {rollbacks} rollbacks of Redis, in {} s",
                            begin.elapsed().as_secs()
                        );
                        return;
                    }
                }
            }
            if now.duration_since(begin) > plan.duration * 2 + PATIENCE {
                let kept = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap()).keep();
                panic!("the fleet is stuck: {:?}; logs in {}", store.counts(&self.run).await, kept.display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn store(&self) -> RedisStore {
        let options = RedisOptions { response_timeout: Duration::from_secs(5), ..RedisOptions::default() };
        RedisStore::open(&self.redis.server().url(), options).await.unwrap()
    }

    fn inject_into_fleet(&mut self, random: &mut StdRng, kills: &mut u32, stops: &mut u32) {
        let number = random.random_range(0..self.processes.len());
        let fault = if random.random_bool(0.5) { Fault::Kill } else { Fault::Stop };
        let duration = fault_duration(fault, random);
        if self.processes[number].is_up() {
            *(if fault == Fault::Kill { kills } else { stops }) += 1;
            self.processes[number].inject(fault, clock::now() + duration);
        }
    }

    fn inject_into_redis(&mut self, random: &mut StdRng, kills: &mut u32, stops: &mut u32) {
        let fault = if random.random_bool(0.5) { Fault::Kill } else { Fault::Stop };
        let duration = fault_duration(fault, random);
        if self.redis.is_up() {
            *(if fault == Fault::Kill { kills } else { stops }) += 1;
            self.redis.inject(fault, clock::now() + duration);
        }
    }

    /// Redis is killed and loses the end of its append-only file, as with a disk that ignores syncs.
    async fn roll_back(&mut self, store: &RedisStore, random: &mut StdRng) {
        let lost = random.random_range(0.0..0.1);
        if !self.redis.is_up() || self.checker.check(store, &self.run, false).await.is_err() {
            return;
        }
        let before = self.checker.completed_tasks();
        self.redis.inject(Fault::Kill, clock::now());
        let file = append_only_file(self.redis.server().folder());
        let written = fs::metadata(&file).unwrap().len();
        // The run itself is at the beginning of the file.
        let keep = (written as f64 * (1.0 - lost)) as u64;
        File::options().write(true).open(&file).unwrap().set_len(keep).unwrap();
        self.redis.server().repair_aof();
        self.redis.recover(clock::now());
        loop {
            if self.checker.check(store, &self.run, true).await.is_ok() {
                break;
            }
        }
        self.checker.count_regenerated(&before);
    }

    /// Verifies the store and the exported corpus.
    pub(crate) async fn verify(&mut self) {
        let store = self.store().await;
        let records = self.checker.check(&store, &self.run, false).await.unwrap();
        let audit = store.audit(&self.run, false).await.unwrap();
        assert_eq!(audit.mismatches, Vec::<String>::new());
        // The verdict of the filters does not matter here, only that each text is complete.
        let written = |state| matches!(state, State::Accepted | State::Rejected);
        for record in &records {
            assert!(written(record.state), "{} {:?} {}", record.id, record.state, record.reason);
        }
        let accepted = records.iter().filter(|record| record.state == State::Accepted).count();
        let sections = self.checker.sections();
        assert!(sections.len() == DOCUMENTS && sections.values().all(|texts| texts.len() == SECTIONS), "{sections:?}");

        let out = self.dir.path().join("out");
        let export = ["export", self.run.as_str(), "-o", out.to_str().unwrap(), "--coordinator", &self.urls];
        let ended = longhand().args(export).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let mut exported: BTreeMap<String, usize> = BTreeMap::new();
        for record in exported_records(&out) {
            let id = record["id"].as_str().unwrap();
            *exported.entry(id.to_owned()).or_default() += 1;
            let texts: Vec<&str> = (record["sections"].as_array().unwrap().iter())
                .map(|section| section["text"].as_str().unwrap())
                .collect();
            assert_eq!(Some(&texts), sections.get(&id.parse().unwrap()), "document {id} was exported with other texts");
        }
        assert_eq!(exported.len(), accepted, "every accepted document is in the corpus, and no other");
        let duplicates: usize = exported.values().map(|times| times - 1).sum();
        println!(
            "{} of {DOCUMENTS} ended, {duplicates} duplicates, {} sections regenerated",
            records.len(),
            self.checker.regenerated
        );
        assert_eq!(duplicates, 0);
    }
}

/// Short, or longer than a lease.
fn fault_duration(fault: Fault, random: &mut StdRng) -> Duration {
    let long = fault == Fault::Stop && random.random_bool(0.5);
    if long { LEASE.mul_f64(random.random_range(1.2..2.5)) } else { LEASE.mul_f64(random.random_range(0.0..0.7)) }
}

fn submit(urls: &str, dir: &Path) {
    let input = dir.join("in.jsonl");
    let row = |n| format!("{{\"id\": \"row-{n}\", \"prompt\": \"Describe ship number {n}.\", \"length\": 2850}}");
    fs::write(&input, (0..DOCUMENTS).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    let ended = longhand()
        .args(["submit", input.to_str().unwrap(), "--run-id", "chaos", "--coordinator", urls])
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// The append-only file that Redis is writing.
fn append_only_file(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder.join("appendonlydir")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max().unwrap()
}

fn exported_records(out: &Path) -> Vec<Value> {
    let files = fs::read_dir(out.join("data")).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.extension().is_some_and(|it| it == "jsonl")).map(fs::read_to_string);
    texts
        .flat_map(|text| text.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
        .collect()
}

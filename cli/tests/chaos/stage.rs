//! The fleet, the blows that fall on it, and what is left at the end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{RedisOptions, RedisStore, Store};
use longhand_proto::{RunId, clock};
use longhand_tests::server::{Kind, Server, free_port};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::Value;
use tempfile::TempDir;

use crate::actor::{Actor, Blow};
use crate::ledger::Ledger;
use crate::program::longhand;

const DOCUMENTS: usize = 64;
const SECTIONS: usize = 10;
const COORDINATORS: usize = 2;
const WORKERS: usize = 4;
/// Documents that a worker writes at a time.
const SLOTS: usize = 4;
/// What the engine double writes of one document.
const TOKENS: f64 = 3_300.0;
const LEASE: Duration = Duration::from_secs(3);
/// Mean pause between two blows.
const PAUSE: Duration = Duration::from_secs(2);
/// Beyond the time planned: a fleet that needs longer has stood still.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug)]
pub(crate) struct Plan {
    /// Time for which blows fall; the speed of the workers follows from it.
    pub(crate) lasts: Duration,
    /// Redis may lose the end of what it wrote.
    pub(crate) set_back: bool,
}

#[derive(Debug)]
pub(crate) struct Stage {
    // The fleet is dropped before its folder.
    redis: Actor,
    fleet: Vec<Actor>,
    ledger: Ledger,
    run: RunId,
    urls: String,
    dir: TempDir,
}

impl Stage {
    /// Everybody is up, and the run is submitted.
    pub(crate) fn set(plan: &Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = |name: &str| dir.path().join(format!("{name}.log"));
        // What Redis acknowledges it has written: so what is lost is what the fleet loses.
        let redis = Actor::redis(Server::durable(Kind::Redis, &["--appendfsync", "always"]));
        let store = redis.server().url();
        let addresses: Vec<String> = (0..COORDINATORS).map(|_| format!("127.0.0.1:{}", free_port())).collect();
        let lease = LEASE.as_secs().to_string();
        let mut fleet: Vec<Actor> = addresses
            .iter()
            .zip(1..)
            .map(|(address, number)| {
                let name = format!("coordinator {number}");
                // The documents are not to blame for what is done to their workers.
                let arguments = [
                    "coordinator",
                    "--store",
                    &store,
                    "--listen",
                    address,
                    "--http",
                    "off",
                    "--lease-seconds",
                    &lease,
                    "--max-losses",
                    "1000",
                ];
                Actor::longhand(&name, log(&name), &arguments)
            })
            .collect();
        let urls = addresses.iter().map(|address| format!("http://{address}")).collect::<Vec<_>>().join(",");
        submit(&urls, dir.path());
        let speed = DOCUMENTS as f64 * TOKENS / (WORKERS * SLOTS) as f64 / plan.lasts.as_secs_f64();
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
            fleet.push(Actor::longhand(&name, log(&name), &arguments));
        }
        let run = "chaos".parse().unwrap();
        Self { redis, fleet, ledger: Ledger::default(), run, urls, dir }
    }

    /// Lets blows fall for as long as planned, then lets the fleet finish.
    pub(crate) async fn play(&mut self, plan: &Plan, mut random: StdRng) {
        let begin = clock::now();
        let store = self.store().await;
        let (mut next_blow, mut next_look) = (begin, begin);
        let (mut kills, mut stops, mut set_backs) = (0, 0, 0);
        loop {
            let now = clock::now();
            let striking = now.duration_since(begin) < plan.lasts;
            for actor in self.fleet.iter_mut().chain([&mut self.redis]) {
                actor.tend(now);
            }
            if striking && now >= next_blow {
                next_blow = now + PAUSE.mul_f64(random.random_range(0.2..1.8));
                match random.random_range(0..20) {
                    0 if plan.set_back => {
                        set_backs += 1;
                        self.set_back(&store, &mut random).await;
                    }
                    0..=2 => self.strike_redis(&mut random, &mut kills, &mut stops),
                    _ => self.strike_fleet(&mut random, &mut kills, &mut stops),
                }
            }
            if now >= next_look && self.redis.is_up() {
                next_look = now + Duration::from_secs(1);
                // A look that failed is made again.
                if let Ok(records) = self.ledger.look(&store, &self.run, false).await {
                    let ended = records.iter().filter(|record| record.state.is_terminal()).count();
                    if ended == DOCUMENTS && records.len() == DOCUMENTS {
                        println!(
                            "{kills} kills, {stops} stops, {set_backs} times Redis was set back, in {} s",
                            begin.elapsed().as_secs()
                        );
                        return;
                    }
                }
            }
            if now.duration_since(begin) > plan.lasts * 2 + PATIENCE {
                let kept = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap()).keep();
                panic!("the fleet stands still: {:?}; logs in {}", store.counts(&self.run).await, kept.display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn store(&self) -> RedisStore {
        let options = RedisOptions { response_timeout: Duration::from_secs(5), ..RedisOptions::default() };
        RedisStore::open(&self.redis.server().url(), options).await.unwrap()
    }

    fn strike_fleet(&mut self, random: &mut StdRng, kills: &mut u32, stops: &mut u32) {
        let number = random.random_range(0..self.fleet.len());
        let blow = if random.random_bool(0.5) { Blow::Kill } else { Blow::Stop };
        let lasts = lasts(blow, random);
        if self.fleet[number].is_up() {
            *(if blow == Blow::Kill { kills } else { stops }) += 1;
            self.fleet[number].strike(blow, clock::now() + lasts);
        }
    }

    fn strike_redis(&mut self, random: &mut StdRng, kills: &mut u32, stops: &mut u32) {
        let blow = if random.random_bool(0.5) { Blow::Kill } else { Blow::Stop };
        let lasts = lasts(blow, random);
        if self.redis.is_up() {
            *(if blow == Blow::Kill { kills } else { stops }) += 1;
            self.redis.strike(blow, clock::now() + lasts);
        }
    }

    /// Redis dies and loses the end of its append-only file, as with a disk that lied.
    async fn set_back(&mut self, store: &RedisStore, random: &mut StdRng) {
        let share = random.random_range(0.0..0.1);
        if !self.redis.is_up() || self.ledger.look(store, &self.run, false).await.is_err() {
            return;
        }
        let before = self.ledger.before_set_back();
        self.redis.strike(Blow::Kill, clock::now());
        let file = append_only_file(self.redis.server().folder());
        let written = fs::metadata(&file).unwrap().len();
        // The run itself stands at the beginning.
        let keep = (written as f64 * (1.0 - share)) as u64;
        File::options().write(true).open(&file).unwrap().set_len(keep).unwrap();
        self.redis.server().repair_aof();
        self.redis.tend(clock::now());
        loop {
            if self.ledger.look(store, &self.run, true).await.is_ok() {
                break;
            }
        }
        self.ledger.count_redone(&before);
    }

    /// The end: what the store holds, and the corpus that is made of it.
    pub(crate) async fn settle(&mut self) {
        let store = self.store().await;
        let records = self.ledger.look(&store, &self.run, false).await.unwrap();
        let audit = store.audit(&self.run, false).await.unwrap();
        assert_eq!(audit.mismatches, Vec::<String>::new());
        // What the filters say of a text is not ours to judge; that it was written to its end is.
        let written = |state| matches!(state, State::Accepted | State::Rejected);
        for record in &records {
            assert!(written(record.state), "{} {:?} {}", record.id, record.state, record.reason);
        }
        let accepted = records.iter().filter(|record| record.state == State::Accepted).count();
        let sections = self.ledger.sections();
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
            assert_eq!(Some(&texts), sections.get(&id.parse().unwrap()), "document {id} was exported otherwise");
        }
        assert_eq!(exported.len(), accepted, "every accepted document is in the corpus, and no other");
        let twice: usize = exported.values().map(|times| times - 1).sum();
        println!("{} of {DOCUMENTS} ended, {twice} duplicates, {} sections redone", records.len(), self.ledger.redone);
        assert_eq!(twice, 0);
    }
}

/// A moment, or longer than a lease lives.
fn lasts(blow: Blow, random: &mut StdRng) -> Duration {
    let long = blow == Blow::Stop && random.random_bool(0.5);
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

/// The file that Redis adds to now.
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

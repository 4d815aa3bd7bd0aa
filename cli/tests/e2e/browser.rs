//! The dashboard in a real browser, as a person uses it. `browser.mjs` tells what the person does.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use longhand_coordinator::text::filter;
use longhand_proto::task::{Checkpoint, Failure, ModelInfo, Task, TaskKind};
use longhand_proto::{DocumentId, WorkerId};
use longhand_worker::client::link::{Credentials, Link, Tls};
use longhand_worker::client::{Worker, WorkerOptions, WorkerReport};
use longhand_worker::engine::mock::{MockEngine, MockOptions};
use longhand_worker::engine::{Engine, EngineStats, Event, Generation};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fleet::Fleet;
use crate::program::cache;

/// What a task takes at least: a person is to see the run at work.
const MOMENT: Duration = Duration::from_millis(100);
/// A model that means harm writes this.
const HOSTILE: &str = "<script>window.harm = 'script'</script><img src=x onerror=\"window.harm = 'image'\"> \
                       </textarea></script>{{7*7}} javascript:alert(1)\n\n";

/// The test double, but for documents that ask for trouble: one that asks to fail does, the first time; one that asks for a
/// script gets it.
#[derive(Debug)]
struct Trouble {
    mock: MockEngine,
    failed: Mutex<HashSet<DocumentId>>,
}

impl Engine for Trouble {
    fn model(&self) -> &ModelInfo {
        self.mock.model()
    }

    fn slots(&self) -> u32 {
        self.mock.slots()
    }

    fn start(&self, task: Task, resume: Option<Checkpoint>) -> Generation {
        let asks = |word: &str| task.messages.iter().any(|message| message.content.contains(word));
        let (sender, events) = mpsc::channel(16);
        if asks("fail once") && self.failed.lock().unwrap().insert(task.document) {
            let message = "the tape <b>tore</b> & the ink ran out".into();
            let failure = Failure { class: "torn_tape".into(), message, permanent: true };
            sender.try_send(Event::Failed(failure)).unwrap();
            return Generation { events };
        }
        let hostile = asks("be hostile") && task.kind == TaskKind::Section;
        let mut written = self.mock.start(task, resume);
        tokio::spawn(async move {
            tokio::time::sleep(MOMENT).await;
            while let Some(mut event) = written.events.recv().await {
                if let (true, Event::Done(output)) = (hostile, &mut event) {
                    output.text.insert_str(0, HOSTILE);
                }
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        Generation { events }
    }

    fn stats(&self) -> EngineStats {
        EngineStats { kv_blocks: 1_000, kv_blocks_used: 250, ..self.mock.stats() }
    }

    fn dead(&self) -> BoxFuture<'_, String> {
        self.mock.dead()
    }
}

fn work(coordinator: &str) -> JoinHandle<WorkerReport> {
    let link = Link::open(&[coordinator.to_owned()], &Tls::default(), Credentials::default()).unwrap();
    let mock = MockEngine::new(MockOptions::default());
    let engine = Arc::new(Trouble { mock, failed: Mutex::default() });
    let options = WorkerOptions {
        checkpoint_every: Duration::from_millis(300),
        ..WorkerOptions::new("press-1".parse::<WorkerId>().unwrap())
    };
    tokio::spawn(async move { Worker::new(link, engine, options).run(CancellationToken::new()).await.unwrap() })
}

/// Has a person do what `story` in `browser.mjs` tells, and panics with what they found wrong.
async fn person(story: &str, told: Value) {
    let driver = cache().join("browser/playwright/driver");
    assert!(driver.join("node").exists(), "{} is missing: run `make test-deps`", driver.display());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/browser.mjs");
    let mut command = Command::new(driver.join("node"));
    command.arg(script).arg(driver.join("package")).arg(story).arg(told.to_string());
    command.stdin(Stdio::null());
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{story}: {}", String::from_utf8_lossy(&text));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_follows_a_run_mends_what_failed_and_sends_a_worker_home() {
    // Nobody listens for traces; documents have some all the same.
    let traced = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    let more = ["--http", "127.0.0.1:0", "--trace-url", "http://traces.example/{trace}"];
    let fleet = Fleet::start_in(&more, &traced);
    let rows = [
        json!({ "id": "plain", "prompt": "Describe a ship.", "length": 1000 }),
        json!({ "id": "torn", "prompt": "Describe a ship, and fail once.", "length": 1000 }),
        json!({ "id": "<b>hostile</b>", "prompt": "Describe a ship and be hostile: <script>window.harm = 'row'</script>", "length": 1000 }),
        json!({ "id": "long", "prompt": "Describe all ships.", "length": 20000 }),
        json!({ "id": "broken row", "length": 1000 }),
    ];
    let input = fleet.dir.path().join("ships.jsonl");
    fs::write(&input, rows.map(|row| row.to_string()).join("\n")).unwrap();
    let submitted = fleet.run(&["submit", input.to_str().unwrap(), "--run-id", "ships"]);
    assert!(submitted.code.is_some_and(|code| code != 2), "{}{}", submitted.stdout, submitted.stderr);
    let worker = work(&fleet.url);
    let told = json!({ "url": fleet.dashboard, "run": "ships", "worker": "press-1", "rules": filter::all().count() });
    person("live", told).await;
    let report = tokio::time::timeout(Duration::from_secs(30), worker).await;
    let report = report.expect("drained by hand, the worker ends").unwrap();
    assert!(report.completed > 10, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_and_what_they_do_bears_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let (worker, operator) = ("worker-0123456789abcdef", "operator-0123456789abcdef");
    fs::write(&tokens, format!("worker {worker}\noperator {operator} anna\n")).unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    let fleet = Fleet::start(&["--http", "127.0.0.1:0", "--token-file", tokens.to_str().unwrap()]);
    let token = folder.path().join("token");
    fs::write(&token, operator).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let input = fleet.input(3);
    let args = ["submit", input.to_str().unwrap(), "--run-id", "ships", "--token-file", token.to_str().unwrap()];
    assert_eq!(fleet.run(&args).code, Some(0));
    let told = json!({ "url": fleet.dashboard, "run": "ships", "name": "anna", "token": operator, "wrong": worker });
    person("login", told).await;
}

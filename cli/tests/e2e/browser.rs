//! The dashboard in a real browser. `browser.mjs` has the steps of the user.

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
use longhand_worker::client::failover_channel::{Credentials, FailoverChannel, Tls};
use longhand_worker::client::{Worker, WorkerOptions, WorkerReport};
use longhand_worker::engine::mock::{MockEngine, MockOptions};
use longhand_worker::engine::{Engine, EngineStats, Event, Generation};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fleet::Fleet;
use crate::program::cache;

/// Minimum duration of a task, so that the run is seen in progress.
const TASK_DELAY: Duration = Duration::from_millis(100);
/// Output of a hostile model.
const HOSTILE: &str = "<script>window.harm = 'script'</script><img src=x onerror=\"window.harm = 'image'\"> \
                       </textarea></script>{{7*7}} javascript:alert(1)\n\n";

/// The mock engine, with a failure or a hostile text where the instruction asks for it.
#[derive(Debug)]
struct FaultyEngine {
    mock: MockEngine,
    failed: Mutex<HashSet<DocumentId>>,
}

impl Engine for FaultyEngine {
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
            tokio::time::sleep(TASK_DELAY).await;
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
    let link = FailoverChannel::open(&[coordinator.to_owned()], &Tls::default(), Credentials::default()).unwrap();
    let mock = MockEngine::new(MockOptions::default());
    let engine = Arc::new(FaultyEngine { mock, failed: Mutex::default() });
    let options = WorkerOptions {
        checkpoint_every: Duration::from_millis(300),
        ..WorkerOptions::new("press-1".parse::<WorkerId>().unwrap())
    };
    tokio::spawn(async move { Worker::new(link, engine, options).run(CancellationToken::new()).await.unwrap() })
}

/// Runs a scenario of `browser.mjs` with its input, and panics with the errors it found.
async fn run_scenario(name: &str, input: Value) {
    let driver = cache().join("browser/playwright/driver");
    assert!(driver.join("node").exists(), "{} is missing: run `make test-deps`", driver.display());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/browser.mjs");
    let mut command = Command::new(driver.join("node"));
    command.arg(script).arg(driver.join("package")).arg(name).arg(input.to_string());
    command.stdin(Stdio::null());
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&text));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_watches_a_run_requeues_failures_and_drains_a_worker() {
    // No collector listens, but documents have trace ids.
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
    let scenario =
        json!({ "url": fleet.dashboard, "run": "ships", "worker": "press-1", "rules": filter::all().count() });
    run_scenario("live", scenario).await;
    let report = tokio::time::timeout(Duration::from_secs(30), worker).await;
    let report = report.expect("a drained worker ends").unwrap();
    assert!(report.completed > 10, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_and_the_audit_log_has_their_name() {
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
    let scenario =
        json!({ "url": fleet.dashboard, "run": "ships", "name": "anna", "token": operator, "wrong": worker });
    run_scenario("login", scenario).await;
}

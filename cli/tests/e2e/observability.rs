//! Monitoring: Prometheus with a live fleet, the alerts, and the Grafana dashboard in `deploy/`.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::fleet::{Fleet, Process};
use crate::metrics::request;

/// Polls of a condition, 100 ms apart: a minute.
const MAX_POLLS: u32 = 600;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/observability")
}

/// All series in METRICS.md.
pub(crate) fn documented() -> BTreeSet<String> {
    let text = include_str!("../../../METRICS.md");
    let names = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names.map(str::to_owned).collect()
}

/// Names of our series in a text, those of a histogram's parts as the histogram's.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("longhand_"));
    let whole = |word: &str| {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|part| word.strip_suffix(part));
        stem.filter(|stem| stem.ends_with("_seconds")).unwrap_or(word).to_owned()
    };
    ours.map(whole).collect()
}

fn dashboard() -> Value {
    let path = deploy().join("grafana/dashboards/longhand.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The PromQL of all panels.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.filter_map(|target| target["expr"].as_str()).map(str::to_owned).collect()
}

#[test]
fn the_grafana_dashboard_shows_exactly_the_documented_series() {
    let dashboard = dashboard();
    let shown = named(&expressions(&dashboard).join("\n"));
    assert_eq!(shown, documented());
    let ids: Vec<_> = dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].clone()).collect();
    assert_eq!(ids.iter().map(Value::to_string).collect::<BTreeSet<_>>().len(), ids.len(), "an id is there twice");
    // Each data source that a panel names is one that Grafana is given.
    let given = std::fs::read_to_string(deploy().join("grafana/provisioning/datasources/longhand.yaml")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        let uid = panel["datasource"]["uid"].as_str().unwrap();
        assert!(given.contains(&format!("uid: {uid}")), "{uid} of {}", panel["title"]);
    }
}

#[test]
fn the_alerts_fire_when_they_should_and_use_documented_series() {
    let folder = deploy().join("prometheus");
    for args in [["test", "rules", "alerts.test.yaml"], ["check", "config", "prometheus.yaml"]] {
        let said = Command::new("promtool").args(args).current_dir(&folder).output();
        let said = said.expect("promtool is missing: run `make test-deps`");
        let all = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        assert!(said.status.success(), "{all}");
    }
    let rules = std::fs::read_to_string(folder.join("alerts.yaml")).unwrap();
    let unknown: Vec<_> = named(&rules).difference(&documented()).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?} is not in METRICS.md");
    let tests = std::fs::read_to_string(folder.join("alerts.test.yaml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} has no test");
    }
}

struct Prometheus {
    server: Child,
    url: String,
}

impl Prometheus {
    fn start(folder: &Path, targets: &[&str]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = folder.join("prometheus.yaml");
        let text = format!(
            "{{global: {{scrape_interval: 200ms}}, scrape_configs: [{{job_name: longhand, static_configs: [{{targets: {targets:?}}}]}}]}}"
        );
        std::fs::write(&config, text).unwrap();
        let server = Command::new("prometheus")
            .arg("--config.file")
            .arg(&config)
            .arg("--storage.tsdb.path")
            .arg(folder.join("data"))
            .args(["--web.listen-address", &address.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is missing: run `make test-deps`");
        Self { server, url: format!("http://{address}") }
    }

    /// The series that an expression has now; none while the server is not up.
    fn query(&self, expression: &str) -> Option<Vec<Value>> {
        let coded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let address = self.url.strip_prefix("http://").unwrap();
        std::net::TcpStream::connect(address).ok()?;
        let (status, body) = request(&format!("{}/api/v1/query?query={coded}", self.url), "");
        if status == 503 {
            return None;
        }
        assert_eq!(status, 200, "{expression}: {body}");
        let answer: Value = serde_json::from_str(body.trim()).unwrap();
        Some(answer["data"]["result"].as_array().unwrap().clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

#[test]
fn prometheus_scrapes_a_live_fleet_and_every_documented_series_and_panel_has_data() {
    let fleet = Fleet::start(&["--http", "127.0.0.1:0"]);
    let worker = Process::start(&[
        "worker",
        "--engine",
        "mock",
        "--coordinator",
        &fleet.url,
        "--http",
        "127.0.0.1:0",
        "--mock-tokens-per-second",
        "2000",
    ]);
    let started = worker.event("started");
    let metrics = started["metrics"].as_str().unwrap().strip_suffix("/metrics").unwrap().to_owned();
    fleet.submit("ships", 4);
    // A run that waits.
    let input = fleet.input(1).display().to_string();
    fleet.ask(&["submit", &input, "--run-id", "waits", "--require-model", "big"]);
    let targets = [&fleet.dashboard, &metrics].map(|url| url.strip_prefix("http://").unwrap());
    let prometheus = Prometheus::start(fleet.dir.path(), &targets);
    fleet.ask(&["watch", "ships"]);

    let all = named(&expressions(&dashboard()).join("\n"));
    let mut missing: Vec<String> = all.iter().cloned().collect();
    for _ in 0..MAX_POLLS {
        missing.retain(|name| {
            let found = prometheus.query(&format!("{{__name__=~\"{name}(_count)?\"}}"));
            found.is_none_or(|series| series.is_empty())
        });
        if missing.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(missing.is_empty(), "no data of {missing:?}");
    for expression in expressions(&dashboard()) {
        // As Grafana fills it in.
        let expression = expression.replace("$__rate_interval", "1m").replace("$run", ".*");
        assert!(prometheus.query(&expression).is_some(), "{expression}");
    }
    let up = prometheus.query("sum(up)").unwrap();
    assert_eq!(up[0]["value"][1], "2");
}

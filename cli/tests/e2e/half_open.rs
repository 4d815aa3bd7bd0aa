//! A half-open connection: packets are dropped in a network namespace of the test.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use longhand_proto::clock;
use serde_json::Value;

use crate::fleet::Process;
use crate::program::{Ended, longhand};

/// Both ends must detect the dead connection within this time.
const DETECTED: Duration = Duration::from_secs(30);

/// A network namespace with a loopback device only; removed at the end of the test.
struct Network {
    process: Child,
}

impl Network {
    /// None if the system does not allow it.
    fn new() -> Option<Self> {
        let script = "ip link set lo up && iptables -L >/dev/null && echo up && exec sleep 600";
        let mut process = Command::new("unshare")
            .args(["--map-root-user", "--net", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut up = [0; 3];
        let read = std::io::Read::read_exact(&mut process.stdout.take()?, &mut up);
        if read.is_err() {
            process.wait().ok();
            return None;
        }
        Some(Self { process })
    }

    /// A command inside the namespace.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.process.id().to_string(), "--user", "--net", "--preserve-credentials"]);
        inside.arg("--").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    fn iptables(&self, rule: &str) {
        let mut command = Command::new("iptables");
        command.args(rule.split(' '));
        assert!(self.inside(&command).status().unwrap().success(), "{rule}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

// Long because it is one scenario in one network namespace: connect, drop packets, detect, restore.
#[test]
fn a_half_open_connection_is_detected_by_both_ends_and_costs_no_slot() {
    let Some(network) = Network::new() else {
        eprintln!(
            "NOT TESTED: half-open connections. This test needs unshare, ip and iptables, and the right to create a \
             network namespace (as root)."
        );
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", dir.path().join("store.sqlite").display());
    let start = |args: &[&str]| {
        let mut command = longhand();
        command.args(args).arg("--json");
        Process::of(network.inside(&command))
    };
    let coordinator = |port: &str| {
        let listen = format!("127.0.0.1:{port}");
        let process =
            start(&["coordinator", "--store", &store, "--listen", &listen, "--http", "off", "--lease-seconds", "9"]);
        process.event("listening");
        process
    };
    let (_one, _two) = (coordinator("7001"), coordinator("7002"));
    let ask = |args: &[&str], port: &str| -> Vec<Value> {
        let mut command = longhand();
        command.args(args).args(["--json", "--coordinator", &format!("http://127.0.0.1:{port}")]);
        let ended: Ended = network.inside(&command).output().unwrap().into();
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let rows = dir.path().join("in.jsonl");
    let row = |n| format!("{{\"id\": \"row-{n}\", \"prompt\": \"Describe ship number {n}.\", \"length\": 600}}");
    std::fs::write(&rows, (0..4).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    ask(&["submit", rows.to_str().unwrap(), "--run-id", "ships"], "7001");

    // The worker knows only the first coordinator, and then packets to it are dropped.
    let first = "http://127.0.0.1:7001";
    let worker = start(&[
        "worker",
        "--engine",
        "mock",
        "--mock-tokens-per-second",
        "20",
        "--max-sequences",
        "4",
        "--coordinator",
        first,
    ]);
    worker.event("started");
    let counts = |port: &str| ask(&["status", "ships"], port)[0]["counts"].clone();
    let wait = |what: &str, patience: Duration, holds: &dyn Fn() -> bool| {
        let begin = clock::now();
        while !holds() {
            assert!(begin.elapsed() < patience, "not within {} s: {what}", patience.as_secs());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait("all four are leased", DETECTED, &|| counts("7002")["leased"] == 4);
    let connections = || {
        let mut command = Command::new("ss");
        command.args(["-Htn", "state", "established", "sport = :7001"]);
        let listed: Ended = network.inside(&command).output().unwrap().into();
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        listed.stdout.lines().count()
    };
    assert!(connections() > 0);
    for end in ["--dport", "--sport"] {
        network.iptables(&format!("-A INPUT -p tcp {end} 7001 -j DROP"));
    }
    // The coordinators reclaim the documents for other workers.
    wait("the documents are ready again", DETECTED, &|| counts("7002")["ready"] == 4);
    wait("the coordinator has closed the connection", DETECTED, &|| connections() == 0);
    // When packets pass again, the worker is back with all of its slots.
    for end in ["--dport", "--sport"] {
        network.iptables(&format!("-D INPUT -p tcp {end} 7001 -j DROP"));
    }
    wait("all four are leased again", DETECTED, &|| counts("7002")["leased"] == 4);
    worker.signal("TERM");
    worker.event("stopped");
}

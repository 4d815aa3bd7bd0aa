//! A real redis-server or valkey-server for one test: on a free port, in a temporary folder, killed on drop.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

/// Longest time to start, on a loaded machine.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Which server program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// redis-server.
    Redis,
    /// valkey-server.
    Valkey,
}

impl Kind {
    const fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
        }
    }

    /// The program that checks append-only files.
    const fn check(self) -> &'static str {
        match self {
            Self::Redis => "redis-check-aof",
            Self::Valkey => "valkey-check-aof",
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Redis => "LONGHAND_REDIS_SERVER",
            Self::Valkey => "LONGHAND_VALKEY_SERVER",
        }
    }

    /// From the environment variable, else where `make test-deps` installs it, else from PATH.
    fn find(self) -> PathBuf {
        if let Some(path) = std::env::var_os(self.variable()) {
            return path.into();
        }
        let cache = std::env::var_os("LONGHAND_CACHE").map(PathBuf::from).or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(PathBuf::from(home).join(".cache/longhand"))
        });
        let path = std::env::var_os("PATH").unwrap_or_default();
        cache
            .map(|cache| cache.join("bin"))
            .into_iter()
            .chain(std::env::split_paths(&path))
            .map(|folder| folder.join(self.program()))
            .find(|file| file.is_file())
            .unwrap_or_else(|| panic!("no {}: run `make test-deps`, or set {}", self.program(), self.variable()))
    }
}

/// How the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Transport {
    Plain,
    /// Certificate, key and the CA of both.
    Tls([PathBuf; 3]),
}

impl Transport {
    fn arguments(&self, port: u16) -> Vec<String> {
        let port = port.to_string();
        match self {
            Self::Plain => vec!["--port".into(), port],
            Self::Tls(files) => {
                let mut arguments = vec!["--port".into(), "0".into(), "--tls-port".into(), port];
                for (flag, file) in ["--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"].iter().zip(files) {
                    arguments.extend([(*flag).to_owned(), file.display().to_string()]);
                }
                arguments
            }
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    kind: Kind,
    transport: Transport,
    arguments: Vec<String>,
    port: u16,
    folder: TempDir,
}

const DURABLE: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"];

impl Server {
    /// A server with an append-only file and without eviction, as the store requires.
    pub fn start(kind: Kind) -> Self {
        Self::with(kind, &DURABLE)
    }

    /// A server with these arguments only.
    pub fn with(kind: Kind, arguments: &[&str]) -> Self {
        Self::listen(kind, Transport::Plain, arguments)
    }

    /// As [`Self::start`], and with more arguments.
    pub fn durable(kind: Kind, more: &[&str]) -> Self {
        Self::with(kind, &[&DURABLE, more].concat())
    }

    /// A server with TLS that requires client certificates of this CA.
    pub fn tls(certificate: &Path, key: &Path, ca: &Path) -> Self {
        Self::listen(Kind::Redis, Transport::Tls([certificate, key, ca].map(Path::to_owned)), &DURABLE)
    }

    fn listen(kind: Kind, transport: Transport, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        // Another process may take the port before the server does.
        for _ in 0..5 {
            let port = free_port();
            if let Some(child) = spawn(kind, &folder, &transport, port, &arguments) {
                return Self { child, kind, transport, arguments, port, folder };
            }
        }
        panic!("{} does not start; run it manually to see why", kind.program());
    }

    /// Its URL for the store.
    pub fn url(&self) -> String {
        let scheme = if self.transport == Transport::Plain { "redis" } else { "rediss" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Folder of its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection of the test's own, to inspect the server or to break its data.
    pub fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Kills the server and starts it again with its files.
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Starts a killed server again.
    pub fn start_again(&mut self) {
        let child = spawn(self.kind, &self.folder, &self.transport, self.port, &self.arguments);
        self.child = child.expect("the server starts again");
    }

    /// Removes a truncated transaction from the end of a killed server's append-only file, as an operator must: the server
    /// keeps it and replays it at its second start. True if there was one.
    pub fn repair_aof(&self) -> bool {
        let mut check = Command::new(self.kind.find());
        // The same program under another name.
        check
            .arg0(self.kind.check())
            .arg("--fix")
            .arg(self.folder.path().join("appendonlydir/appendonly.aof.manifest"));
        let mut child = check.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"y\n").ok();
        let output = child.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{log}");
        log.contains("Successfully truncated")
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A port that is free at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The server once it accepts connections; none if it exited before.
fn spawn(kind: Kind, folder: &TempDir, transport: &Transport, port: u16, arguments: &[String]) -> Option<Child> {
    let mut command = Command::new(kind.find());
    command.args(transport.arguments(port)).args(["--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder.path());
    command.args(arguments);
    ready(command, "Ready to accept connections")
}

/// A Sentinel with this configuration file.
pub(crate) fn sentinel(configuration: &Path) -> Option<Child> {
    let mut command = Command::new(Kind::Redis.find());
    command.arg(configuration).arg("--sentinel");
    ready(command, "+monitor")
}

/// The process once its log contains `marker`.
fn ready(mut command: Command, marker: &'static str) -> Option<Child> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let log = BufReader::new(child.stdout.take().unwrap());
    let (sender, ready) = mpsc::sync_channel(1);
    // Reads to the end: otherwise the server blocks on a full pipe.
    std::thread::spawn(move || {
        let mut lines = log.lines().map_while(Result::ok);
        if lines.any(|line| line.contains(marker)) {
            sender.send(()).ok();
        }
        lines.for_each(drop);
    });
    if ready.recv_timeout(START_TIMEOUT).is_ok() {
        return Some(child);
    }
    child.kill().ok();
    child.wait().ok();
    None
}

//! A real redis-server or valkey-server for one test: on a free port, in a temporary folder, killed on drop.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

/// A loaded machine may need a while; one that hangs is given up.
const START: Duration = Duration::from_secs(30);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Redis,
    Valkey,
}

impl Kind {
    const fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Redis => "LONGHAND_REDIS_SERVER",
            Self::Valkey => "LONGHAND_VALKEY_SERVER",
        }
    }

    /// Named by the environment, else where `make test-deps` puts it, else on the path.
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

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    kind: Kind,
    port: u16,
    folder: TempDir,
}

const DURABLE: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"];

impl Server {
    pub fn start(kind: Kind) -> Self {
        Self::with(kind, &DURABLE)
    }

    pub fn with(kind: Kind, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Another process may take the port between the look and the start.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(child) = spawn(kind, &folder, port, arguments) {
                return Self { child, kind, port, folder };
            }
        }
        panic!("{} does not start: run it by hand to see why", kind.program());
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection beside the store's own, to look at the server or to break things.
    pub fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Kills the server and starts it again on what its disk holds.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.kind, &self.folder, self.port, &DURABLE).expect("the server starts again");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server once it accepts connections; none if it ended before.
fn spawn(kind: Kind, folder: &TempDir, port: u16, arguments: &[&str]) -> Option<Child> {
    let program = kind.find();
    let mut child = Command::new(&program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(folder.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let log = BufReader::new(child.stdout.take().unwrap());
    let (sender, ready) = mpsc::sync_channel(1);
    // Reads to the end, or the server would block on a full pipe.
    std::thread::spawn(move || {
        let mut lines = log.lines().map_while(Result::ok);
        if lines.any(|line| line.contains("Ready to accept connections")) {
            sender.send(()).ok();
        }
        lines.for_each(drop);
    });
    if ready.recv_timeout(START).is_ok() {
        return Some(child);
    }
    child.kill().ok();
    child.wait().ok();
    None
}

//! A primary, its replica and three Sentinels: the smallest real set-up with fail-over.

use std::fs;
use std::process::Child;
use std::time::Duration;

use longhand_proto::clock;
use tempfile::TempDir;

use crate::server::{Kind, Server, free_port, sentinel};

/// Name of the monitored service.
pub const SERVICE: &str = "ships";
const SENTINELS: usize = 3;
/// Time after which a silent primary is replaced. Short, because tests wait for it.
const DOWN_MS: u32 = 500;

/// The running processes.
#[derive(Debug)]
pub struct SentinelSet {
    /// The primary at the start.
    pub primary: Server,
    /// Its replica at the start.
    pub replica: Server,
    sentinels: Vec<(Child, u16)>,
    password: String,
    _folder: TempDir,
}

impl SentinelSet {
    /// Returns once the replica follows and the Sentinels know each other. Servers require the password, Sentinels none.
    pub fn start(password: &str) -> Self {
        let auth = ["--requirepass", password, "--masterauth", password];
        let primary = Server::durable(Kind::Redis, &auth);
        let port = primary.port().to_string();
        let replica = Server::durable(Kind::Redis, &[&auth[..], &["--replicaof", "127.0.0.1", &port]].concat());
        let folder = tempfile::tempdir().unwrap();
        let sentinels =
            (0..SENTINELS).map(|number| start_sentinel(&folder, number, primary.port(), password)).collect();
        let set = Self { primary, replica, sentinels, password: password.to_owned(), _folder: folder };
        set.until_ready();
        set
    }

    /// URL of the service for the store.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://:{}@{}/{SERVICE}", self.password, hosts.join(","))
    }

    /// Kills this Sentinel.
    pub fn kill_sentinel(&mut self, number: usize) {
        self.sentinels[number].0.kill().unwrap();
        self.sentinels[number].0.wait().unwrap();
    }

    fn until_ready(&self) {
        for (_, port) in &self.sentinels {
            until("the Sentinels know the replica and each other", || {
                let mut connection = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
                let quorum: Result<String, _> =
                    redis::cmd("SENTINEL").arg("CKQUORUM").arg(SERVICE).query(&mut connection);
                let known = quorum.is_ok_and(|text| text.contains(&format!("{SENTINELS} usable")));
                let replicas: Result<Vec<Vec<String>>, _> =
                    redis::cmd("SENTINEL").arg("REPLICAS").arg(SERVICE).query(&mut connection);
                let replicas = replicas.unwrap_or_default();
                known
                    && replicas.iter().flatten().any(|field| field == "slave")
                    && replicas.iter().flatten().any(|field| field == "ok")
            });
        }
    }
}

impl Drop for SentinelSet {
    fn drop(&mut self) {
        for (child, _) in &mut self.sentinels {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn start_sentinel(folder: &TempDir, number: usize, primary: u16, password: &str) -> (Child, u16) {
    let dir = folder.path().join(number.to_string());
    fs::create_dir(&dir).unwrap();
    for _ in 0..5 {
        let port = free_port();
        let file = dir.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {SERVICE} {DOWN_MS}\nsentinel failover-timeout {SERVICE} 2000\n\
             sentinel auth-pass {SERVICE} {password}\n",
            dir.display()
        );
        fs::write(&file, text).unwrap();
        if let Some(child) = sentinel(&file) {
            return (child, port);
        }
    }
    panic!("no Sentinel starts; run redis-server --sentinel manually to see why");
}

/// Polls until the condition holds.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let begin = clock::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "timed out after a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

//! A cluster of three primaries, one of them with a replica: the smallest real set-up with fail-over.

use crate::sentinel::until;
use crate::server::{Kind, Server, free_port};

/// Number of hash slots.
const SLOTS: u16 = 16384;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Each owns a third of the hash slots.
    pub primaries: Vec<Server>,
    /// Follows the last primary.
    pub replica: Server,
}

impl Cluster {
    /// Returns once every node reports a complete cluster.
    pub fn start() -> Self {
        let node = || {
            let bus = free_port().to_string();
            let enabled = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1000"];
            Server::durable(Kind::Redis, &enabled)
        };
        let primaries: Vec<Server> = (0..3).map(|_| node()).collect();
        let replica = node();
        let cluster = Self { primaries, replica };
        let share = SLOTS / 3;
        for (number, primary) in (0..).zip(&cluster.primaries) {
            let last = if number == 2 { SLOTS - 1 } else { (number + 1) * share - 1 };
            command(primary, &["CLUSTER", "ADDSLOTSRANGE", &(number * share).to_string(), &last.to_string()]);
        }
        let first = &cluster.primaries[0];
        for other in cluster.nodes().skip(1) {
            let bus = command(other, &["CONFIG", "GET", "cluster-port"]);
            let port = other.port().to_string();
            command(first, &["CLUSTER", "MEET", "127.0.0.1", &port, bus.lines().last().unwrap()]);
        }
        cluster.until_complete();
        let id = command(&cluster.primaries[2], &["CLUSTER", "MYID"]);
        command(&cluster.replica, &["CLUSTER", "REPLICATE", &id]);
        until("the replica follows", || {
            let info = command(&cluster.replica, &["INFO", "replication"]);
            info.contains("role:slave") && info.contains("master_link_status:up")
        });
        cluster
    }

    /// URL of the cluster for the store.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.primaries.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    fn nodes(&self) -> impl Iterator<Item = &Server> {
        self.primaries.iter().chain([&self.replica])
    }

    fn until_complete(&self) {
        until("every node knows all nodes and slots", || {
            self.nodes().all(|node| {
                let info = command(node, &["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:4")
            })
        });
    }
}

/// The reply as text; an array as one line per element.
fn command(node: &Server, parts: &[&str]) -> String {
    let mut request = redis::cmd(parts[0]);
    request.arg(&parts[1..]);
    let text = |part| redis::from_redis_value::<String>(part).unwrap();
    let reply = request.query::<redis::Value>(&mut node.connect()).unwrap();
    if let redis::Value::Array(parts) = reply {
        return parts.into_iter().map(|part| text(part) + "\n").collect();
    }
    text(reply)
}

//! The deletion cost of a worker's pod in Kubernetes: the number of documents it holds. When the fleet is scaled down, the
//! pods that hold the fewest are removed first.

use std::env;
use std::time::Duration;

use longhand_command::exit::with_causes;
use longhand_worker::client::Metrics;
use longhand_worker::http_body;
use reqwest::{Certificate, Client};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Where Kubernetes mounts the credentials of a pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Limits the load on the API server.
const INTERVAL: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(5);

/// The pod, as its API server knows it.
#[derive(Debug)]
struct Pod {
    url: String,
    token_file: String,
    client: Client,
}

impl Pod {
    /// The pod of this process, if the chart named it and the process runs in Kubernetes.
    fn from_environment() -> Option<Result<Self, String>> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let name = variable("LONGHAND_POD")?;
        let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let account = variable("LONGHAND_POD_ACCOUNT").unwrap_or_else(|| ACCOUNT.to_owned());
        Some(Self::open(&format!("https://{host}:{port}"), &account, &name))
    }

    fn open(server: &str, account: &str, name: &str) -> Result<Self, String> {
        let read = |file| {
            let path = format!("{account}/{file}");
            std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))
        };
        let ca = Certificate::from_pem(read("ca.crt")?.as_bytes()).map_err(|e| with_causes(&e))?;
        let client =
            Client::builder().add_root_certificate(ca).timeout(PATIENCE).build().map_err(|e| with_causes(&e))?;
        let url = format!("{server}/api/v1/namespaces/{}/pods/{name}", read("namespace")?.trim());
        Ok(Self { url, token_file: format!("{account}/token"), client })
    }

    async fn set_deletion_cost(&self, documents: u32) -> Result<(), String> {
        let patch = json!({ "metadata": { "annotations": {
            "controller.kubernetes.io/pod-deletion-cost": documents.to_string(),
        }}});
        // Read each time, as Kubernetes rotates it.
        let token = std::fs::read_to_string(&self.token_file).map_err(|e| format!("{}: {e}", self.token_file))?;
        let request = self.client.patch(&self.url).bearer_auth(token.trim());
        let request = request.header("content-type", "application/merge-patch+json").body(patch.to_string());
        let answer = request.send().await.map_err(|e| with_causes(&e))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("{status}: {}", http_body::error_text(answer).await.trim())),
        }
    }
}

/// Keeps the pod's deletion cost up to date until `stop`. The cost is a hint: a failure is logged once.
pub(super) async fn publish_deletion_cost(metrics: Metrics, stop: CancellationToken) {
    let pod = match Pod::from_environment() {
        None => return,
        Some(Ok(pod)) => pod,
        Some(Err(why)) => return tracing::warn!(why, "the pod deletion cost cannot be published"),
    };
    let mut published = None;
    let mut logged = false;
    let mut due = tokio::time::interval(INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => {}
        }
        let documents = metrics.held();
        if published == Some(documents) {
            continue;
        }
        match pod.set_deletion_cost(documents).await {
            Ok(()) => published = Some(documents),
            Err(why) if !logged => {
                logged = true;
                tracing::warn!(why, "the pod deletion cost was not published; retrying");
            }
            Err(_) => {}
        }
    }
}

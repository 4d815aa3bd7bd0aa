//! A worker in Kubernetes tells what it would cost to remove it: the documents in its hands. When the fleet shrinks, the
//! pods that hold the least go first.

use std::env;
use std::time::Duration;

use longhand_worker::client::Metrics;
use reqwest::{Certificate, Client};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::health::chain;

/// Where Kubernetes puts what a pod needs to talk to it.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The API server is not to be bothered with every document.
const EVERY: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(5);

/// The pod, as its API server knows it.
#[derive(Debug)]
struct Pod {
    url: String,
    token_file: String,
    client: Client,
}

impl Pod {
    /// Of this process, if the chart named it and Kubernetes is there.
    fn here() -> Option<Result<Self, String>> {
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
        let ca = Certificate::from_pem(read("ca.crt")?.as_bytes()).map_err(|e| chain(&e))?;
        let client = Client::builder().add_root_certificate(ca).timeout(PATIENCE).build().map_err(|e| chain(&e))?;
        let url = format!("{server}/api/v1/namespaces/{}/pods/{name}", read("namespace")?.trim());
        Ok(Self { url, token_file: format!("{account}/token"), client })
    }

    async fn cost(&self, documents: u32) -> Result<(), String> {
        let patch = json!({ "metadata": { "annotations": {
            "controller.kubernetes.io/pod-deletion-cost": documents.to_string(),
        }}});
        // Kubernetes renews it in place.
        let token = std::fs::read_to_string(&self.token_file).map_err(|e| format!("{}: {e}", self.token_file))?;
        let request = self.client.patch(&self.url).bearer_auth(token.trim());
        let request = request.header("content-type", "application/merge-patch+json").body(patch.to_string());
        let answer = request.send().await.map_err(|e| chain(&e))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("{status}: {}", answer.text().await.unwrap_or_default().trim())),
        }
    }
}

/// Keeps the pod's cost up to date until `stop`. It is a hint: where it cannot be given, one line says so.
pub(crate) async fn tell(metrics: Metrics, stop: CancellationToken) {
    let pod = match Pod::here() {
        None => return,
        Some(Ok(pod)) => pod,
        Some(Err(why)) => return tracing::warn!(why, "Kubernetes is not told what this pod costs to remove"),
    };
    let mut told = None;
    let mut complained = false;
    let mut due = tokio::time::interval(EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => {}
        }
        let documents = metrics.held();
        if told == Some(documents) {
            continue;
        }
        match pod.cost(documents).await {
            Ok(()) => told = Some(documents),
            Err(why) if !complained => {
                complained = true;
                tracing::warn!(why, "Kubernetes was not told what this pod costs to remove; trying on");
            }
            Err(_) => {}
        }
    }
}

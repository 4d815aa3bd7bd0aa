//! What the HTTP port serves, and what its handlers share.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use longhand_proto::WorkerId;
use prometheus::proto::MetricFamily;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use super::measured_runs::MeasuredRuns;
use super::trace_url::TraceUrl;
use crate::control::rpc::{Coordinator, Tokens};

/// Returns metrics with their values at the time of the call.
pub type MetricSource = Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// What the HTTP port serves.
#[derive(Clone, Default)]
pub struct HttpConfig {
    /// The coordinator behind the dashboard; none on a worker, which serves metrics and health only.
    pub coordinator: Option<Coordinator>,
    /// Metrics beside the coordinator's own.
    pub metric_sources: Vec<MetricSource>,
    /// None lets everybody in who can reach the port.
    pub tokens: Option<Tokens>,
    /// Cancelled when shutdown begins: from then on `/readyz` fails.
    pub stopping: CancellationToken,
    /// Address of the trace viewer that pages link to.
    pub trace_url: Option<TraceUrl>,
    /// Nothing can be changed: the corpus is finished.
    pub read_only: bool,
    /// The worker of this process, which cannot be drained.
    pub embedded_worker: Option<WorkerId>,
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}

/// State shared by the request handlers.
#[derive(Debug)]
pub(super) struct AppState {
    pub(super) config: HttpConfig,
    /// One permit for each event stream.
    pub(super) streams: Arc<Semaphore>,
    /// When the store was last asked whether it answers, and why it did not: probes cost it one command a second.
    pub(super) readiness: Mutex<Option<(Instant, Result<(), String>)>>,
    /// What the rules measured, for reports.
    pub(super) reports: MeasuredRuns,
    pub(super) shutdown: CancellationToken,
}

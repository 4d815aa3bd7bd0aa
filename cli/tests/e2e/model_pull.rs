//! Downloads of models: which files, resuming, checksums, and offline use.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Route, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use crate::program::{Ended, longhand};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONFIG: &str = "{\"hidden_size\": 1}";
/// `git hash-object` of it.
const CONFIG_BLOB: &str = "2a79f0a1846d76b2872e239537a9052443108d55";

/// A hub with one model, whose large file is cut off in its middle the first time.
#[derive(Clone)]
struct Hub {
    weights: Bytes,
    sha256: String,
    asked: Arc<AtomicUsize>,
}

impl Hub {
    async fn start(sha256: Option<&str>) -> (Self, String) {
        let weights: Bytes = (0..600_000_u32).flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>().into();
        let digest = ring::digest::digest(&ring::digest::SHA256, &weights);
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let hub = Self { weights, sha256: sha256.unwrap_or(&digest).to_owned(), asked: Arc::default() };
        let router = Router::new()
            .route("/api/models/{organisation}/{name}/revision/{revision}", get(list))
            .route("/{organisation}/{name}/resolve/{commit}/{file}", get(file))
            .with_state(hub.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (hub, url)
    }
}

async fn list(
    State(hub): State<Hub>,
    Route((_, name, _)): Route<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    match &*name {
        "tiny" => axum::Json(json!({ "sha": COMMIT, "siblings": [
            { "rfilename": "README.md", "size": 3, "blobId": "x" },
            { "rfilename": "config.json", "size": CONFIG.len(), "blobId": CONFIG_BLOB },
            { "rfilename": "model.safetensors", "size": hub.weights.len(), "blobId": "y",
              "lfs": { "sha256": hub.sha256, "size": hub.weights.len() } },
        ]}))
        .into_response(),
        "elsewhere" => axum::Json(json!({ "sha": "/tmp/elsewhere", "siblings": [] })).into_response(),
        // Metadata without end.
        "endless" => Body::from_stream(endless()).into_response(),
        "longer" => axum::Json(json!({ "sha": COMMIT, "siblings": [
            { "rfilename": "endless.gguf", "size": 10, "blobId": "x" },
        ]}))
        .into_response(),
        "linked" => axum::Json(json!({ "sha": COMMIT, "siblings": [
            { "rfilename": "linked.gguf", "size": CONFIG.len(), "blobId": CONFIG_BLOB },
        ]}))
        .into_response(),
        "gated" if headers.get("authorization").is_none() => StatusCode::UNAUTHORIZED.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn file(
    State(hub): State<Hub>,
    Route((_, _, _, name)): Route<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if name == "endless.gguf" {
        return Body::from_stream(endless()).into_response();
    }
    if name == "config.json" || name == "linked.gguf" {
        return CONFIG.into_response();
    }
    let from = headers.get("range").map(|range| {
        let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        range.strip_suffix('-').unwrap().parse::<usize>().unwrap()
    });
    let whole = hub.weights.slice(from.unwrap_or(0)..);
    let status = if from.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    if hub.asked.fetch_add(1, Ordering::SeqCst) == 0 {
        let cut = whole.slice(..whole.len() / 2);
        let stream = futures::stream::iter([Ok(cut), Err(std::io::Error::other("cut"))]);
        return (status, Body::from_stream(stream)).into_response();
    }
    (status, [("content-length", whole.len().to_string())], whole).into_response()
}

/// Blanks for ever.
fn endless() -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    futures::stream::repeat_with(|| Ok(Bytes::from_static(&[b' '; 1 << 16])))
}

async fn pull(home: &Path, endpoint: &str, args: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = longhand();
    command.args(["model", "pull"]).args(args).env("HF_HOME", home).env("HF_ENDPOINT", endpoint);
    command.env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE").envs(environment.iter().copied());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_complete_after_an_interruption_and_found_offline() {
    let (hub, url) = Hub::start(None).await;
    let home = tempfile::tempdir().unwrap();
    let pulled = pull(home.path(), &url, &["org/tiny"], &[]).await;
    assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
    let folder = Path::new(pulled.stdout.trim()).to_owned();
    assert!(folder.ends_with(format!("hub/models--org--tiny/snapshots/{COMMIT}")), "{folder:?}");
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), hub.weights);
    assert_eq!(hub.asked.load(Ordering::SeqCst), 2, "it went on from the middle");
    assert!(!folder.join("README.md").exists(), "the engine reads no such file");

    let again = pull(home.path(), &url, &["org/tiny"], &[]).await;
    assert_eq!((again.code, again.stdout), (Some(0), pulled.stdout.clone()));
    assert_eq!(hub.asked.load(Ordering::SeqCst), 2, "what is there is not fetched again");

    let offline = [("HF_HUB_OFFLINE", "1")];
    let kept = pull(home.path(), "http://127.0.0.1:1", &["org/tiny"], &offline).await;
    assert_eq!((kept.code, kept.stdout), (Some(0), pulled.stdout));
    let missing = pull(home.path(), "http://127.0.0.1:1", &["org/other"], &offline).await;
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("HF_HUB_OFFLINE"), "{}", missing.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_wrong_checksum_is_deleted() {
    let (_, url) = Hub::start(Some(&"0".repeat(64))).await;
    let home = tempfile::tempdir().unwrap();
    let pulled =
        pull(home.path(), &url, &["org/tiny", "--output", home.path().join("out").to_str().unwrap()], &[]).await;
    assert_eq!(pulled.code, Some(1), "{}", pulled.stdout);
    assert!(pulled.stderr.contains("SHA-256"), "{}", pulled.stderr);
    let left: Vec<_> = std::fs::read_dir(home.path().join("out")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["config.json"], "nothing half is left under its name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_download_is_reported_with_a_remedy() {
    let (_, url) = Hub::start(None).await;
    let home = tempfile::tempdir().unwrap();
    for (args, code, word) in [
        (&["org/gated"][..], 2, "HF_TOKEN"),
        (&["org/none"], 2, "check the name"),
        (&["none"], 2, "ORGANISATION/NAME"),
        (&["org/tiny", "--file", "model.gguf"], 2, "model.safetensors"),
        (&["http://127.0.0.1:1/model.gguf"], 2, "--output"),
    ] {
        let pulled = pull(home.path(), &url, args, &[]).await;
        assert_eq!(pulled.code, Some(code), "{args:?}: {}", pulled.stderr);
        assert!(pulled.stderr.contains(word), "{args:?}: {}", pulled.stderr);
    }
    let gone = pull(home.path(), "http://127.0.0.1:1", &["org/tiny"], &[]).await;
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("rerun the same command"), "{}", gone.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_writes_only_what_it_states_and_only_where_it_may() {
    let (_, url) = Hub::start(None).await;
    let home = tempfile::tempdir().unwrap();
    let begun = longhand_proto::clock::now();
    for (name, code, says) in [
        ("org/elsewhere", 1, "states no commit"),
        ("org/endless", 1, "the response has more than 16384 KiB"),
        ("org/longer", 1, "sent more than the 10 bytes"),
    ] {
        let ended = pull(home.path(), &url, &[name], &[]).await;
        assert_eq!(ended.code, Some(code), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{name}: {}", ended.stderr);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    let part = home.path().join(format!("hub/models--org--longer/snapshots/{COMMIT}/endless.gguf.part"));
    assert!(!part.exists(), "nothing is left of it");

    let folder = home.path().join("out");
    let target = home.path().join("precious");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&target, "kept").unwrap();
    std::os::unix::fs::symlink(&target, folder.join("linked.gguf.part")).unwrap();
    let ended = pull(home.path(), &url, &["org/linked", "--output", folder.to_str().unwrap()], &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "kept");

    for revision in ["../../x", "/tmp/x", ".."] {
        let ended = pull(home.path(), &url, &["org/tiny", "--revision", revision], &[]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    }
}

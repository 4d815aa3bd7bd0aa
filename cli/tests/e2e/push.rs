//! A corpus becomes a data set of the hub: what is sent, what is not sent again, and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::extract::{Path as Route, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::program::{Ended, longhand, run};

const TOKEN: &str = "hf_that_may_write";

/// A hub with one repository of data sets, as far as a push goes.
#[derive(Clone)]
struct Hub {
    url: String,
    state: Arc<Mutex<Repository>>,
}

#[derive(Default)]
struct Repository {
    private: Option<bool>,
    /// What LFS storage holds, by its SHA-256.
    stored: BTreeMap<String, Bytes>,
    files: BTreeMap<String, Content>,
    titles: Vec<String>,
    puts: usize,
    /// Storage refuses files from this number on.
    refuses_from: Option<usize>,
}

enum Content {
    Text(Vec<u8>),
    Large(String),
}

fn hex(algorithm: &'static ring::digest::Algorithm, bytes: &[u8]) -> String {
    ring::digest::digest(algorithm, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(&ring::digest::SHA256, bytes)
}

impl Hub {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hub = Self { url, state: Arc::default() };
        let router = Router::new()
            .route("/api/repos/create", post(create))
            .route("/api/datasets/org/texts/revision/main", get(list))
            .route("/api/datasets/org/texts/preupload/main", post(preupload))
            .route("/datasets/org/texts.git/info/lfs/objects/batch", post(batch))
            .route("/storage/{oid}", put(store).post(verify))
            .route("/api/datasets/org/texts/commit/main", post(commit))
            .with_state(hub.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        hub
    }

    fn repository(&self) -> MutexGuard<'_, Repository> {
        self.state.lock().unwrap()
    }

    /// The files as somebody who downloads them gets them.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let repository = self.repository();
        let bytes = |content: &Content| match content {
            Content::Text(bytes) => bytes.clone(),
            Content::Large(oid) => repository.stored[oid].to_vec(),
        };
        repository.files.iter().map(|(name, content)| (name.clone(), bytes(content))).collect()
    }

    async fn push(&self, folder: &Path, args: &[&str], token: &str) -> Ended {
        let mut command = longhand();
        command.arg("push").arg(folder).arg("org/texts").args(args);
        command.env("HF_ENDPOINT", &self.url).env("HF_HOME", folder).env("HF_TOKEN", token);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap().into()
    }
}

fn may_write(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value.to_str().unwrap() == format!("Bearer {TOKEN}"))
}

async fn create(State(hub): State<Hub>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if !may_write(&headers) {
        return (StatusCode::FORBIDDEN, Json(json!({ "error": "no right" }))).into_response();
    }
    assert_eq!(
        (&body["type"], &body["organization"], &body["name"]),
        (&json!("dataset"), &json!("org"), &json!("texts"))
    );
    let mut repository = hub.repository();
    if repository.private.is_some() {
        return StatusCode::CONFLICT.into_response();
    }
    repository.private = body["private"].as_bool();
    Json(json!({ "url": "created" })).into_response()
}

async fn list(State(hub): State<Hub>) -> Response {
    let repository = hub.repository();
    let siblings: Vec<Value> = repository
        .files
        .iter()
        .map(|(name, content)| match content {
            Content::Text(bytes) => {
                let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
                let id = hex(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &blob);
                json!({ "rfilename": name, "size": bytes.len(), "blobId": id })
            }
            Content::Large(oid) => json!({ "rfilename": name, "blobId": "pointer", "lfs": { "sha256": oid } }),
        })
        .collect();
    Json(json!({ "sha": format!("{:040x}", repository.titles.len()), "siblings": siblings })).into_response()
}

async fn preupload(Json(body): Json<Value>) -> Response {
    let mode = |file: &Value| {
        assert!(BASE64.decode(file["sample"].as_str().unwrap()).unwrap().len() <= 512);
        let path = file["path"].as_str().unwrap();
        json!({ "path": path, "uploadMode": if path.starts_with("data/") { "lfs" } else { "regular" } })
    };
    let files: Vec<Value> = body["files"].as_array().unwrap().iter().map(mode).collect();
    Json(json!({ "files": files })).into_response()
}

async fn batch(State(hub): State<Hub>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    assert!(may_write(&headers));
    let repository = hub.repository();
    let answer = |object: &Value| {
        let oid = object["oid"].as_str().unwrap();
        if repository.stored.contains_key(oid) {
            return json!({ "oid": oid });
        }
        let href = format!("{}/storage/{oid}", hub.url);
        let action = json!({ "href": href, "header": { "x-signed": "yes" } });
        json!({ "oid": oid, "actions": { "upload": action, "verify": action } })
    };
    let objects: Vec<Value> = body["objects"].as_array().unwrap().iter().map(answer).collect();
    Json(json!({ "objects": objects })).into_response()
}

async fn store(State(hub): State<Hub>, Route(oid): Route<String>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert!(headers.get("authorization").is_none(), "the storage must not see the token");
    assert_eq!(headers["x-signed"], "yes");
    assert_eq!(sha256(&body), oid);
    let mut repository = hub.repository();
    repository.puts += 1;
    if repository.refuses_from.is_some_and(|from| repository.puts >= from) {
        return StatusCode::FORBIDDEN;
    }
    repository.stored.insert(oid, body);
    StatusCode::OK
}

async fn verify(State(hub): State<Hub>, Route(oid): Route<String>, Json(body): Json<Value>) -> StatusCode {
    assert_eq!(hub.repository().stored[&oid].len() as u64, body["size"].as_u64().unwrap());
    StatusCode::OK
}

async fn commit(State(hub): State<Hub>, headers: HeaderMap, body: String) -> Response {
    assert!(may_write(&headers));
    let mut repository = hub.repository();
    for line in body.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let value = &line["value"];
        let text = |key: &str| value[key].as_str().unwrap().to_owned();
        match line["key"].as_str().unwrap() {
            "header" => repository.titles.push(text("summary")),
            "file" => {
                let content = Content::Text(BASE64.decode(text("content")).unwrap());
                repository.files.insert(text("path"), content);
            }
            "lfsFile" => {
                assert!(repository.stored.contains_key(&text("oid")), "committed before it was stored");
                repository.files.insert(text("path"), Content::Large(text("oid")));
            }
            "deletedFile" => drop(repository.files.remove(&text("path")).unwrap()),
            other => panic!("{other}"),
        }
    }
    Json(json!({ "commitUrl": "there", "commitOid": format!("{:040x}", repository.titles.len()) })).into_response()
}

/// A small corpus of the test double.
fn corpus(dir: &Path) -> std::path::PathBuf {
    let input = dir.join("in.jsonl");
    fs::write(&input, "{\"prompt\": \"Write a 300-word essay on ships.\"}\n").unwrap();
    let out = dir.join("corpus");
    let paths = [&input, &out].map(|path| path.display().to_string());
    let ended = run(["run", &paths[0], "-o", &paths[1], "--engine", "mock", "--http", "off", "-q"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corpus_is_pushed_in_one_commit_and_only_what_changed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, corpus) = (Hub::start().await, corpus(dir.path()));
    let pushed = hub.push(&corpus, &["--message", "First texts"], TOKEN).await;
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    assert!(pushed.stdout.starts_with(&format!("{}/datasets/org/texts\ncommit ", hub.url)), "{}", pushed.stdout);
    let there = hub.files();
    for (name, bytes) in &there {
        assert_eq!(*bytes, fs::read(corpus.join(name)).unwrap(), "{name}");
    }
    assert!(["README.md", "recipe.toml", "stats.json"].iter().all(|name| there.contains_key(*name)));
    assert!(there.keys().any(|name| name.starts_with("data/train-")), "{:?}", there.keys());
    assert!(!there.contains_key("rejected.jsonl"));
    assert!(String::from_utf8_lossy(&there["README.md"]).contains("> **Not for training.**"));
    {
        let repository = hub.repository();
        assert_eq!((repository.private, repository.titles.join(" ")), (Some(true), "First texts".to_owned()));
    }

    let puts = hub.repository().puts;
    let again = hub.push(&corpus, &[], TOKEN).await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("nothing was changed"), "{}", again.stdout);
    assert_eq!(hub.repository().puts, puts);
    assert_eq!(hub.repository().titles.len(), 1);

    // A later export has other data files.
    let old = fs::read_dir(corpus.join("data")).unwrap().next().unwrap().unwrap().path();
    fs::rename(&old, corpus.join("data/train-more.jsonl")).unwrap();
    let later = hub.push(&corpus, &["--json"], TOKEN).await;
    let said: Value = serde_json::from_str(&later.stdout).unwrap();
    assert_eq!((&said["changed"], &said["removed"], &said["sent_bytes"]), (&json!(1), &json!(1), &json!(0)), "{said}");
    let names: Vec<String> = hub.files().into_keys().filter(|name| name.starts_with("data/")).collect();
    let here = fs::read_dir(corpus.join("data")).unwrap().count();
    assert!(names.contains(&"data/train-more.jsonl".to_owned()) && names.len() == here, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_push_goes_on_and_nothing_half_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, corpus) = (Hub::start().await, corpus(dir.path()));
    fs::write(corpus.join("data/train-more.jsonl"), "{}\n").unwrap();
    hub.repository().refuses_from = Some(2);
    let broken = hub.push(&corpus, &[], TOKEN).await;
    assert_eq!(broken.code, Some(1), "{}", broken.stderr);
    assert!(broken.stderr.contains("rerun the command"), "{}", broken.stderr);
    assert!(hub.files().is_empty());
    assert!(hub.repository().titles.is_empty());
    let stored = hub.repository().stored.len();
    hub.repository().refuses_from = None;
    let done = hub.push(&corpus, &["--json"], TOKEN).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let large = fs::read_dir(corpus.join("data")).unwrap().count();
    // The one that was refused was put twice.
    assert_eq!((stored, hub.repository().puts), (1, large + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_pushed_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, corpus) = (Hub::start().await, corpus(dir.path()));
    let empty = dir.path().join("empty");
    fs::create_dir_all(empty.join("data")).unwrap();
    for (folder, token, word) in [
        (&corpus, "", "set HF_TOKEN"),
        (&corpus, "hf_reader", "may write to org/texts"),
        (&empty, TOKEN, "no data files"),
        (&dir.path().to_owned(), TOKEN, "give the output folder"),
    ] {
        let ended = hub.push(folder, &[], token).await;
        assert_eq!(ended.code, Some(2), "{word}: {}", ended.stderr);
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
    let remote = Hub { url: "http://hub.example".into(), ..hub };
    let ended = remote.push(&corpus, &[], TOKEN).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("use https://"), "{}", ended.stderr);
}

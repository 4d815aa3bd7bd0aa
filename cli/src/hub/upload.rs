//! Uploads a data set to the hub: large files to its LFS storage, then all of them in one commit. A file that is there already is
//! not sent again, so an interrupted upload goes on where it was.

use std::io::Read;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use longhand_command::exit::{Failure, Result};
use longhand_command::output::grouped;
use reqwest::StatusCode;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::transfer::{Check, Transfer, hex};
use super::{Entry, Hub, Repository};

/// The hub decides by the beginning of a file whether it is text.
const SAMPLE_BYTES: usize = 512;
/// The most that is sent as text in a commit: it is in memory whole.
const MAX_TEXT_BYTES: u64 = 10 << 20;
/// Files in one question to the hub.
const BATCH: usize = 256;
/// The most that LFS storage takes in one request.
const MAX_FILE_BYTES: u64 = 5 << 30;
const NDJSON: &str = "application/x-ndjson";
const JSON: &str = "application/json";
const LFS_JSON: &str = "application/vnd.git-lfs+json";

/// A file to upload.
#[derive(Debug)]
pub(crate) struct LocalFile {
    /// Path in the repository.
    pub(crate) name: String,
    path: PathBuf,
    size: u64,
    /// Hexadecimal.
    sha256: String,
    /// Its id in git, hexadecimal.
    blob: String,
    sample: Vec<u8>,
}

impl LocalFile {
    /// Reads the file once, for its hashes.
    pub(crate) fn read(path: PathBuf, name: String) -> Result<Self> {
        let at = |error: std::io::Error| Failure::refused(format!("{}: {error}", path.display()));
        let mut file = std::fs::File::open(&path).map_err(at)?;
        let size = file.metadata().map_err(at)?.len();
        if size > MAX_FILE_BYTES {
            return Err(Failure::refused(format!(
                "{}: {} bytes; the hub takes at most {} in one request: upload this file with the hub's own program",
                path.display(),
                grouped(size),
                grouped(MAX_FILE_BYTES)
            )));
        }
        let (mut sha256, mut blob) = (Context::new(&SHA256), Context::new(&SHA1_FOR_LEGACY_USE_ONLY));
        blob.update(format!("blob {size}\0").as_bytes());
        let mut sample = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).map_err(at)?;
            if read == 0 {
                break;
            }
            sha256.update(&buffer[..read]);
            blob.update(&buffer[..read]);
            let room = (SAMPLE_BYTES - sample.len()).min(read);
            sample.extend_from_slice(&buffer[..room]);
        }
        Ok(Self { name, size, sha256: hex(sha256), blob: hex(blob), sample, path })
    }

    fn is_same(&self, there: &Entry) -> bool {
        match &there.check {
            Check::Sha256(sha256) => *sha256 == self.sha256,
            Check::GitBlob(blob) => *blob == self.blob,
            Check::None => false,
        }
    }
}

/// Where an upload goes.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) name: &'a Repository,
    pub(crate) branch: &'a str,
    pub(crate) private: bool,
    /// Files below this folder that are not uploaded are removed from the repository.
    pub(crate) replaces: &'a str,
    pub(crate) quiet: bool,
}

/// What an upload did.
#[derive(Debug)]
pub(crate) struct Uploaded {
    /// Files that differed.
    pub(crate) changed: usize,
    pub(crate) removed: usize,
    /// Bytes sent to LFS storage.
    pub(crate) sent_bytes: u64,
    /// None if nothing differed.
    pub(crate) commit: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Preuploaded {
    files: Vec<Preupload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preupload {
    path: String,
    upload_mode: String,
}

#[derive(Debug, Deserialize)]
struct LfsAnswer {
    objects: Vec<LfsObject>,
}

#[derive(Debug, Deserialize)]
struct LfsObject {
    oid: String,
    #[serde(default)]
    actions: Option<LfsActions>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct LfsActions {
    upload: Option<LfsAction>,
    verify: Option<LfsAction>,
}

#[derive(Debug, Deserialize)]
struct LfsAction {
    href: String,
    #[serde(default)]
    header: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    commit_oid: String,
}

impl Upload<'_> {
    /// Makes the repository hold `files`, in one commit with the title `title`.
    pub(crate) async fn run(&self, files: &[LocalFile], title: &str) -> Result<Uploaded> {
        let hub = Transfer::new(self.hub.token.as_deref(), self.quiet)?;
        self.create(&hub).await?;
        let there = self.hub.snapshot(&hub, "datasets", self.name, self.branch).await?;
        let entry = |name: &str| there.files.iter().find(|entry| entry.name == name);
        let changed: Vec<&LocalFile> =
            files.iter().filter(|file| !entry(&file.name).is_some_and(|entry| file.is_same(entry))).collect();
        let is_old =
            |entry: &&Entry| entry.name.starts_with(self.replaces) && files.iter().all(|file| file.name != entry.name);
        let old: Vec<&str> = there.files.iter().filter(is_old).map(|entry| entry.name.as_str()).collect();
        let mut done = Uploaded { changed: changed.len(), removed: old.len(), sent_bytes: 0, commit: None };
        if changed.is_empty() && old.is_empty() {
            return Ok(done);
        }
        let large = self.large(&hub, &changed).await?;
        done.sent_bytes = self.send(&hub, &large).await?;
        done.commit = Some(self.commit(&hub, &changed, &large, &old, title).await?);
        Ok(done)
    }

    fn api(&self, rest: &str) -> String {
        format!("{}/api/datasets/{}/{rest}", self.hub.endpoint(), self.name)
    }

    /// Creates the repository unless it exists.
    async fn create(&self, hub: &Transfer) -> Result<()> {
        let url = format!("{}/api/repos/create", self.hub.endpoint());
        let name = self.name.to_string();
        let (organisation, name) = name.split_once('/').unwrap_or(("", &name));
        let body = json!({ "type": "dataset", "name": name, "organization": organisation, "private": self.private });
        let (status, text) = hub.post(&url, JSON, body.to_string().into_bytes()).await?;
        match status {
            StatusCode::CONFLICT => Ok(()),
            _ => self.accepted(&url, status, &text),
        }
    }

    /// Those of `files` that the hub wants in LFS storage.
    async fn large<'f>(&self, hub: &Transfer, files: &[&'f LocalFile]) -> Result<Vec<&'f LocalFile>> {
        let url = self.api(&format!("preupload/{}", self.branch));
        let mut large = Vec::new();
        for batch in files.chunks(BATCH) {
            let asked: Vec<Value> = batch
                .iter()
                .map(|file| json!({ "path": file.name, "size": file.size, "sample": BASE64.encode(&file.sample) }))
                .collect();
            let answer: Preuploaded = self.ask(hub, &url, JSON, &json!({ "files": asked })).await?;
            let is_large =
                |file: &&LocalFile| answer.files.iter().any(|mode| mode.path == file.name && mode.upload_mode == "lfs");
            large.extend(batch.iter().copied().filter(is_large));
            if let Some(text) = batch.iter().find(|file| file.size > MAX_TEXT_BYTES && !is_large(file)) {
                return Err(Failure::stopped(format!(
                    "{url}: the hub takes {} ({} bytes) for text; let its .gitattributes name the file for LFS",
                    text.name,
                    grouped(text.size)
                )));
            }
        }
        Ok(large)
    }

    /// Sends what the storage does not have; returns the number of bytes.
    async fn send(&self, hub: &Transfer, files: &[&LocalFile]) -> Result<u64> {
        // The storage has addresses that are signed: it must not see the token.
        let storage = Transfer::new(None, self.quiet)?;
        let url = format!("{}/datasets/{}.git/info/lfs/objects/batch", self.hub.endpoint(), self.name);
        let mut sent = 0;
        for batch in files.chunks(BATCH) {
            let objects: Vec<Value> =
                batch.iter().map(|file| json!({ "oid": file.sha256, "size": file.size })).collect();
            let body = json!({
                "operation": "upload", "transfers": ["basic"], "hash_algo": "sha256",
                "ref": { "name": format!("refs/heads/{}", self.branch) }, "objects": objects,
            });
            let answer: LfsAnswer = self.ask(hub, &url, LFS_JSON, &body).await?;
            for object in answer.objects {
                if let Some(error) = object.error {
                    return Err(Failure::stopped(format!("{url}: {error}")));
                }
                let Some(file) = batch.iter().find(|file| file.sha256 == object.oid) else { continue };
                let Some(LfsActions { upload: Some(upload), verify }) = object.actions else { continue };
                storage.put(&upload.href, &upload.header, &file.path, &file.name, file.size).await?;
                sent += file.size;
                if let Some(verify) = verify {
                    let body = json!({ "oid": file.sha256, "size": file.size }).to_string().into_bytes();
                    let (status, text) = storage.post_with(&verify.href, LFS_JSON, body, &verify.header).await?;
                    self.accepted(&verify.href, status, &text)?;
                }
            }
        }
        Ok(sent)
    }

    async fn commit(
        &self,
        hub: &Transfer,
        files: &[&LocalFile],
        large: &[&LocalFile],
        old: &[&str],
        title: &str,
    ) -> Result<String> {
        let mut lines = vec![json!({ "key": "header", "value": { "summary": title, "description": "" } })];
        for file in files {
            if large.iter().any(|it| it.name == file.name) {
                let value = json!({ "path": file.name, "algo": "sha256", "oid": file.sha256, "size": file.size });
                lines.push(json!({ "key": "lfsFile", "value": value }));
            } else {
                let content = std::fs::read(&file.path)
                    .map_err(|error| Failure::stopped(format!("{}: {error}", file.path.display())))?;
                let value = json!({ "path": file.name, "encoding": "base64", "content": BASE64.encode(content) });
                lines.push(json!({ "key": "file", "value": value }));
            }
        }
        lines.extend(old.iter().map(|name| json!({ "key": "deletedFile", "value": { "path": name } })));
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let url = self.api(&format!("commit/{}", self.branch));
        let (status, text) = hub.post(&url, NDJSON, body.into_bytes()).await?;
        self.accepted(&url, status, &text)?;
        parse::<Committed>(&url, &text).map(|committed| committed.commit_oid)
    }

    async fn ask<T: DeserializeOwned>(&self, hub: &Transfer, url: &str, kind: &str, body: &Value) -> Result<T> {
        let (status, text) = hub.post(url, kind, body.to_string().into_bytes()).await?;
        self.accepted(url, status, &text)?;
        parse(url, &text)
    }

    /// An error for an answer that is none.
    fn accepted(&self, url: &str, status: StatusCode, text: &str) -> Result<()> {
        if status.is_success() {
            return Ok(());
        }
        let said = serde_json::from_str::<Value>(text).ok().and_then(|body| Some(body["error"].as_str()?.to_owned()));
        // One line, whatever the hub says.
        let said = said.unwrap_or_else(|| text.chars().take(200).collect());
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let remedy = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                format!("; set HF_TOKEN to a token that may write to {}", self.name)
            }
            _ => String::new(),
        };
        Err(Failure::refused(format!("{url}: {status}: {said}{remedy}")))
    }
}

fn parse<T: DeserializeOwned>(url: &str, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Failure::stopped(format!("{url}: unexpected response ({e}); check HF_ENDPOINT and any proxy")))
}

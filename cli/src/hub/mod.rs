//! The Hugging Face hub: the files of a repository, and its cache on this machine, in the layout of the hub's own programs.

pub(crate) mod transfer;
pub(crate) mod upload;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use longhand_command::exit::{Failure, Result};
use serde::Deserialize;

use self::transfer::{Check, Transfer};
use crate::args::loopback;

/// Files that an engine reads besides the weights.
const NEEDED: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "model.safetensors.index.json",
];

/// `ORGANISATION/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository(String);

impl FromStr for Repository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        match text.split_once('/') {
            Some((organisation, name)) if word(organisation) && word(name) => Ok(Self(text.to_owned())),
            _ => Err(format!("invalid name {text:?}: expected ORGANISATION/NAME, such as Qwen/Qwen3-8B")),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hub, its cache on this machine, and the token.
#[derive(Debug)]
pub(crate) struct Hub {
    endpoint: String,
    pub(crate) home: PathBuf,
    pub(crate) token: Option<String>,
    pub(crate) offline: bool,
}

impl Hub {
    /// The hub of the variables `HF_*`.
    pub(crate) fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let home = variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")));
            cache.unwrap_or_else(|| PathBuf::from(".cache")).join("huggingface")
        });
        let token = variable("HF_TOKEN").or_else(|| std::fs::read_to_string(home.join("token")).ok());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            home,
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| !matches!(&*value, "0" | "false" | "no" | "off")),
        }
    }

    /// The files of a repository at a revision; `kind` is `models` or `datasets`.
    pub(crate) async fn snapshot(
        &self,
        transfer: &Transfer,
        kind: &str,
        name: &Repository,
        revision: &str,
    ) -> Result<Snapshot> {
        let url = format!("{}/api/{kind}/{name}/revision/{revision}?blobs=true", self.endpoint);
        let text = transfer.text(&url).await?;
        let metadata: HubMetadata = serde_json::from_str(&text).map_err(|e| {
            Failure::stopped(format!("{url}: unexpected response ({e}); check HF_ENDPOINT and any proxy"))
        })?;
        let files = metadata.siblings.into_iter().map(|it| Entry {
            check: match (it.lfs, it.blob_id) {
                (Some(lfs), _) => Check::Sha256(lfs.sha256),
                (None, Some(blob)) => Check::GitBlob(blob),
                (None, None) => Check::None,
            },
            name: it.rfilename,
            size: it.size.unwrap_or(0),
        });
        if !is_commit(&metadata.sha) {
            return Err(Failure::stopped(format!(
                "{url}: the hub states no commit in \"sha\"; check HF_ENDPOINT and any proxy"
            )));
        }
        Ok(Snapshot { commit: metadata.sha, files: files.filter(|file| is_file_name(&file.name)).collect() })
    }

    /// URL of a file at a commit.
    pub(crate) fn url(&self, name: &Repository, commit: &str, file: &str) -> String {
        format!("{}/{name}/resolve/{commit}/{file}", self.endpoint)
    }

    /// Refuses a hub to which the token would go in plain text.
    pub(crate) fn check(&self) -> Result<()> {
        let endpoint = &self.endpoint;
        let host = reqwest::Url::parse(endpoint).ok().and_then(|url| url.host_str().map(str::to_owned));
        let is_safe = endpoint.starts_with("https://") || loopback::is_this_machine(&host.unwrap_or_default());
        if self.token.is_none() || is_safe {
            return Ok(());
        }
        Err(Failure::refused(format!("HF_ENDPOINT {endpoint}: the token would be readable on the way; use https://")))
    }

    /// URL of the hub, without a slash at its end.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn root(&self, name: &Repository) -> PathBuf {
        self.home.join("hub").join(format!("models--{}", name.0.replace('/', "--")))
    }

    /// Folder of a commit's files.
    pub(crate) fn folder(&self, name: &Repository, commit: &str) -> PathBuf {
        self.root(name).join("snapshots").join(commit)
    }

    /// Saves the commit of a revision, for offline use.
    pub(crate) fn save_revision(&self, name: &Repository, revision: &str, commit: &str) -> Result<()> {
        let path = self.root(name).join("refs").join(revision);
        let written =
            path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, commit));
        written.map_err(|e| Failure::stopped(format!("{}: {e}", path.display())))
    }

    /// The cached folder of a revision or commit.
    pub(crate) fn cached(&self, name: &Repository, revision: &str) -> Option<PathBuf> {
        if !is_file_name(revision) {
            return None;
        }
        let commit = std::fs::read_to_string(self.root(name).join("refs").join(revision)).ok();
        let commit = commit.as_deref().map_or(revision, str::trim);
        let folder = is_commit(commit).then(|| self.folder(name, commit))?;
        folder.is_dir().then_some(folder)
    }
}

/// Hexadecimal digits, as git names commits. What a hub says becomes a path here, so it is not trusted.
fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A path below a folder, of characters that file names have on all systems.
pub(crate) fn is_file_name(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+=@ ".contains(&b))
    };
    text.len() <= 255 && text.split('/').all(part)
}

#[derive(Debug, Deserialize)]
struct HubMetadata {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
}

/// A repository at a commit.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) commit: String,
    files: Vec<Entry>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) check: Check,
}

impl Snapshot {
    /// The files to download: the given one, or all that an engine reads, small ones first.
    pub(crate) fn select(&self, only: Option<&str>) -> Result<Vec<Entry>, String> {
        let gguf: Vec<&Entry> = self.files.iter().filter(|file| file.name.ends_with(".gguf")).collect();
        let list = |files: &[&Entry]| files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(name) = only {
            let found = self.files.iter().find(|file| file.name == name).cloned();
            return found.map(|file| vec![file]).ok_or_else(|| {
                format!("the repository has no file {name}; it has {}", list(&self.files.iter().collect::<Vec<_>>()))
            });
        }
        let weights = |file: &&Entry| file.name.ends_with(".safetensors") && !file.name.contains('/');
        let weights: Vec<Entry> = self.files.iter().filter(weights).cloned().collect();
        match (weights.is_empty(), &gguf[..]) {
            (true, [one]) => return Ok(vec![(*one).clone()]),
            (true, []) => {
                return Err("the repository has neither safetensors nor GGUF files; choose another model".into());
            }
            (true, many) => {
                return Err(format!("the repository has several GGUF files; choose one with --file: {}", list(many)));
            }
            (false, _) => {}
        }
        let needed = self.files.iter().filter(|file| NEEDED.contains(&&*file.name)).cloned();
        Ok(needed.chain(weights).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(names: &[&str]) -> Snapshot {
        let file = |name: &&str| Entry { name: (*name).to_owned(), size: 1, check: Check::None };
        Snapshot { commit: "c".into(), files: names.iter().map(file).collect() }
    }

    fn names(files: Vec<Entry>) -> Vec<String> {
        files.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn only_files_that_the_engine_reads_are_selected() {
        let full = snapshot(&[
            "README.md",
            "config.json",
            "tokenizer.json",
            "model-00001-of-00002.safetensors",
            "original/x.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
        ]);
        assert_eq!(
            names(full.select(None).unwrap()),
            [
                "config.json",
                "tokenizer.json",
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ]
        );
        assert_eq!(names(snapshot(&["a.gguf", "README.md"]).select(None).unwrap()), ["a.gguf"]);
        let sizes = snapshot(&["a-Q4.gguf", "a-Q8.gguf"]);
        assert!(sizes.select(None).unwrap_err().contains("--file: a-Q4.gguf, a-Q8.gguf"));
        assert_eq!(names(sizes.select(Some("a-Q8.gguf")).unwrap()), ["a-Q8.gguf"]);
        assert!(sizes.select(Some("b")).unwrap_err().contains("a-Q4.gguf"));
        assert!(snapshot(&["pytorch_model.bin"]).select(None).unwrap_err().contains("neither"));
    }

    #[test]
    fn a_name_from_a_hub_is_no_way_out_of_its_folder() {
        for good in ["model.safetensors", "a/b-1.gguf", "Q4_K_M (1).gguf".trim_end_matches(" (1).gguf")] {
            assert!(is_file_name(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", ".ssh/x", "a\\b", "a\nb", "a/", &"x".repeat(256)] {
            assert!(!is_file_name(bad), "{bad}");
        }
        assert!(is_commit("0123456789abcdef0123456789abcdef01234567"));
        for bad in ["", "/elsewhere", "..", "main", "0123456789abcdef/../.."] {
            assert!(!is_commit(bad), "{bad}");
        }
    }

    #[test]
    fn an_invalid_name_is_rejected() {
        assert!("Qwen/Qwen3-8B".parse::<Repository>().is_ok());
        for bad in ["", "qwen", "/x", "a/", "a/b/c", "../x", "a/..", "a b/c"] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }
}

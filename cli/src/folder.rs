//! The output folder: whose it is, and that one process works on it at a time.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use longhand_proto::{LeaseId, RunId, WorkerId};
use serde::{Deserialize, Serialize};

use crate::exit::{Failure, Result};

/// State of the run, beside what the user came for.
const STATE: &str = ".longhand";
/// What a run leaves in the folder for its user.
const OUTPUTS: [&str; 8] = [
    "data",
    "rejected.jsonl",
    "failed.jsonl",
    "stats.json",
    "recipe.toml",
    "dataset_info.json",
    "report.html",
    "README.md",
];

/// What decides the texts of a run; a folder holds the work of one such set only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) run: RunId,
    pub(crate) recipe_hash: String,
    pub(crate) seed: u64,
    pub(crate) model: String,
    pub(crate) weights_hash: String,
    /// Where the state lies, without password.
    pub(crate) store: String,
}

/// What this process would do with the folder.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    /// None takes the folder's run, or names a new one after the folder.
    pub(crate) run: Option<RunId>,
    pub(crate) recipe_hash: &'a str,
    pub(crate) seed: u64,
    pub(crate) model: &'a str,
    pub(crate) weights_hash: &'a str,
    pub(crate) store: Option<&'a str>,
    /// Set another run's work aside instead of refusing.
    pub(crate) new_run: bool,
}

/// The folder, locked for this process until it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    pub(crate) identity: Identity,
    /// True if the folder held this run before.
    pub(crate) resumed: bool,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, locks it, and checks that it may hold this run.
    pub(crate) fn open(dir: &Path, claim: &Claim<'_>) -> Result<Self> {
        let state = dir.join(STATE);
        fs::create_dir_all(&state).map_err(|e| at(&state, "cannot be made", &e))?;
        let lock = lock(dir)?;
        let path = state.join("run.json");
        let mut known = read_identity(&path)?;
        if known.is_none() {
            refuse_foreign_files(dir)?;
        }
        if let Some(held) = &known
            && let Some(difference) = difference(held, claim)
            && !claim.new_run
        {
            return Err(Failure::refused(format!(
                "{} holds run {} of {difference}\nGive the same as then, choose another output folder, or pass \
                 --new-run to set that run aside (into {}) and begin anew.",
                dir.display(),
                held.run,
                dir.join("previous-N").display(),
            )));
        }
        if claim.new_run && known.is_some() {
            set_aside(dir)?;
            known = None;
        }
        let resumed = known.is_some();
        let identity = match known {
            Some(identity) => identity,
            None => {
                let identity = new_identity(dir, claim)?;
                let text = serde_json::to_vec_pretty(&identity).map_err(Failure::refused)?;
                write_atomically(&path, &text).map_err(|e| at(&path, "cannot be written", &e))?;
                identity
            }
        };
        Ok(Self { dir: dir.to_owned(), identity, resumed, _lock: lock })
    }

    /// Opens the folder of a run that is there already, whatever made it.
    pub(crate) fn reopen(dir: &Path) -> Result<Self> {
        let none =
            || Failure::refused(format!("{} holds no run; want the output folder of a `longhand run`", dir.display()));
        let path = dir.join(STATE).join("run.json");
        if !path.is_file() {
            return Err(none());
        }
        let lock = lock(dir)?;
        let identity = read_identity(&path)?.ok_or_else(none)?;
        Ok(Self { dir: dir.to_owned(), identity, resumed: true, _lock: lock })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// URL of the store that holds the run: the folder's own, or the one that is `given` for it.
    pub(crate) fn store(&self, given: Option<&str>) -> Result<String> {
        let held = &self.identity.store;
        match given {
            _ if *held == place(None) => Ok(self.embedded_store()),
            Some(url) if *held == redact(url) => Ok(url.to_owned()),
            _ if !held.contains("://") => Err(Failure::refused(format!(
                "{} was exported from a {held}: export the run {} from there",
                self.dir.display(),
                self.identity.run
            ))),
            _ => Err(Failure::refused(format!(
                "the state of {} lives in {held}: name it with --store",
                self.dir.display()
            ))),
        }
    }

    /// URL of the store that lies in the folder.
    pub(crate) fn embedded_store(&self) -> String {
        format!("sqlite://{}", self.dir.join(STATE).join("store.sqlite").display())
    }

    /// The worker that the previous process of this folder ran. This process holds the lock, so that one is dead.
    pub(crate) fn dead_worker(&self) -> Result<Option<WorkerId>> {
        let path = self.dir.join(STATE).join("worker");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(id) => Ok(Some(id)),
                Err(e) => Err(Failure::refused(format!("{}: {e}; delete the file", path.display()))),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at(&path, "cannot be read", &e)),
        }
    }

    /// Notes the worker of this process, for the next one should this one die.
    pub(crate) fn note_worker(&self, worker: &WorkerId) -> Result<()> {
        let path = self.dir.join(STATE).join("worker");
        write_atomically(&path, worker.as_str().as_bytes()).map_err(|e| at(&path, "cannot be written", &e))
    }
}

/// The system drops the lock with the process, however it ends.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(STATE).join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| at(&path, "cannot be opened", &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::refused(format!(
            "another `longhand run` is at work on {}\nWait for it, stop it, or choose another output folder.",
            dir.display()
        ))),
        Err(TryLockError::Error(e)) => Err(at(&path, "cannot be locked", &e)),
    }
}

fn read_identity(path: &Path) -> Result<Option<Identity>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at(path, "cannot be read", &e)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Failure::refused(format!("{} is not a run of this version: {e}; choose another output folder", path.display()))
    })
}

/// A sentence on the first thing that differs; none if the claim goes on with what is there.
fn difference(held: &Identity, claim: &Claim<'_>) -> Option<String> {
    if held.recipe_hash != claim.recipe_hash {
        let (theirs, ours) = (&held.recipe_hash, claim.recipe_hash);
        Some(format!("another recipe: its hash is {theirs}, this recipe's is {ours}."))
    } else if held.seed != claim.seed {
        Some(format!("another seed: {}, not {}.", held.seed, claim.seed))
    } else if held.weights_hash != claim.weights_hash {
        Some(format!(
            "another model: {} (weights {}), not {} (weights {}).",
            held.model, held.weights_hash, claim.model, claim.weights_hash
        ))
    } else if claim.run.as_ref().is_some_and(|run| *run != held.run) {
        Some("another name than --run-id gives.".to_owned())
    } else if held.store != place(claim.store) {
        Some(format!("another store: {}, not {}.", held.store, place(claim.store)))
    } else {
        None
    }
}

fn new_identity(dir: &Path, claim: &Claim<'_>) -> Result<Identity> {
    let run = match &claim.run {
        Some(run) => run.clone(),
        None => name_run(dir, claim.store.is_some())?,
    };
    Ok(Identity {
        run,
        recipe_hash: claim.recipe_hash.to_owned(),
        seed: claim.seed,
        model: claim.model.to_owned(),
        weights_hash: claim.weights_hash.to_owned(),
        store: place(claim.store),
    })
}

/// The folder's name. In a store outside the folder, which other folders may share, with a random part behind it.
fn name_run(dir: &Path, shared: bool) -> Result<RunId> {
    let full = dir.canonicalize().map_err(|e| at(dir, "cannot be read", &e))?;
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).take(48).collect();
    if name.is_empty() {
        "run".clone_into(&mut name);
    }
    if shared {
        name = format!("{name}-{}", &LeaseId::mint().to_string()[..8]);
    }
    name.parse().map_err(|e| Failure::refused(format!("{e}; give one with --run-id")))
}

fn place(store: Option<&str>) -> String {
    store.map_or_else(|| "in the output folder".to_owned(), redact)
}

/// A store URL without its password.
pub(crate) fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => url.to_owned(),
    }
}

/// Never write over a file that no run of ours wrote: `-o .` in a project would replace its README.md.
fn refuse_foreign_files(dir: &Path) -> Result<()> {
    match OUTPUTS.iter().find(|name| dir.join(name).symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(name) => Err(Failure::refused(format!(
            "{} exists and was not written by a run: choose an output folder that is empty or new",
            dir.join(name).display()
        ))),
    }
}

/// Moves a run into `previous-N`. The identity goes last: after a crash in between, the same command finishes the move.
fn set_aside(dir: &Path) -> Result<()> {
    let aside = (1..).map(|n| dir.join(format!("previous-{n}"))).find(|path| path.symlink_metadata().is_err());
    let Some(aside) = aside else { return Err(Failure::refused("no name is left for the previous run")) };
    let aside_state = aside.join(STATE);
    fs::create_dir_all(&aside_state).map_err(|e| at(&aside_state, "cannot be made", &e))?;
    let moved = |from: PathBuf, to: PathBuf| match fs::rename(&from, &to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(&from, "cannot be moved", &e)),
        Ok(()) | Err(_) => Ok(()),
    };
    for name in OUTPUTS {
        moved(dir.join(name), aside.join(name))?;
    }
    let state = dir.join(STATE);
    for entry in fs::read_dir(&state).map_err(|e| at(&state, "cannot be read", &e))? {
        let name = entry.map_err(|e| at(&state, "cannot be read", &e))?.file_name();
        if name != "lock" && name != "run.json" {
            moved(state.join(&name), aside_state.join(&name))?;
        }
    }
    moved(state.join("run.json"), aside_state.join("run.json"))
}

/// Replaces a file: after a crash either the old or the new text is there.
pub(crate) fn write_atomically(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn at(path: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::refused(format!("{} {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim<'static> {
        Claim { run: None, recipe_hash: "r1", seed: 1, model: "m", weights_hash: "w1", store: None, new_run: false }
    }

    #[test]
    fn the_same_claim_goes_on_and_names_the_run_after_the_folder() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("my corpus");
        let first = Folder::open(&dir, &claim()).unwrap();
        assert!(!first.resumed);
        assert_eq!(first.identity.run.as_str(), "my-corpus");
        drop(first);
        let second = Folder::open(&dir, &claim()).unwrap();
        assert!(second.resumed);
        assert_eq!(second.identity.run.as_str(), "my-corpus");
    }

    #[test]
    fn a_second_process_is_refused_while_the_first_lives() {
        let temp = tempfile::tempdir().unwrap();
        let first = Folder::open(temp.path(), &claim()).unwrap();
        let error = Folder::open(temp.path(), &claim()).unwrap_err();
        assert!(error.message.contains("another `longhand run`"), "{error}");
        drop(first);
        assert!(Folder::open(temp.path(), &claim()).is_ok());
    }

    #[test]
    fn another_recipe_seed_model_name_or_store_is_refused_with_both_values() {
        let temp = tempfile::tempdir().unwrap();
        drop(Folder::open(temp.path(), &claim()).unwrap());
        for (other, wants) in [
            (Claim { recipe_hash: "r2", ..claim() }, ["r1", "r2"]),
            (Claim { seed: 2, ..claim() }, ["1", "2"]),
            (Claim { weights_hash: "w2", ..claim() }, ["w1", "w2"]),
            (Claim { run: Some("x".parse().unwrap()), ..claim() }, ["--run-id", "name"]),
            (Claim { store: Some("redis://u:secret@h/0"), ..claim() }, ["in the output folder", "redis://***@h/0"]),
        ] {
            let message = Folder::open(temp.path(), &other).unwrap_err().message;
            assert!(wants.iter().all(|want| message.contains(want)) && message.contains("--new-run"), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_new_run_sets_the_old_one_aside_and_loses_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        drop(Folder::open(dir, &claim()).unwrap());
        fs::create_dir(dir.join("data")).unwrap();
        fs::write(dir.join("data/train.jsonl"), "{}").unwrap();
        fs::write(dir.join("README.md"), "card").unwrap();
        fs::write(dir.join(".longhand/store.sqlite"), "db").unwrap();
        fs::write(dir.join("notes.txt"), "the user's own").unwrap();
        let other = Claim { recipe_hash: "r2", new_run: true, ..claim() };
        let folder = Folder::open(dir, &other).unwrap();
        assert!(!folder.resumed);
        assert_eq!(folder.identity.recipe_hash, "r2");
        assert!(dir.join("notes.txt").exists() && !dir.join("data").exists());
        for kept in ["data/train.jsonl", "README.md", ".longhand/store.sqlite", ".longhand/run.json"] {
            assert!(dir.join("previous-1").join(kept).exists(), "{kept}");
        }
    }

    #[test]
    fn a_folder_with_files_of_somebody_else_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("README.md"), "a project").unwrap();
        let error = Folder::open(temp.path(), &claim()).unwrap_err();
        assert!(error.message.contains("README.md"), "{error}");
    }

    #[test]
    fn the_worker_of_a_dead_process_is_remembered() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path(), &claim()).unwrap();
        assert_eq!(folder.dead_worker().unwrap(), None);
        let worker: WorkerId = "host-1-abc".parse().unwrap();
        folder.note_worker(&worker).unwrap();
        assert_eq!(folder.dead_worker().unwrap(), Some(worker));
    }
}

//! The output folder: which run it belongs to, and a lock so that one process uses it at a time.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use longhand_command::exit::{Failure, Result};
use longhand_command::store_url::redact;
use longhand_coordinator::files::{atomic, network_file_system};
use longhand_proto::{LeaseId, RunId, WorkerId};
use serde::{Deserialize, Serialize};

/// Folder of the state of the run, beside the results.
const STATE: &str = ".longhand";
/// The results of a run.
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

/// What determines the texts of a run. A folder holds the results of one identity only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) run: RunId,
    pub(crate) recipe_hash: String,
    pub(crate) seed: u64,
    pub(crate) model: String,
    pub(crate) weights_hash: String,
    /// Where the state is, without password.
    pub(crate) store: String,
    /// Hashes of the input files that were submitted; empty in a folder of an older build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) inputs: Vec<String>,
    /// Format of an export; empty in the folder of a run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) format: String,
}

/// The run that a process wants to use the folder for.
#[derive(Debug)]
pub(crate) struct RunClaim<'a> {
    /// None for the folder's run, or a new one named after the folder.
    pub(crate) run: Option<RunId>,
    pub(crate) recipe_hash: &'a str,
    pub(crate) seed: u64,
    pub(crate) model: &'a str,
    pub(crate) weights_hash: &'a str,
    pub(crate) store: Option<&'a str>,
    /// Hash of the input file; none if its rows may be added to those of other files.
    pub(crate) input: Option<String>,
    /// Format of an export.
    pub(crate) format: &'a str,
    /// Archive another run instead of failing.
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
    /// Creates the folder if needed, locks it, and checks that it may hold this run.
    pub(crate) fn open(dir: &Path, claim: &RunClaim<'_>) -> Result<Self> {
        let state = dir.join(STATE);
        fs::create_dir_all(dir).map_err(|e| at(dir, "cannot be created", &e))?;
        atomic::make_private_folder(&state).map_err(Failure::refused)?;
        let lock = lock(dir)?;
        let path = state.join("run.json");
        let mut known = read_identity(&path)?;
        if known.is_none() {
            refuse_foreign_files(dir)?;
        }
        if let Some(held) = &known
            && let Some(difference) = difference(dir, held, claim)
            && !claim.new_run
        {
            return Err(Failure::refused(format!("{} holds run {} with {difference}", dir.display(), held.run,)));
        }
        if claim.new_run && known.is_some() {
            archive_previous(dir)?;
            known = None;
        }
        let resumed = known.is_some();
        let identity = match known {
            Some(identity) => identity,
            None => {
                let identity = new_identity(dir, claim)?;
                write_identity(&path, &identity)?;
                identity
            }
        };
        Ok(Self { dir: dir.to_owned(), identity, resumed, _lock: lock })
    }

    /// True if `longhand run` or `longhand export` made the folder on this machine.
    pub(crate) fn is_run(dir: &Path) -> bool {
        dir.join(STATE).join("run.json").is_file()
    }

    /// Opens the folder of an existing run, whichever command made it.
    pub(crate) fn reopen(dir: &Path) -> Result<Self> {
        let none = || {
            Failure::refused(format!("{} holds no run; expected the output folder of `longhand run`", dir.display()))
        };
        if !Self::is_run(dir) {
            return Err(none());
        }
        let lock = lock(dir)?;
        let identity = read_identity(&dir.join(STATE).join("run.json"))?.ok_or_else(none)?;
        Ok(Self { dir: dir.to_owned(), identity, resumed: true, _lock: lock })
    }

    /// Remembers an input file, whose rows are being submitted.
    pub(crate) fn add_input(&mut self, hash: String) -> Result<()> {
        if self.identity.inputs.contains(&hash) {
            return Ok(());
        }
        self.identity.inputs.push(hash);
        write_identity(&self.dir.join(STATE).join("run.json"), &self.identity)
    }

    /// Path of the folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// URL of the store that holds the run: the folder's own, or the `given` one.
    pub(crate) fn store(&self, given: Option<&str>) -> Result<String> {
        let held = &self.identity.store;
        match given {
            _ if *held == location(None) => Ok(self.embedded_store()),
            Some(url) if *held == redact(url) => Ok(url.to_owned()),
            _ if !held.contains("://") => Err(Failure::refused(format!(
                "{} was exported from a {held}: export run {} from there",
                self.dir.display(),
                self.identity.run
            ))),
            _ => Err(Failure::refused(format!(
                "the state of {} is in {held}: add --store with the URL of that store",
                self.dir.display()
            ))),
        }
    }

    /// URL of the store in the folder.
    pub(crate) fn embedded_store(&self) -> String {
        format!("sqlite://{}", self.dir.join(STATE).join("store.sqlite").display())
    }

    /// The worker of the previous process of this folder. This process holds the lock, so that one is dead.
    pub(crate) fn previous_worker(&self) -> Result<Option<WorkerId>> {
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

    /// Saves the worker of this process, for the next process in case this one is killed.
    pub(crate) fn save_worker(&self, worker: &WorkerId) -> Result<()> {
        let path = self.dir.join(STATE).join("worker");
        atomic::replace(&path, worker.as_str().as_bytes()).map_err(Failure::refused)
    }
}

/// The operating system releases the lock with the process, however it ends.
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
            "another `longhand run` is using {}\nWait for it, stop it, or choose another output folder.",
            dir.display()
        ))),
        Err(TryLockError::Error(e)) => Err(match network_file_system(&path) {
            Some(network) => Failure::refused(format!(
                "{} cannot be locked: {e}\nThe folder is on {network}, which has to be mounted with locks (Lustre: -o flock). \
                 Or write to a local disk and copy the folder afterwards.",
                path.display()
            )),
            None => at(&path, "cannot be locked", &e),
        }),
    }
}

fn read_identity(path: &Path) -> Result<Option<Identity>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at(path, "cannot be read", &e)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Failure::refused(format!(
            "{} cannot be read by this version: {e}; choose another output folder",
            path.display()
        ))
    })
}

fn write_identity(path: &Path, identity: &Identity) -> Result<()> {
    let text = serde_json::to_vec_pretty(identity).map_err(Failure::refused)?;
    atomic::replace(path, &text).map_err(Failure::refused)
}

/// The first difference with what to do; none if the claim resumes the run of the folder.
fn difference(dir: &Path, held: &Identity, claim: &RunClaim<'_>) -> Option<String> {
    if claim.format != held.format && !held.format.is_empty() {
        return Some(format!(
            "its export in format {}, not {}.\nChoose another output folder, or delete this one.",
            held.format, claim.format
        ));
    }
    let archive = format!(
        "choose another output folder, or add --new-run to archive that run in {} and start a new one.",
        dir.join("previous-N").display()
    );
    if let Some(difference) = other_run(held, claim) {
        return Some(format!("{difference}\nUse the same value, {archive}"));
    }
    let other_input = !held.inputs.is_empty() && claim.input.as_ref().is_some_and(|hash| !held.inputs.contains(hash));
    other_input
        .then(|| format!("another input: the file is not the one it began with.\nAdd its rows with --add, {archive}"))
}

/// The first difference that makes it another run, as the end of a sentence.
fn other_run(held: &Identity, claim: &RunClaim<'_>) -> Option<String> {
    if held.recipe_hash != claim.recipe_hash {
        let (theirs, ours) = (&held.recipe_hash, claim.recipe_hash);
        Some(format!("another recipe: its hash is {theirs}, the hash of this recipe is {ours}."))
    } else if held.seed != claim.seed {
        Some(format!("another seed: {}, not {}.", held.seed, claim.seed))
    } else if held.weights_hash != claim.weights_hash {
        Some(format!(
            "another model: {} (weights {}), not {} (weights {}).",
            held.model, held.weights_hash, claim.model, claim.weights_hash
        ))
    } else if claim.run.as_ref().is_some_and(|run| *run != held.run) {
        Some("another name than --run-id.".to_owned())
    } else if held.store != location(claim.store) {
        Some(format!("another store: {}, not {}.", held.store, location(claim.store)))
    } else {
        None
    }
}

fn new_identity(dir: &Path, claim: &RunClaim<'_>) -> Result<Identity> {
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
        store: location(claim.store),
        inputs: Vec::new(),
        format: claim.format.to_owned(),
    })
}

/// The folder's name; with a random suffix if the store is outside the folder, since other folders may share it.
fn name_run(dir: &Path, shared: bool) -> Result<RunId> {
    let full = dir.canonicalize().map_err(|e| at(dir, "cannot be read", &e))?;
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // An id does not begin with a dot.
    let name = name.trim_start_matches('.');
    let mut name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).take(48).collect();
    if name.is_empty() {
        "run".clone_into(&mut name);
    }
    if shared {
        name = format!("{name}-{}", &LeaseId::mint().to_string()[..8]);
    }
    name.parse().map_err(|e| Failure::refused(format!("{e}; set the name with --run-id")))
}

fn location(store: Option<&str>) -> String {
    store.map_or_else(|| "in the output folder".to_owned(), redact)
}

/// Never overwrites a file that no run wrote: `-o .` in a project would replace its README.md.
fn refuse_foreign_files(dir: &Path) -> Result<()> {
    match OUTPUTS.iter().find(|name| dir.join(name).symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(name) => Err(Failure::refused(format!(
            "{} exists and was not written by a run: choose an empty or new output folder",
            dir.join(name).display()
        ))),
    }
}

/// Moves a run into `previous-N`. The identity goes last: after a crash in between, the same command completes the move.
fn archive_previous(dir: &Path) -> Result<()> {
    let archive = (1..).map(|n| dir.join(format!("previous-{n}"))).find(|path| path.symlink_metadata().is_err());
    let Some(archive) = archive else { return Err(Failure::refused("no free folder name for the previous run")) };
    let archive_state = archive.join(STATE);
    fs::create_dir_all(&archive).map_err(|e| at(&archive, "cannot be created", &e))?;
    atomic::make_private_folder(&archive_state).map_err(Failure::refused)?;
    let moved = |from: PathBuf, to: PathBuf| match fs::rename(&from, &to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(&from, "cannot be moved", &e)),
        Ok(()) | Err(_) => Ok(()),
    };
    for name in OUTPUTS {
        moved(dir.join(name), archive.join(name))?;
    }
    let state = dir.join(STATE);
    for entry in fs::read_dir(&state).map_err(|e| at(&state, "cannot be read", &e))? {
        let name = entry.map_err(|e| at(&state, "cannot be read", &e))?.file_name();
        if name != "lock" && name != "run.json" {
            moved(state.join(&name), archive_state.join(&name))?;
        }
    }
    moved(state.join("run.json"), archive_state.join("run.json"))
}

fn at(path: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::refused(format!("{} {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> RunClaim<'static> {
        RunClaim {
            run: None,
            recipe_hash: "r1",
            seed: 1,
            model: "m",
            weights_hash: "w1",
            store: None,
            input: None,
            format: "",
            new_run: false,
        }
    }

    #[test]
    fn the_same_claim_resumes_and_the_run_is_named_after_the_folder() {
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
    fn a_second_process_is_rejected_while_the_first_runs() {
        let temp = tempfile::tempdir().unwrap();
        let first = Folder::open(temp.path(), &claim()).unwrap();
        let error = Folder::open(temp.path(), &claim()).unwrap_err();
        assert!(error.message.contains("another `longhand run`"), "{error}");
        drop(first);
        assert!(Folder::open(temp.path(), &claim()).is_ok());
    }

    #[test]
    fn another_input_or_format_is_refused_unless_its_rows_are_added() {
        let temp = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(temp.path(), &claim()).unwrap();
        folder.add_input("one".into()).unwrap();
        drop(folder);
        let of = |input: &str| RunClaim { input: Some(input.into()), ..claim() };
        drop(Folder::open(temp.path(), &of("one")).unwrap());
        let refused = Folder::open(temp.path(), &of("two")).unwrap_err().message;
        assert!(refused.contains("another input") && refused.contains("--add"), "{refused}");
        let mut folder = Folder::open(temp.path(), &claim()).unwrap();
        folder.add_input("two".into()).unwrap();
        drop(folder);
        for known in ["one", "two"] {
            drop(Folder::open(temp.path(), &of(known)).unwrap());
        }

        let temp = tempfile::tempdir().unwrap();
        let export = |format| RunClaim { format, ..claim() };
        drop(Folder::open(temp.path(), &export("sharegpt")).unwrap());
        drop(Folder::open(temp.path(), &export("sharegpt")).unwrap());
        let refused = Folder::open(temp.path(), &export("alpaca")).unwrap_err().message;
        assert!(refused.contains("format sharegpt, not alpaca"), "{refused}");
    }

    #[test]
    fn another_recipe_seed_model_name_or_store_is_rejected_with_both_values() {
        let temp = tempfile::tempdir().unwrap();
        drop(Folder::open(temp.path(), &claim()).unwrap());
        for (other, wants) in [
            (RunClaim { recipe_hash: "r2", ..claim() }, ["r1", "r2"]),
            (RunClaim { seed: 2, ..claim() }, ["1", "2"]),
            (RunClaim { weights_hash: "w2", ..claim() }, ["w1", "w2"]),
            (RunClaim { run: Some("x".parse().unwrap()), ..claim() }, ["--run-id", "name"]),
            (RunClaim { store: Some("redis://u:secret@h/0"), ..claim() }, ["in the output folder", "redis://***@h/0"]),
        ] {
            let message = Folder::open(temp.path(), &other).unwrap_err().message;
            assert!(wants.iter().all(|want| message.contains(want)) && message.contains("--new-run"), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_new_run_archives_the_old_one_and_loses_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        drop(Folder::open(dir, &claim()).unwrap());
        fs::create_dir(dir.join("data")).unwrap();
        fs::write(dir.join("data/train.jsonl"), "{}").unwrap();
        fs::write(dir.join("README.md"), "card").unwrap();
        fs::write(dir.join(".longhand/store.sqlite"), "db").unwrap();
        fs::write(dir.join("notes.txt"), "the user's own").unwrap();
        let other = RunClaim { recipe_hash: "r2", new_run: true, ..claim() };
        let folder = Folder::open(dir, &other).unwrap();
        assert!(!folder.resumed);
        assert_eq!(folder.identity.recipe_hash, "r2");
        assert!(dir.join("notes.txt").exists() && !dir.join("data").exists());
        for kept in ["data/train.jsonl", "README.md", ".longhand/store.sqlite", ".longhand/run.json"] {
            assert!(dir.join("previous-1").join(kept).exists(), "{kept}");
        }
    }

    #[test]
    fn a_folder_with_files_that_no_run_wrote_is_rejected() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("README.md"), "a project").unwrap();
        let error = Folder::open(temp.path(), &claim()).unwrap_err();
        assert!(error.message.contains("README.md"), "{error}");
    }

    #[test]
    fn the_worker_of_the_previous_process_is_known() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path(), &claim()).unwrap();
        assert_eq!(folder.previous_worker().unwrap(), None);
        let worker: WorkerId = "host-1-abc".parse().unwrap();
        folder.save_worker(&worker).unwrap();
        assert_eq!(folder.previous_worker().unwrap(), Some(worker));
    }
}

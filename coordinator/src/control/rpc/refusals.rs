//! Runs that are passed over for a worker: their tasks are not known to its build, or their recipe not to this replica.
//!
//! It is learnt from the first document that is leased, which goes back with its checkpoint and without an error. A replica
//! keeps this until it ends: neither recipes nor builds change meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use longhand_proto::RunId;
use longhand_proto::task::TaskKind;

/// Why runs are passed over. The lock is held for one look-up.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Kinds of task that some worker did not support.
    tasks: BTreeMap<RunId, BTreeSet<TaskKind>>,
    /// Runs whose recipe this replica cannot read, and why.
    recipes: BTreeMap<RunId, String>,
}

impl Refusals {
    /// A document of this run had a task of this kind, and the worker that leased it does not support it.
    pub(super) fn task(&self, run: RunId, kind: TaskKind) {
        self.lock().tasks.entry(run).or_default().insert(kind);
    }

    /// The recipe of this run cannot be read here.
    pub(super) fn recipe(&self, run: RunId, problem: String) {
        self.lock().recipes.insert(run, problem);
    }

    /// The runs whose recipe cannot be read here, and why.
    pub(super) fn recipes(&self) -> BTreeMap<RunId, String> {
        self.lock().recipes.clone()
    }

    /// The runs that a worker is not given which supports these kinds of task.
    pub(super) fn of(&self, kinds: &[TaskKind]) -> Vec<RunId> {
        let known = self.lock();
        let lacks = |asked: &BTreeSet<TaskKind>| asked.iter().any(|kind| !kinds.contains(kind));
        let tasks = known.tasks.iter().filter(|(_, asked)| lacks(asked)).map(|(run, _)| run);
        tasks.chain(known.recipes.keys()).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_kept_from_those_that_do_not_know_its_tasks_or_its_recipe() {
        let (refusals, run): (_, RunId) = (Refusals::default(), "r".parse().unwrap());
        let old = [TaskKind::Plan, TaskKind::Section];
        assert!(refusals.of(&old).is_empty());
        refusals.task(run.clone(), TaskKind::Summary);
        assert_eq!(refusals.of(&old), std::slice::from_ref(&run));
        assert!(refusals.of(&TaskKind::ALL).is_empty());
        refusals.recipe(run.clone(), "line 1".into());
        assert_eq!(refusals.of(&TaskKind::ALL), std::slice::from_ref(&run));
        assert_eq!(refusals.recipes()[&run], "line 1");
    }
}

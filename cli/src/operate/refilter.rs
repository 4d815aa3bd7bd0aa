//! The corpus of a run that was judged anew with another recipe's filters, and what moved.

use longhand_command::exit::{Failure, Result};
use longhand_command::output::{grouped, table};
use longhand_coordinator::corpus::{Corpus, Options, Refiltered, RuleMoves, Stats};
use serde::Serialize;

use super::target::{Target, claim};
use crate::run::folder::Folder;

/// Writes the corpus as the new filters have it.
pub(crate) async fn write(judged: &Refiltered<'_>, target: &Target, options: &Options) -> Result<(Folder, Stats)> {
    let run = judged.run();
    // Locked to the end: one process at a time writes into a folder.
    let folder = claim(target.path(), options.format, &run.id, &run.recipe_hash, run.seed)?;
    let mut corpus = Corpus::open(folder.dir(), &run.id, judged).await.map_err(Failure::stopped)?;
    let stats = corpus.export_to(judged, folder.dir(), options).await.map_err(Failure::stopped)?;
    Ok((folder, stats))
}

/// What moved. Field names are those of `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Moves {
    documents: u64,
    accepted_before: u64,
    accepted_now: u64,
    rules: Vec<RuleMoves>,
}

impl Moves {
    /// What moved in a run.
    pub(crate) fn of(judged: &Refiltered<'_>) -> Self {
        let Refiltered { documents, accepted_before, accepted_now, .. } = *judged;
        Self { documents, accepted_before, accepted_now, rules: judged.rules.clone() }
    }

    /// One line a rule, and the totals.
    pub(crate) fn text(&self) -> String {
        let heads = ["rule", "threshold", "now", "rejected", "now", "newly accepted", "newly rejected"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        for moves in &self.rules {
            let thresholds = [moves.threshold_before, moves.threshold_now].map(threshold);
            let counts = [moves.rejected_before, moves.rejected_now, moves.newly_accepted, moves.newly_rejected];
            rows.push([vec![moves.rule.clone()], thresholds.to_vec(), counts.map(grouped).to_vec()].concat());
        }
        let sum = |of: fn(&RuleMoves) -> u64| grouped(self.rules.iter().map(of).sum());
        let [documents, before, now] = [self.documents, self.accepted_before, self.accepted_now].map(grouped);
        let rules = if self.rules.is_empty() { String::new() } else { format!("{}\n", table(&rows)) };
        format!(
            "{rules}{documents} documents judged, {before} accepted before, {now} now: {} newly accepted, {} newly rejected",
            sum(|rule| rule.newly_accepted),
            sum(|rule| rule.newly_rejected)
        )
    }
}

fn threshold(value: Option<f64>) -> String {
    value.map_or_else(|| "off".to_owned(), |value| value.to_string())
}

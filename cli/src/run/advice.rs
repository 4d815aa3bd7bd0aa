//! What to try where a run has accepted nothing.

use std::path::Path;

use longhand_command::output::grouped;
use longhand_coordinator::corpus::Stats;

/// None where a document was accepted, or nothing was written.
pub(super) fn text(stats: &Stats, dir: &Path) -> Option<String> {
    let documents = &stats.documents;
    if documents.accepted > 0 || documents.rejected + documents.failed == 0 {
        return None;
    }
    let dir = dir.display();
    let causes = stats.rejected.iter().map(|cause| (cause, "the rule"));
    let causes = causes.chain(stats.failed.iter().map(|cause| (cause, "the error")));
    let ((name, count), kind) = causes.max_by_key(|((_, count), _)| **count)?;
    let ended = grouped(documents.rejected + documents.failed);
    Some(format!(
        "no document was accepted; {kind} {name} dropped most, {} of {ended}. What to try:\n  \
         longhand preview INPUT --model MODEL   see one text being written, with what each rule says of it\n  \
         longhand report {dir}   what other thresholds would keep; `longhand filter {dir} --recipe FILE` applies them to \
         these texts\n  \
         --recipe examples/recipes/demo.toml    for models under 1 billion parameters\n  \
         --model FILE                           a larger model: small ones seldom keep to a plan and a length",
        grouped(*count)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(accepted: u64, rejected: &[(&str, u64)], failed: &[(&str, u64)]) -> Stats {
        let counts =
            |of: &[(&str, u64)]| serde_json::to_value(of.iter().copied().collect::<std::collections::BTreeMap<_, _>>());
        let sum = |of: &[(&str, u64)]| of.iter().map(|(_, count)| count).sum::<u64>();
        let number = 0;
        serde_json::from_value(serde_json::json!({
            "run": "r", "recipe_hash": "", "seed": 1,
            "documents": { "ready": 0, "leased": 0, "delayed": 0, "cancelled": 0, "accepted": accepted,
                           "rejected": sum(rejected), "failed": sum(failed) },
            "rejected": counts(rejected).unwrap(), "failed": counts(failed).unwrap(), "languages": {},
            "sections": number, "sections_accepted": number,
            "words": { "sum": 0, "mean": 0.0, "min": 0, "max": 0, "bins": [] }, "score_length": null,
            "tokens": { "prompt": 0, "cached": 0, "reusable": 0, "generated": 0, "wasted": 0 }, "prefix_reuse": null,
            "attempts": { "completed": 0, "error": 0, "lost": 0, "released": 0 }, "wall": null
        }))
        .unwrap()
    }

    #[test]
    fn the_cause_that_dropped_most_is_named_where_nothing_was_accepted() {
        let dir = Path::new("out");
        let said = text(&stats(0, &[("score_length", 1_000), ("too_short", 2)], &[("bad_plan", 8)]), dir).unwrap();
        assert!(said.contains("the rule score_length dropped most, 1,000 of 1,010"), "{said}");
        assert!(said.contains("longhand filter out --recipe"), "{said}");
        let said = text(&stats(0, &[("too_short", 2)], &[("bad_plan", 8)]), dir).unwrap();
        assert!(said.contains("the error bad_plan dropped most, 8 of 10"), "{said}");
        assert_eq!(text(&stats(1, &[("too_short", 2)], &[]), dir), None);
        assert_eq!(text(&stats(0, &[], &[]), dir), None);
    }
}

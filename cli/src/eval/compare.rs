//! Two evaluations compared prompt by prompt.

use std::collections::HashMap;
use std::path::Path;

use longhand_command::exit::{Failure, Result};
use longhand_command::output::table;

use super::score::{Case, Comparison, MethodReport, Report};

/// Differences this small are ties: they come from rounding.
const TIE: f64 = 1e-9;

/// What is compared: its name, and the value of a case, more being better; none where a case has none.
type Quantity = (&'static str, fn(&Case) -> Option<f64>);
const QUANTITIES: [Quantity; 5] = [
    ("S_l", |case| Some(case.score_length)),
    ("S_q", |case| case.score_quality),
    ("accepted", |case| Some(f64::from(u8::from(case.yields.accepted)))),
    ("fewer repeated 8-grams", |case| case.failed.is_empty().then_some(-case.yields.repeated)),
    ("fewer tokens per word", |case| {
        (case.written > 0).then(|| -(case.yields.generated as f64 / f64::from(case.written)))
    }),
];

/// The methods that a report in `folder` has, each with its cases.
///
/// # Errors
/// Refused: there is no report, or it was made from other prompts.
pub(super) fn read(folder: &Path) -> Result<Vec<MethodReport>> {
    let path = folder.join("report.json");
    let refused = |problem: String| Failure::refused(format!("{}: {problem}", path.display()));
    let text = std::fs::read(&path).map_err(|error| {
        refused(format!("{error}; --against takes the output folder of a finished `longhand eval`"))
    })?;
    #[derive(serde::Deserialize)]
    struct Stored {
        methods: Vec<MethodReport>,
    }
    let Stored { methods } = serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
    Ok(methods)
}

/// This report's methods against the same methods of another.
pub(super) fn compare(report: &Report, other: &[MethodReport]) -> Vec<Comparison> {
    let mut found = Vec::new();
    for method in &report.methods {
        let Some(before) = other.iter().find(|before| before.method == method.method) else { continue };
        let by_id: HashMap<&str, &Case> = before.cases.iter().map(|case| (case.id.as_str(), case)).collect();
        let pairs: Vec<(&Case, &Case)> =
            method.cases.iter().filter_map(|case| Some((case, *by_id.get(case.id.as_str())?))).collect();
        for (quantity, value) in QUANTITIES {
            let (mut wins, mut losses, mut ties) = (0, 0, 0);
            for (ours, theirs) in pairs.iter().filter_map(|(ours, theirs)| Some((value(ours)?, value(theirs)?))) {
                match ours - theirs {
                    difference if difference > TIE => wins += 1,
                    difference if difference < -TIE => losses += 1,
                    _ => ties += 1,
                }
            }
            if wins + losses + ties > 0 {
                let (method, p) = (method.method.clone(), sign_test(wins, losses));
                found.push(Comparison { method, quantity, wins, losses, ties, p });
            }
        }
    }
    found
}

/// For people.
pub(super) fn text(comparisons: &[Comparison], against: &Path) -> String {
    let mut rows = vec![["", "better", "worse", "equal", "p"].map(str::to_owned).to_vec()];
    let mut method = "";
    for it in comparisons {
        if it.method != method {
            method = &it.method;
            rows.push(vec![method.to_owned()]);
        }
        let mut row = vec![format!("  {}", it.quantity)];
        row.extend([it.wins, it.losses, it.ties].map(|number| number.to_string()));
        row.push(format!("{:.3}", it.p));
        rows.push(row);
    }
    format!("prompt by prompt against {}\n{}", against.display(), table(&rows))
}

/// Two-sided p of `wins` and `losses` under a fair coin; ties say nothing.
fn sign_test(wins: u64, losses: u64) -> f64 {
    let n = wins + losses;
    // The chance of exactly k of n, from that of k - 1; in logarithms, as 2^-n underflows.
    let mut log = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = log.exp();
    for k in 1..=wins.min(losses) {
        log += ((n - k + 1) as f64 / k as f64).ln();
        tail += log.exp();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::super::score::{Grouping, tests};
    use super::*;

    #[test]
    fn the_sign_test_has_the_values_of_the_binomial_distribution() {
        for (wins, losses, p) in [(0, 0, 1.0), (5, 0, 0.0625), (0, 8, 0.0078125), (9, 1, 0.021484375), (4, 4, 1.0)] {
            assert!((sign_test(wins, losses) - p).abs() < 1e-12, "{wins} {losses}: {}", sign_test(wins, losses));
        }
        assert!(sign_test(2_000, 1_500) < 1e-15, "no underflow to nonsense");
    }

    #[test]
    fn a_report_is_better_than_one_that_missed_its_lengths() {
        let report = tests::report(Grouping::Bins);
        let mut other = report.methods.clone();
        other[1].cases[0].score_length = 10.0;
        other[1].cases.remove(2);
        let found = compare(&report, &other);
        let of = |method: &str, quantity: &str| {
            let it = found.iter().find(|it| it.method == method && it.quantity == quantity).unwrap();
            (it.wins, it.losses, it.ties)
        };
        assert_eq!(of("agentwrite", "S_l"), (1, 0, 1), "the prompt that the other lacks is left out");
        assert_eq!(of("direct", "S_l"), (0, 0, 3));
        assert!(text(&found, Path::new("before")).contains("agentwrite"));
    }
}

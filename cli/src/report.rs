//! `longhand report`: what each filter says of a corpus, as a page to look at.

use std::path::PathBuf;

use clap::Args;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::report::{self, Summary};
use serde_json::json;

use crate::exit::{Code, Failure, Result};
use crate::folder;
use crate::output::{self, grouped};

const HELP: &str = "\
Examples:
  longhand report corpus
  longhand report corpus --recipe stricter.toml --json

The folder is one of `longhand run` or `longhand export`; its documents, accepted and rejected, are measured by every rule.
The page shows how many documents each rule would drop alone and in order, how its values lie, what other thresholds would
keep, and lengths asked for against lengths written. Thresholds can be tried out on it. It is one file and needs no network.
A coordinator's run is exported first: `longhand export RUN -o DIR`.

Exit codes:
  0    written
  2    nothing was written: the folder holds no whole records, or the recipe cannot be read";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ReportArgs {
    /// Folder of `longhand run` or `longhand export`
    dir: PathBuf,

    /// Page to write [default: report.html in the folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Recipe whose filters are asked [default: the one that the corpus was made with]
    #[arg(long, value_name = "FILE", env = "LONGHAND_RECIPE")]
    recipe: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measures, writes the page, and prints what each rule drops.
pub(crate) fn report(args: &ReportArgs) -> Result<Code> {
    let recipe = args.recipe.as_ref().map(Recipe::load).transpose().map_err(Failure::refused)?;
    let report = report::read(&args.dir, recipe).map_err(Failure::refused)?;
    let page = args.output.clone().unwrap_or_else(|| args.dir.join("report.html"));
    folder::write_atomically(&page, report::html(&report).as_bytes())
        .map_err(|error| Failure::refused(format!("{}: {error}; choose another place with -o", page.display())))?;
    let summary = report.summary();
    if args.json {
        output::json(&json!({ "page": page, "summary": summary }))?;
    } else {
        output::line(&format!("{}\nreport  {}", text(&summary), page.display()))?;
    }
    Ok(Code::Ok)
}

fn text(summary: &Summary) -> String {
    let mut rows = vec![["rule", "threshold", "drops alone", "in order", "median"].map(str::to_owned).to_vec()];
    let number = |value: f64| format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
    for rule in &summary.rules {
        let threshold = rule.threshold.map_or_else(|| "off".to_owned(), |it| format!("{} {}", rule.bound, number(it)));
        let median = rule.distribution.as_ref().map_or_else(|| "-".to_owned(), |values| number(values.median));
        let counts = [rule.alone, rule.in_order].map(|count| grouped(count as u64));
        rows.push([vec![rule.rule.to_owned(), threshold], counts.to_vec(), vec![median]].concat());
    }
    let (documents, kept) = (grouped(summary.documents as u64), grouped(summary.kept as u64));
    format!("{}\n{documents} documents measured, {kept} kept", output::table(&rows))
}

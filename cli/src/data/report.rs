//! `longhand report`: how each filter judges a corpus, as a page.

use std::path::PathBuf;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped, plural};
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::files::atomic;
use longhand_coordinator::report::{self, Summary};
use serde_json::json;

const HELP: &str = "\
Examples:
  longhand report corpus
  longhand report corpus --recipe stricter.toml --json

The folder is the output of `longhand run` or `longhand export`; every rule is applied to its documents, accepted and \
rejected. The page shows how many documents each rule would reject alone and in order, the distribution of its values, what \
other thresholds would keep, and requested against written lengths. Thresholds can be tried out on the page. It is one file \
and needs no network. Export a coordinator's run first: `longhand export RUN -o DIR`.

Exit codes:
  0    written
  2    nothing was written: the folder has no complete records, or the recipe
       cannot be read";

/// The corpus, and the page to write.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ReportArgs {
    /// Output folder of `longhand run` or `longhand export`
    dir: PathBuf,

    /// Page to write [default: report.html in the folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Recipe with the filters to apply [default: the recipe of the corpus]
    #[arg(long, value_name = "FILE", env = "LONGHAND_RECIPE")]
    recipe: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Applies the filters, writes the page, and prints what each rule rejects.
pub(crate) fn report(args: &ReportArgs) -> Result<Code> {
    let recipe = args.recipe.as_ref().map(Recipe::load).transpose().map_err(Failure::refused)?;
    let report = report::read(&args.dir, recipe).map_err(Failure::refused)?;
    let page = args.output.clone().unwrap_or_else(|| args.dir.join("report.html"));
    atomic::replace(&page, report::html(&report).as_bytes())
        .map_err(|error| Failure::refused(format!("{error}; choose another file with -o")))?;
    let summary = report.summary();
    if args.json {
        output::json(&json!({ "page": page, "summary": summary }))?;
    } else {
        output::line(&format!("{}\nreport  {}", text(&summary), page.display()))?;
    }
    Ok(Code::Ok)
}

fn text(summary: &Summary) -> String {
    let mut rows = vec![["rule", "threshold", "rejects alone", "in order", "median"].map(str::to_owned).to_vec()];
    let number = |value: f64| format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
    for rule in &summary.rules {
        let threshold = rule.threshold.map_or_else(|| "off".to_owned(), |it| format!("{} {}", rule.bound, number(it)));
        let median = rule.distribution.as_ref().map_or_else(|| "-".to_owned(), |values| number(values.median));
        let counts = [rule.alone, rule.in_order].map(|count| grouped(count as u64));
        rows.push([vec![rule.rule.to_owned(), threshold], counts.to_vec(), vec![median]].concat());
    }
    let (documents, kept) = (plural(summary.documents as u64, "document"), grouped(summary.kept as u64));
    format!("{}\n{documents}, {kept} kept", output::table(&rows))
}

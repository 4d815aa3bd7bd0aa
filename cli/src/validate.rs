//! `longhand validate`: what a file of instructions holds, and which of its rows are bad.

use longhand_coordinator::dataset::input::{self, LENGTH_BINS, Summary};

use crate::args::ValidateArgs;
use crate::exit::{Code, Failure, Result};
use crate::output;

/// Reads the whole file; a bad row is listed, it does not end the reading.
pub(crate) fn validate(args: &ValidateArgs) -> Result<Code> {
    let summary = instruction::validate(&args.input).map_err(Failure::refused)?;
    if args.json {
        output::json(&summary)?;
    } else {
        output::line(&text(&summary))?;
    }
    Ok(if summary.bad == 0 { Code::Ok } else { Code::Flawed })
}

fn text(summary: &Summary) -> String {
    let mut text = output::bad_rows(&summary.bad_rows, summary.bad);
    let count = |name: &str, number: u64| vec![name.to_owned(), output::grouped(number)];
    let mut rows = vec![
        count("good rows", summary.rows),
        count("bad rows", summary.bad),
        count("repeated rows (left out)", summary.repeated),
        count("English", summary.english),
        count("Chinese", summary.chinese),
    ];
    for (bin, number) in LENGTH_BINS.iter().zip(summary.lengths) {
        rows.push(count(&format!("length asked for in {bin}"), number));
    }
    rows.push(count("no length asked for", summary.no_length));
    text.push_str(&output::table(&rows));
    text.trim_end().to_owned()
}

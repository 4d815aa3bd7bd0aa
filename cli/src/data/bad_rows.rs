//! The list of bad rows that `validate` and `import` print.

use longhand_command::output::plural;
use longhand_coordinator::domain::instruction::BadRow;

/// The listed bad rows, one per line, the number of those not listed, and a blank line; empty if there are none.
pub(super) fn text(listed: &[BadRow], all: u64) -> String {
    let mut text: String = listed.iter().map(|bad| format!("{bad}\n")).collect();
    let unlisted = all - listed.len() as u64;
    if unlisted > 0 {
        text.push_str(&format!("and {}\n", plural(unlisted, "more bad row")));
    }
    if all > 0 {
        text.push('\n');
    }
    text
}

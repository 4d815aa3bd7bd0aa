//! `longhand model families`: the table of docs/models.md, from the engine's own table.

use longhand_worker::model::{FamilyInfo, families};

/// A table in Markdown, without a line break at its end.
pub(super) fn table() -> String {
    let code = |name: &&str| format!("`{name}`");
    let row = |family: FamilyInfo| {
        let classes: Vec<_> = family.classes.iter().map(code).collect();
        format!("| {} | {} | {} | `{}` |", family.title, family.models, classes.join(", "), family.architecture)
    };
    let head = "| family | models | `architectures` in `config.json` | `general.architecture` in GGUF |\n| --- | --- | --- | --- |";
    std::iter::once(head.to_owned()).chain(families().map(row)).collect::<Vec<_>>().join("\n")
}

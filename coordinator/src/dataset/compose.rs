//! Instructions from a table of seeds: form, subject, reader, tone and length, drawn and put into words.
//!
//! Without a model the words are those of sentence patterns. A model is shown each drawn row and words it anew, under gates;
//! where it does not pass them, the pattern's sentence stays.

mod draw;
mod hash;
mod lengths;
mod options;
mod pattern;
mod seeds;
#[cfg(test)]
mod tests;
mod wording;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::dataset::input::{LENGTH_BINS, Output, Row, Text, length_bin, read};
use crate::domain::language::{self, Language};

pub use lengths::Lengths;
pub use options::{ComposeError, Options};
pub use seeds::{BUILT_IN, SeedError, Seeds};
pub use wording::{Gate, WordingModel};

use draw::Drawn;
use wording::Wording;

/// What was composed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows of the file.
    pub rows: usize,
    /// Rows in English.
    pub english: usize,
    /// Rows in Chinese.
    pub chinese: usize,
    /// Different forms.
    pub forms: usize,
    /// Different subjects.
    pub subjects: usize,
    /// Rows by the length that they ask for, in the bins of [`LENGTH_BINS`].
    pub lengths: [usize; LENGTH_BINS.len()],
    /// The file held this draw already, and was left alone.
    pub unchanged: bool,
    /// What came of the model's wordings; none if no model was used, or none was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worded: Option<WordingCounts>,
}

/// What came of a model's wordings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WordingCounts {
    /// Rows in the model's words.
    pub model: usize,
    /// Rows in the words of a pattern, since the model passed the gates at no try.
    pub pattern: usize,
    /// Tries that each gate turned away.
    pub refused: Vec<(&'static str, usize)>,
}

/// Draws the rows, has them worded where a model is given, and writes them to `out`. A file that holds the same draw is left
/// alone.
///
/// # Errors
/// The seeds have too little for so many rows, the file holds something else, it cannot be written, or the model's engine failed.
pub fn compose(out: &Path, options: &Options, model: Option<WordingModel<'_>>) -> Result<Report, ComposeError> {
    let drawn = drawn(options)?;
    let ids: Vec<String> = drawn.iter().map(|row| id(row, options.seed, model.as_ref())).collect();
    let mut report = summary(&drawn);
    if holds(out, &ids)? {
        return Ok(Report { unchanged: true, ..report });
    }
    let mut file = Output::create(out)?;
    let wordings = match model {
        None => vec![Wording::Pattern; drawn.len()],
        Some(model) => {
            let (wordings, refused) = wording::word(&drawn, options.seed, model)?;
            let by_model = wordings.iter().filter(|wording| matches!(wording, Wording::Model(_))).count();
            report.worded = Some(WordingCounts { model: by_model, pattern: wordings.len() - by_model, refused });
            wordings
        }
    };
    for ((row, id), wording) in drawn.iter().zip(ids).zip(wordings) {
        file.add(&as_row(row, id, wording, options.seed))?;
    }
    file.finish()?;
    Ok(report)
}

/// The rows of all languages, in turn.
fn drawn(options: &Options) -> Result<Vec<Drawn<'_>>, ComposeError> {
    let languages = options.seeds.len();
    let mut of_language = Vec::new();
    for (at, seeds) in options.seeds.iter().enumerate() {
        let count = options.count / languages + usize::from(at < options.count % languages);
        let seed = hash::number(&[&options.seed.to_le_bytes(), language::name(seeds.language).as_bytes()]);
        of_language.push(draw::draw(seeds, count, &options.lengths, seed)?.into_iter());
    }
    Ok((0..options.count).filter_map(|row| of_language[row % languages].next()).collect())
}

/// Names a row by what it says, how it was drawn, and who words it: another draw has no row of the same name.
fn id(row: &Drawn<'_>, seed: u64, model: Option<&WordingModel<'_>>) -> String {
    let (name, weights) = model.map_or(("", ""), |it| (&it.model.name, &it.model.weights_hash));
    let parts =
        [row.prompt.as_bytes(), &seed.to_le_bytes(), row.seeds.hash.as_bytes(), name.as_bytes(), weights.as_bytes()];
    hash::of(&parts).to_hex()[..32].to_owned()
}

/// True if the file holds the rows of these ids; an error if it holds anything else.
fn holds(path: &Path, ids: &[String]) -> Result<bool, ComposeError> {
    let exists = path.try_exists().map_err(|source| ComposeError::Look { path: path.to_owned(), source })?;
    if !exists {
        return Ok(false);
    }
    let mut ids = ids.iter();
    let same = read(path).is_ok_and(|mut rows| rows.all(|row| row.is_ok_and(|row| row.id.as_ref() == ids.next())));
    if same && ids.next().is_none() { Ok(true) } else { Err(ComposeError::Exists { path: path.to_owned() }) }
}

fn as_row(row: &Drawn<'_>, id: String, wording: Wording, seed: u64) -> Row {
    let mut metadata = Map::new();
    let mut say = |key: &str, value: Value| {
        metadata.insert(key.to_owned(), value);
    };
    say("form", row.form.name.clone().into());
    say("subject", row.subject.name.clone().into());
    say("field", row.subject.field.clone().into());
    if let Some(reader) = row.reader {
        say("reader", reader.into());
    }
    if let Some(tone) = row.tone {
        say("tone", tone.into());
    }
    let by = |model| if model { "model" } else { "pattern" };
    say("worded", by(matches!(wording, Wording::Model(_))).into());
    let prompt = match wording {
        Wording::Model(text) => text,
        Wording::Pattern => row.prompt.clone(),
        Wording::Refused(gate) => {
            say("refused", gate.name().into());
            row.prompt.clone()
        }
    };
    say("seed", json!(seed));
    say("seeds", row.seeds.hash.clone().into());
    Row {
        id: Some(id),
        text: Text::Prompt(prompt),
        language: Some(row.seeds.language),
        length: Some(row.words),
        context: Vec::new(),
        metadata,
    }
}

fn summary(rows: &[Drawn<'_>]) -> Report {
    let of = |language| rows.iter().filter(|row| row.seeds.language == language).count();
    let forms: BTreeSet<(&str, &str)> = rows.iter().map(|row| (&*row.seeds.hash, &*row.form.name)).collect();
    let subjects: BTreeSet<(&str, &str)> = rows.iter().map(|row| (&*row.seeds.hash, &*row.subject.name)).collect();
    let mut lengths = [0; LENGTH_BINS.len()];
    for row in rows {
        lengths[length_bin(row.words)] += 1;
    }
    Report {
        rows: rows.len(),
        english: of(Language::En),
        chinese: of(Language::Zh),
        forms: forms.len(),
        subjects: subjects.len(),
        lengths,
        unchanged: false,
        worded: None,
    }
}

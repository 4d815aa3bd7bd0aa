//! The judge: a model's opinion of a finished text in six dimensions, and the score S_q that is made of several of them.

use std::fmt;

use longhand_proto::WorkerId;
use longhand_proto::task::Usage;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a text is judged by, in the order in which the judge is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scores<T = u8> {
    /// To the instruction.
    pub relevance: T,
    /// Of facts.
    pub accuracy: T,
    /// Of the whole.
    pub coherence: T,
    /// Of the language.
    pub clarity: T,
    /// Of the content.
    pub breadth_and_depth: T,
    /// For the reader.
    pub reading_experience: T,
}

/// The dimensions under the names that a judge is asked for.
pub const DIMENSIONS: [&str; 6] =
    ["Relevance", "Accuracy", "Coherence", "Clarity", "Breadth and Depth", "Reading Experience"];

/// The worst and the best rating.
const WORST: u8 = 1;
const BEST: u8 = 5;

impl<T: Copy> Scores<T> {
    /// In the order of [`DIMENSIONS`].
    pub fn all(&self) -> [T; 6] {
        let Self { relevance, accuracy, coherence, clarity, breadth_and_depth, reading_experience } = *self;
        [relevance, accuracy, coherence, clarity, breadth_and_depth, reading_experience]
    }

    fn of([relevance, accuracy, coherence, clarity, breadth_and_depth, reading_experience]: [T; 6]) -> Self {
        Self { relevance, accuracy, coherence, clarity, breadth_and_depth, reading_experience }
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, rating)) in DIMENSIONS.iter().zip(self.all()).enumerate() {
            write!(f, "{}{name} {rating}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// One answer of the judge, or the want of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// None if no answer could be read.
    pub scores: Option<Scores>,
    /// Why none could be read; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
    /// Number of the try: 1 plus the errors before it.
    pub attempt: u32,
    /// None if no worker answered.
    pub worker: Option<WorkerId>,
    /// Name of the model that answered; empty if none did.
    pub model: String,
    /// Hash of its weights; empty if none answered.
    pub weights_hash: String,
    /// Seed of the task.
    pub seed: u64,
    /// Tokens of the attempt.
    pub usage: Usage,
}

/// An answer that holds no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    #[error("the answer holds no JSON object: {0:?}")]
    NoObject(String),
    #[error("the answer has no {dimension:?}")]
    Missing { dimension: &'static str },
    #[error("{dimension:?} is {rating}; expected a whole number from {WORST} to {BEST}")]
    Rating { dimension: &'static str, rating: String },
}

/// JSON schema of a verdict.
pub fn schema() -> String {
    let ratings: Vec<u8> = (WORST..=BEST).collect();
    let properties: serde_json::Map<_, _> =
        DIMENSIONS.iter().map(|name| ((*name).to_owned(), json!({ "type": "integer", "enum": ratings }))).collect();
    json!({ "type": "object", "properties": properties, "required": DIMENSIONS, "additionalProperties": false })
        .to_string()
}

/// Reads a verdict. A model without a grammar may put words around it; all six ratings must be there.
pub fn parse(answer: &str) -> Result<Scores, VerdictError> {
    /// A bad answer is quoted up to here.
    const QUOTED: usize = 80;
    let objects = answer.match_indices('{').filter_map(|(at, _)| {
        let mut values = serde_json::Deserializer::from_str(&answer[at..]).into_iter::<serde_json::Map<_, _>>();
        values.next()?.ok()
    });
    let Some(object) = objects.into_iter().next() else {
        return Err(VerdictError::NoObject(answer.chars().take(QUOTED).collect()));
    };
    let mut ratings = [0; 6];
    for (rating, dimension) in ratings.iter_mut().zip(DIMENSIONS) {
        let value: &serde_json::Value = object.get(dimension).ok_or(VerdictError::Missing { dimension })?;
        *rating = value
            .as_u64()
            .and_then(|rating| u8::try_from(rating).ok())
            .filter(|rating| (WORST..=BEST).contains(rating))
            .ok_or_else(|| VerdictError::Rating { dimension, rating: value.to_string() })?;
    }
    Ok(Scores::of(ratings))
}

/// Mean rating of each dimension over the votes that could be read; none if none could.
pub fn means(votes: &[Vote]) -> Option<Scores<f64>> {
    let read: Vec<[u8; 6]> = votes.iter().filter_map(|vote| vote.scores.as_ref().map(Scores::all)).collect();
    if read.is_empty() {
        return None;
    }
    let mean =
        |dimension: usize| read.iter().map(|ratings| f64::from(ratings[dimension])).sum::<f64>() / read.len() as f64;
    Some(Scores::of(std::array::from_fn(mean)))
}

/// Quality score S_q of LongBench-Write, 0 to 100: the mean over the dimensions of (mean rating - 1) * 25.
pub fn score_quality(votes: &[Vote]) -> Option<f64> {
    let means = means(votes)?.all();
    Some(means.iter().map(|mean| (mean - 1.0) * 25.0).sum::<f64>() / means.len() as f64)
}

/// Votes that could not be read.
pub fn unread(votes: &[Vote]) -> usize {
    votes.iter().filter(|vote| vote.scores.is_none()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(scores: Option<[u8; 6]>) -> Vote {
        Vote {
            scores: scores.map(Scores::of),
            problem: String::new(),
            attempt: 1,
            worker: None,
            model: "judge".into(),
            weights_hash: String::new(),
            seed: 1,
            usage: Usage::default(),
        }
    }

    fn answer(ratings: [u8; 6]) -> String {
        let ratings = DIMENSIONS.iter().zip(ratings).map(|(name, rating)| format!("\"{name}\": {rating}"));
        format!("{{{}}}", ratings.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn the_score_is_the_published_formula() {
        let score = |votes: &[Option<[u8; 6]>]| score_quality(&votes.iter().copied().map(vote).collect::<Vec<_>>());
        assert_eq!(score(&[Some([5; 6])]), Some(100.0));
        assert_eq!(score(&[Some([1; 6])]), Some(0.0));
        assert_eq!(score(&[Some([3, 4, 5, 3, 4, 5])]), Some(75.0));
        assert_eq!(score(&[Some([5; 6]), Some([2; 6])]), Some(62.5));
        assert_eq!(score(&[Some([5; 6]), None]), Some(100.0), "a vote that could not be read is no rating");
        assert_eq!(score(&[None, None]), None);
        assert_eq!(score(&[]), None);
    }

    #[test]
    fn a_verdict_is_read_with_and_without_words_around_it() {
        let want = Scores::of([1, 2, 3, 4, 5, 1]);
        let plain = answer(want.all());
        for text in [plain.clone(), format!("Here it is {{so}}:\n```json\n{plain}\n```\nDone."), format!(" {plain}{{")]
        {
            assert_eq!(parse(&text), Ok(want), "{text}");
        }
        assert_eq!(
            want.to_string(),
            "Relevance 1, Accuracy 2, Coherence 3, Clarity 4, Breadth and Depth 5, Reading Experience 1"
        );
    }

    #[test]
    fn what_is_no_verdict_says_why() {
        let says = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(says("A fine text, 5 of 5."), "the answer holds no JSON object: \"A fine text, 5 of 5.\"");
        assert_eq!(says(&answer([5; 6])[..14]), r#"the answer holds no JSON object: "{\"Relevance\": ""#, "cut short");
        assert_eq!(says("{\"Relevance\": 5}"), "the answer has no \"Accuracy\"");
        for rating in ["0", "6", "4.5", "-1", "\"5\"", "null", "4294967300"] {
            let text = answer([5; 6]).replace("\"Clarity\": 5", &format!("\"Clarity\": {rating}"));
            assert_eq!(says(&text), format!("\"Clarity\" is {rating}; expected a whole number from 1 to 5"));
        }
    }

    #[test]
    fn the_schema_asks_for_what_is_read() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        assert_eq!(schema["required"], json!(DIMENSIONS));
        assert_eq!(schema["properties"]["Breadth and Depth"]["enum"], json!([1, 2, 3, 4, 5]));
    }
}

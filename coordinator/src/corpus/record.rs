//! One row of the corpus.

use longhand_proto::task::{FinishReason, Message, Usage};
use longhand_proto::{DocumentId, RunId, WorkerId, words};
use serde::{Deserialize, Serialize};

use crate::domain::document::{Document, Progress, Section, Summary, Verdict};
use crate::domain::judge::{self, Scores, Vote};
use crate::domain::language::Language;
use crate::domain::plan::Step;
use crate::domain::recipe::Recipe;
use crate::store::Run;
use crate::text::filter::score_length;

/// An accepted document as a trainer reads it, with all that is known of how it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub id: DocumentId,
    /// The conversation; its last turn is the document.
    pub messages: Vec<Message>,
    pub instruction_id: Option<String>,
    pub candidate: u32,
    pub language: Language,
    pub plan: Vec<Step>,
    pub sections: Vec<SectionRecord>,
    /// Words that the instruction asks for.
    pub length: Option<u32>,
    /// Words of the document.
    pub response_length: u32,
    /// S_l of the two, 0 to 100.
    pub score_length: Option<f64>,
    /// S_q of the votes, 0 to 100.
    pub score_quality: Option<f64>,
    /// What the judge said; none where it was not asked.
    pub judge: Option<Judged>,
    /// What stood in prompts for the older part of a long text.
    #[serde(default)]
    pub summaries: Vec<SummaryRecord>,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    pub provenance: Provenance,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionRecord {
    pub text: String,
    pub target_words: u32,
    pub words: u32,
    pub finish_reason: FinishReason,
    pub attempt: u32,
    pub worker: WorkerId,
    pub tokens: Usage,
    /// A 64-bit number in decimal digits: most readers of JSON lose the last ones of a large number.
    pub seed: String,
    pub trace_id: String,
    /// Ids of the context texts that its prompt held.
    #[serde(default)]
    pub context: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryRecord {
    pub text: String,
    /// Number of the first sections that it covers.
    pub sections: u32,
    pub worker: WorkerId,
    pub seed: String,
}

/// The judge's votes on a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Mean marks, 1 to 5; none if no vote could be read.
    pub scores: Option<Scores<f64>>,
    /// Votes that could not be read.
    pub unread: u32,
    pub votes: Vec<VoteRecord>,
}

/// One vote: six marks, or the problem, and who gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteRecord {
    pub scores: Option<Scores>,
    pub problem: String,
    pub attempt: u32,
    pub worker: Option<WorkerId>,
    pub model: String,
    pub weights_hash: String,
    pub seed: String,
}

/// Where a text comes from. Hashes are hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    pub run: RunId,
    pub model: String,
    pub weights_hash: String,
    pub tokenizer_hash: String,
    pub template_hash: String,
    pub recipe_hash: String,
    pub engine: String,
    pub device: String,
    pub licence: String,
    /// The document's seed, decimal digits.
    pub seed: String,
    /// Version of the coordinator.
    pub longhand: String,
}

impl Record {
    /// None unless the document is finished and accepted.
    pub fn of(document: &Document, run: &Run, recipe: &Recipe) -> Option<Self> {
        let Progress::Finished { plan, sections, text, verdict: Verdict::Accepted, votes } = &document.progress else {
            return None;
        };
        let instruction = &document.instruction;
        let mut messages = instruction.messages.clone();
        messages.push(Message { role: "assistant".into(), content: text.clone() });
        let response_length = count(text);
        let model = document.model.clone().unwrap_or_default();
        Some(Self {
            id: document.id,
            messages,
            instruction_id: instruction.id.clone(),
            candidate: document.candidate,
            language: instruction.language,
            plan: plan.steps.clone(),
            sections: sections.iter().map(SectionRecord::of).collect(),
            length: instruction.required_words,
            response_length,
            score_length: instruction.required_words.map(|required| score_length(required, response_length)),
            score_quality: judge::score_quality(votes),
            judge: Judged::of(votes),
            summaries: document.summaries.iter().map(SummaryRecord::of).collect(),
            metadata: instruction.metadata.clone(),
            provenance: Provenance {
                run: run.id.clone(),
                model: model.name,
                weights_hash: model.weights_hash,
                tokenizer_hash: model.tokenizer_hash,
                template_hash: recipe.template_hash(),
                recipe_hash: run.recipe_hash.clone(),
                engine: model.engine,
                device: model.device,
                licence: model.licence,
                seed: document.seed.to_string(),
                longhand: longhand_proto::build().into(),
            },
        })
    }
}

impl SectionRecord {
    /// A section as it stands in a row.
    pub fn of(section: &Section) -> Self {
        Self {
            text: section.text.clone(),
            target_words: section.target_words,
            words: section.words,
            finish_reason: section.finish_reason,
            attempt: section.attempt,
            worker: section.worker.clone(),
            tokens: section.usage,
            seed: section.seed.to_string(),
            trace_id: section.trace_id.clone(),
            context: section.context.clone(),
        }
    }
}

impl SummaryRecord {
    fn of(summary: &Summary) -> Self {
        let Summary { text, sections, worker, usage: _, seed } = summary;
        Self { text: text.clone(), sections: *sections, worker: worker.clone(), seed: seed.to_string() }
    }
}

impl Judged {
    /// None without votes.
    pub fn of(votes: &[Vote]) -> Option<Self> {
        (!votes.is_empty()).then(|| Self {
            scores: judge::means(votes),
            unread: judge::unread(votes) as u32,
            votes: votes.iter().map(VoteRecord::of).collect(),
        })
    }
}

impl VoteRecord {
    fn of(vote: &Vote) -> Self {
        let Vote { scores, problem, attempt, worker, model, weights_hash, seed, usage: _ } = vote.clone();
        Self { scores, problem, attempt, worker, model, weights_hash, seed: seed.to_string() }
    }
}

/// Words of a text; more than four milliards of them do not fit into a document.
pub(super) fn count(text: &str) -> u32 {
    u32::try_from(words::count(text)).unwrap_or(u32::MAX)
}

//! One row of the corpus. Field names are those of the data files.

use longhand_proto::task::{FinishReason, Message, RecommendedSampling, Timings, Usage};
use longhand_proto::{DocumentId, RunId, WorkerId, words};
use serde::{Deserialize, Serialize};

use crate::domain::document::{Document, Progress, Rejection, Section, Summary};
use crate::domain::judge::{self, Scores, Vote};
use crate::domain::language::Language;
use crate::domain::plan::Step;
use crate::domain::recipe::Recipe;
use crate::store::Run;
use crate::text::filter::score_length;

/// A finished document as a trainer reads it, with its provenance.
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
    /// Words that the instruction requests.
    pub length: Option<u32>,
    /// Words of the document.
    pub response_length: u32,
    /// S_l of the two, 0 to 100.
    pub score_length: Option<f64>,
    /// S_q of the votes, 0 to 100.
    pub score_quality: Option<f64>,
    /// Votes of the judge; none if there was no judge.
    pub judge: Option<JudgeRecord>,
    /// Summaries that replaced the older part of a long text in prompts.
    #[serde(default)]
    pub summaries: Vec<SummaryRecord>,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    pub provenance: Provenance,
}

/// A section of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SectionRecord {
    pub text: String,
    pub target_words: u32,
    /// Words that its prompt asked for; 0 in records of the first version.
    #[serde(default)]
    pub asked_words: u32,
    pub words: u32,
    pub finish_reason: FinishReason,
    pub attempt: u32,
    pub worker: WorkerId,
    pub tokens: Usage,
    /// A 64-bit number in decimal digits: most JSON readers lose digits of a large number.
    pub seed: String,
    pub trace_id: String,
    /// Ids of the context texts in its prompt.
    #[serde(default)]
    pub context: Vec<String>,
    /// The texts of this step that a rule rejected before it.
    #[serde(default)]
    pub rejections: Vec<RejectionRecord>,
}

/// A text that was written for a section and not taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RejectionRecord {
    pub rule: String,
    pub value: f64,
    pub threshold: f64,
    /// Number of the try that wrote it.
    pub attempt: u32,
    /// Tokens generated for it.
    pub generated: u32,
    /// The text itself, if the recipe had `section.keep_drafts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A summary of the first sections of a document.
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
pub struct JudgeRecord {
    /// Mean scores, 1 to 5; none if no vote was valid.
    pub scores: Option<Scores<f64>>,
    /// Number of invalid votes.
    pub unread: u32,
    pub votes: Vec<VoteRecord>,
}

/// One vote: six scores, or the problem, and its worker.
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

/// Provenance of a text. Hashes are hexadecimal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// What the model's makers recommend, if they state any of it. A recipe says with `from_model` what of it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended_sampling: Option<RecommendedSampling>,
    /// The document's seed, decimal digits.
    pub seed: String,
    /// Version of the coordinator.
    pub longhand: String,
}

impl Record {
    /// None unless the document is finished.
    pub fn of(document: &Document, run: &Run, recipe: &Recipe) -> Option<Self> {
        let Progress::Finished { plan, sections, text, verdict: _, votes } = &document.progress else { return None };
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
            judge: JudgeRecord::of(votes),
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
                recommended_sampling: (!model.sampling.is_empty()).then_some(model.sampling),
                seed: document.seed.to_string(),
                longhand: longhand_proto::build().into(),
            },
        })
    }
}

impl SectionRecord {
    /// The record of a section.
    pub fn of(section: &Section) -> Self {
        Self {
            text: section.text.clone(),
            target_words: section.target_words,
            asked_words: section.asked(),
            words: section.words,
            finish_reason: section.finish_reason,
            attempt: section.attempt,
            worker: section.worker.clone(),
            tokens: section.usage,
            seed: section.seed.to_string(),
            trace_id: section.trace_id.clone(),
            context: section.context.clone(),
            rejections: section.rejections.iter().map(RejectionRecord::of).collect(),
        }
    }

    /// The section of this record, whose seed is `seed`. Times and what a rule found are not in a record.
    pub fn section(&self, seed: u64) -> Section {
        let Self { target_words, asked_words, words, finish_reason, attempt, .. } = *self;
        Section {
            text: self.text.clone(),
            target_words,
            asked_words: (asked_words > 0 && asked_words != target_words).then_some(asked_words),
            words,
            finish_reason,
            attempt,
            worker: self.worker.clone(),
            usage: self.tokens,
            timings: Timings::default(),
            seed,
            trace_id: self.trace_id.clone(),
            context: self.context.clone(),
            rejections: self.rejections.iter().map(RejectionRecord::rejection).collect(),
        }
    }
}

impl RejectionRecord {
    fn of(rejection: &Rejection) -> Self {
        let Rejection { rule, value, threshold, attempt, generated, text, .. } = rejection.clone();
        Self { rule, value, threshold, attempt, generated, text }
    }

    fn rejection(&self) -> Rejection {
        let Self { rule, value, threshold, attempt, generated, text } = self.clone();
        Rejection {
            rule,
            value,
            threshold,
            detail: String::new(),
            attempt,
            generated,
            asked_words: 0,
            words: 0,
            text,
            draft: None,
        }
    }
}

impl SummaryRecord {
    fn of(summary: &Summary) -> Self {
        let Summary { text, sections, worker, usage: _, seed } = summary;
        Self { text: text.clone(), sections: *sections, worker: worker.clone(), seed: seed.to_string() }
    }

    /// The summary of this record. Its tokens are not in a record, and nothing is made of its seed any more.
    pub(super) fn summary(&self) -> Summary {
        let Self { text, sections, worker, seed } = self.clone();
        Summary { text, sections, worker, usage: Usage::default(), seed: seed.parse().unwrap_or(0) }
    }
}

impl JudgeRecord {
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

/// Words of a text.
pub(super) fn count(text: &str) -> u32 {
    u32::try_from(words::count(text)).unwrap_or(u32::MAX)
}

//! Each accepted document is in the corpus exactly once.

mod archived;
mod crash;
mod exported;
mod memory_source;
mod refiltered;

use longhand_proto::task::{FinishReason, Message, ModelInfo, Timings, Usage};
use longhand_proto::{DocumentId, RunId};

use crate::domain::document::{Document, Progress, Section, Verdict};
use crate::domain::instruction::Instruction;
use crate::domain::language::Language;
use crate::domain::plan::{Plan, Step};
use crate::domain::recipe::Recipe;
use crate::store::{Run, RunPolicy};

pub(super) fn run() -> Run {
    let recipe = Recipe::default();
    Run {
        id: run_id(),
        recipe: recipe.to_toml(),
        recipe_hash: recipe.hash(),
        seed: 7,
        created_ms: 0,
        policy: RunPolicy::default(),
        paused: false,
        cancelling: false,
    }
}

fn run_id() -> RunId {
    "test".parse().unwrap()
}

/// A document with `sections` sections that waits for its verdict.
pub(super) fn document(number: u32, language: Language, sections: u32) -> Document {
    let text = |k: u32| match language {
        Language::En => format!("Section {k} of document {number} tells of \"ships\",\nand of the sea."),
        Language::Zh => format!("第{k}章讲述文档{number}的大海。"),
    };
    let sections: Vec<Section> = (1..=sections)
        .map(|k| Section {
            text: text(k),
            target_words: 10,
            asked_words: None,
            words: longhand_proto::words::count(&text(k)) as u32,
            finish_reason: FinishReason::Stop,
            attempt: 1,
            worker: "worker-1".parse().unwrap(),
            usage: Usage {
                prompt: 100 * k,
                cached: 80 * (k - 1),
                reusable: 90 * (k - 1),
                generated: 12,
                ..Usage::default()
            },
            timings: Timings::default(),
            seed: u64::MAX - u64::from(k),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            context: Vec::new(),
            rejections: Vec::new(),
        })
        .collect();
    let metadata = if number.is_multiple_of(2) { r#"{"topic":"sea","depth":[1,2]}"# } else { "{}" };
    Document {
        id: DocumentId::derive(&run_id(), &number.to_string(), 0),
        run: run_id(),
        candidate: 0,
        seed: u64::MAX,
        instruction: Instruction {
            id: number.is_multiple_of(2).then(|| format!("row-{number}")),
            messages: vec![Message { role: "user".into(), content: format!("Write about ship {number} 🚢") }],
            language,
            required_words: number.is_multiple_of(3).then_some(30),
            context: Vec::new(),
            metadata: serde_json::from_str(metadata).unwrap(),
            line: u64::from(number) + 1,
        },
        progress: Progress::Finished {
            plan: Plan { steps: sections.iter().map(|_| Step { main_point: "the sea".into(), words: 10 }).collect() },
            text: sections.iter().map(|section| section.text.as_str()).collect::<Vec<_>>().join("\n\n"),
            sections,
            votes: Vec::new(),
            verdict: Verdict::Accepted,
        },
        summaries: Vec::new(),
        rejections: Vec::new(),
        errors: 0,
        round: 0,
        traceparent: String::new(),
        model: Some(ModelInfo { name: "small".into(), licence: "apache-2.0".into(), ..ModelInfo::default() }),
        usage: Usage { prompt: 300, cached: 80, reusable: 100, generated: 40, ..Usage::default() },
    }
}

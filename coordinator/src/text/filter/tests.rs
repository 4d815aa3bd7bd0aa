//! Each rule with texts that it must find and texts that it must leave alone, in both languages.

mod cases;
mod cleaning;
mod rules;

use longhand_proto::task::{FinishReason, Message, Timings, Usage};
use longhand_proto::words;

use super::{Measured, measure_all};
use crate::domain::document::{Assembled, Section, Verdict};
use crate::domain::instruction::Instruction;
use crate::domain::language::Language;
use crate::domain::plan::Plan;
use crate::domain::rule::Filters;

/// An assembled document that owns its parts.
struct Owned {
    instruction: Instruction,
    plan: Plan,
    sections: Vec<Section>,
    text: String,
}

impl Owned {
    fn new<T: AsRef<str>>(language: Language, sections: &[T]) -> Self {
        let sections: Vec<Section> = sections.iter().map(|text| section(text.as_ref())).collect();
        Self {
            instruction: Instruction {
                id: None,
                messages: vec![Message { role: "user".into(), content: "Write about the sea.".into() }],
                language,
                required_words: None,
                context: Vec::new(),
                metadata: serde_json::Map::new(),
                line: 1,
            },
            plan: Plan::default(),
            text: sections.iter().map(|section| section.text.as_str()).collect::<Vec<_>>().join("\n\n"),
            sections,
        }
    }

    fn assembled(&self) -> Assembled<'_> {
        Assembled { instruction: &self.instruction, plan: &self.plan, sections: &self.sections, text: &self.text }
    }

    fn all(&self) -> Vec<Measured> {
        measure_all(&Filters::default(), &self.assembled())
    }

    fn measure(&self, rule: &str) -> Measured {
        self.all().into_iter().find(|measured| measured.rule == rule).unwrap()
    }
}

fn section(text: &str) -> Section {
    Section {
        text: text.into(),
        target_words: (words::count(text) as u32).max(1),
        asked_words: None,
        words: words::count(text) as u32,
        finish_reason: FinishReason::Stop,
        attempt: 1,
        worker: "worker-1".parse().unwrap(),
        usage: Usage::default(),
        timings: Timings::default(),
        seed: 1,
        trace_id: String::new(),
        context: Vec::new(),
        rejections: Vec::new(),
    }
}

/// Rule of a verdict, or "accepted".
fn rule(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Rejected { rule, .. } => rule,
    }
}

/// Prose of so many sentences, each different from all others.
fn prose(sentences: u32, seed: u32) -> String {
    const WORDS: [&str; 24] = [
        "harbour", "lantern", "winter", "captain", "letter", "copper", "garden", "silence", "market", "window",
        "river", "orchard", "thunder", "mirror", "station", "velvet", "compass", "meadow", "engine", "pepper",
        "violin", "granite", "anchor", "shadow",
    ];
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(97);
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        WORDS[(state >> 16) as usize % WORDS.len()]
    };
    (0..sentences).map(|_| format!("The {}.", [(); 11].map(|()| next()).join(" "))).collect::<Vec<_>>().join(" ")
}

/// The same in Chinese.
fn chinese_prose(sentences: u32, seed: u32) -> String {
    let characters: Vec<char> = ('\u{4e00}'..'\u{5200}').collect();
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(97);
    (0..sentences * 21)
        .map(|k| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if k % 21 == 20 { '。' } else { characters[(state >> 12) as usize % characters.len()] }
        })
        .collect()
}

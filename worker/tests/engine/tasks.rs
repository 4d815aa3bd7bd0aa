//! Tasks for tests, and their results.

use longhand_proto::DocumentId;
use longhand_proto::task::{
    Backtrack, Checkpoint, Failure, LengthControl, Letters, Message, Output, Sampling, Task, TaskKind,
};
use longhand_worker::engine::{Engine, Event, Generation};

pub(crate) fn document(n: u32) -> DocumentId {
    DocumentId::from_bytes(u128::from(n).to_be_bytes())
}

/// A section with a prompt of `n`'s own, sampled with everything on.
pub(crate) fn task(n: u32, prompt: &str) -> Task {
    Task {
        run: "test".parse().unwrap(),
        document: document(n),
        kind: TaskKind::Section,
        section: n,
        attempt: 1,
        messages: vec![Message { role: "user".into(), content: prompt.into() }],
        sampling: Sampling {
            temperature: 0.8,
            top_p: 0.95,
            repetition_penalty: 1.1,
            penalty_window: 20,
            no_repeat_ngram: 4,
            ..Sampling::default()
        },
        length: None,
        constraint: None,
        ban: Vec::new(),
        max_tokens: 60,
        seed: 7,
        letters: Letters::Any,
        words_left: 0,
        names: Vec::new(),
        traceparent: String::new(),
    }
}

pub(crate) fn length(target_words: u32) -> LengthControl {
    LengthControl { target_words, floor: 0.9, bias: 1.0, ceiling: 1.15, hard: 1.5 }
}

/// Everything that a reader of a generation sees.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) tokens: Vec<u32>,
    /// Where the text was taken back.
    pub(crate) backtracks: Vec<Backtrack>,
    /// The checkpoint after each event.
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) end: Result<Output, Failure>,
}

impl Seen {
    pub(crate) fn output(&self) -> &Output {
        self.end.as_ref().expect("a text")
    }

    pub(crate) fn failure(&self) -> &Failure {
        self.end.as_ref().expect_err("a failure")
    }

    pub(crate) fn checkpoint(&self, tokens: usize, tokenizer_hash: &str) -> Checkpoint {
        Checkpoint {
            tokens: self.tokens[..tokens].to_vec(),
            tokenizer_hash: tokenizer_hash.into(),
            ..Checkpoint::default()
        }
    }
}

/// Reads a generation to its end.
pub(crate) async fn read(mut generation: Generation) -> Seen {
    let (mut written, mut checkpoints) = (Checkpoint::default(), Vec::new());
    let end = loop {
        match generation.events.recv().await.expect("a generation ends with Done or Failed") {
            Event::Tokens(delta) => {
                delta.apply(&mut written);
                checkpoints.push(written.clone());
            }
            Event::Done(output) => break Ok(output),
            Event::Failed(failure) => break Err(failure),
        }
    };
    let Checkpoint { tokens, backtracks, .. } = written;
    Seen { tokens, backtracks, checkpoints, end }
}

/// Starts all tasks at once and reads them all.
pub(crate) async fn write(engine: &dyn Engine, tasks: &[Task]) -> Vec<Seen> {
    let generations: Vec<_> = tasks.iter().map(|task| engine.start(task.clone(), None)).collect();
    let mut seen = Vec::new();
    for generation in generations {
        seen.push(read(generation).await);
    }
    seen
}

/// The same texts, ended in the same way.
pub(crate) fn assert_same(seen: &[Seen], want: &[Seen], how: &str) {
    for (n, (seen, want)) in seen.iter().zip(want).enumerate() {
        assert_eq!(seen.tokens, want.tokens, "task {n} {how}");
        let (seen, want) = (seen.output(), want.output());
        assert_eq!((&seen.text, seen.finish_reason), (&want.text, want.finish_reason), "task {n} {how}");
    }
}

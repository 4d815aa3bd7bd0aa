//! Conversions between protobuf messages and domain types. All input from a peer is validated here, once.

use crate::id::ParseIdError;
use crate::task::{
    Backtrack, BacktrackCause, Checkpoint, Constraint, Failure, FinishReason, Lease, LengthControl, Letters, Message,
    ModelInfo, Output, RecommendedSampling, Sampling, Task, TaskKind, Timings, Usage, WorkerStatus,
};
use crate::v1;

/// A message that violates the protocol.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A required field is not set.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// An enum field has a value that this version does not know.
    #[error("field `{0}` has the unknown value {1}")]
    Unknown(&'static str, i32),
    /// A field is not a valid identifier.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// A JSON field cannot be parsed.
    #[error("field `{field}` cannot be parsed: {source}")]
    Json {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A JSON field has a format that this version does not know.
    #[error(
        "field `{field}` has format version {found}, and this program ({}) reads version {expected}; use the same version of longhand on both sides",
        crate::VERSION
    )]
    Format {
        /// The field.
        field: &'static str,
        /// What the message states.
        found: u32,
        /// What this version reads.
        expected: u32,
    },
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<Task> for v1::Task {
    fn from(task: Task) -> Self {
        Self {
            run: task.run.into(),
            document: task.document.to_string(),
            kind: v1::TaskKind::from(task.kind).into(),
            section: task.section,
            attempt: task.attempt,
            messages: task
                .messages
                .into_iter()
                .map(|Message { role, content }| v1::Message { role, content })
                .collect(),
            sampling: Some(task.sampling.into()),
            length: task.length.map(Into::into),
            constraint: task.constraint.map(Into::into),
            max_tokens: task.max_tokens,
            seed: task.seed,
            traceparent: task.traceparent,
            letters: v1::Letters::from(task.letters).into(),
            words_left: task.words_left,
            names: task.names,
            ban: task.ban,
        }
    }
}

impl From<Letters> for v1::Letters {
    fn from(letters: Letters) -> Self {
        match letters {
            Letters::Any => Self::Any,
            Letters::Latin => Self::Latin,
            Letters::Chinese => Self::Chinese,
            Letters::Han => Self::Han,
        }
    }
}

impl From<v1::Letters> for Letters {
    fn from(letters: v1::Letters) -> Self {
        match letters {
            v1::Letters::Any => Self::Any,
            v1::Letters::Latin => Self::Latin,
            v1::Letters::Chinese => Self::Chinese,
            v1::Letters::Han => Self::Han,
        }
    }
}

impl TryFrom<v1::Task> for Task {
    type Error = WireError;

    fn try_from(task: v1::Task) -> Result<Self, WireError> {
        Ok(Self {
            kind: TaskKind::from_wire(task.kind).ok_or(WireError::Unknown("task.kind", task.kind))?,
            run: task.run.parse()?,
            document: task.document.parse()?,
            section: task.section,
            attempt: task.attempt,
            messages: task
                .messages
                .into_iter()
                .map(|v1::Message { role, content }| Message { role, content })
                .collect(),
            sampling: task.sampling.ok_or(WireError::Missing("task.sampling"))?.into(),
            length: task.length.map(Into::into),
            constraint: task.constraint.map(TryInto::try_into).transpose()?,
            max_tokens: task.max_tokens,
            seed: task.seed,
            letters: v1::Letters::try_from(task.letters).unwrap_or_default().into(),
            words_left: task.words_left,
            names: task.names,
            traceparent: task.traceparent,
            ban: task.ban,
        })
    }
}

impl TaskKind {
    /// The kind with this protobuf number; none if this version does not know it.
    pub fn from_wire(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| i32::from(v1::TaskKind::from(kind)) == number)
    }
}

impl v1::TaskKind {
    /// All kinds that this version supports, as a worker states them.
    pub fn known() -> Vec<i32> {
        TaskKind::ALL.map(|kind| Self::from(kind).into()).to_vec()
    }
}

impl From<TaskKind> for v1::TaskKind {
    fn from(kind: TaskKind) -> Self {
        match kind {
            TaskKind::Plan => Self::Plan,
            TaskKind::Section => Self::Section,
            TaskKind::Judge => Self::Judge,
            TaskKind::Summary => Self::Summary,
        }
    }
}

/// Conversions in both directions between two structs whose fields have the same names, and types that convert.
macro_rules! same_fields {
    ($($name:ident { $($field:ident),+ $(,)? })+) => {$(
        #[allow(clippy::useless_conversion, reason = "most types are the same")]
        impl From<$name> for v1::$name {
            fn from($name { $($field),+ }: $name) -> Self {
                Self { $($field: $field.into()),+ }
            }
        }

        #[allow(clippy::useless_conversion, reason = "most types are the same")]
        impl From<v1::$name> for $name {
            fn from(v1::$name { $($field),+ }: v1::$name) -> Self {
                Self { $($field: $field.into()),+ }
            }
        }
    )+};
}

same_fields! {
    RecommendedSampling { temperature, top_k, top_p, min_p, repetition_penalty }
    Sampling {
        temperature, top_k, top_p, min_p, repetition_penalty, penalty_window, no_repeat_ngram,
        dry_multiplier, dry_base, dry_allowed_length, dry_penalty_last_n, from_model,
    }
    LengthControl { target_words, floor, bias, ceiling, hard }
    Usage { prompt, cached, reusable, generated, resumed, backtracks, discarded }
    Timings { queue_ms, prefill_ms, decode_ms }
    Failure { class, message, permanent }
}

impl From<ModelInfo> for v1::ModelInfo {
    fn from(model: ModelInfo) -> Self {
        let ModelInfo { name, weights_hash, tokenizer_hash, licence, engine, device, context, sampling } = model;
        let sampling = (!sampling.is_empty()).then(|| sampling.into());
        Self { name, weights_hash, tokenizer_hash, licence, engine, device, context, sampling }
    }
}

impl From<v1::ModelInfo> for ModelInfo {
    fn from(model: v1::ModelInfo) -> Self {
        let v1::ModelInfo { name, weights_hash, tokenizer_hash, licence, engine, device, context, sampling } = model;
        let sampling = sampling.map(RecommendedSampling::from).unwrap_or_default().usable();
        Self { name, weights_hash, tokenizer_hash, licence, engine, device, context, sampling }
    }
}

impl From<Checkpoint> for v1::Checkpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        let Checkpoint { tokens, tokenizer_hash, backtracks } = checkpoint;
        Self { tokens, tokenizer_hash, backtracks: backtracks.into_iter().map(Into::into).collect() }
    }
}

impl From<v1::Checkpoint> for Checkpoint {
    fn from(checkpoint: v1::Checkpoint) -> Self {
        let v1::Checkpoint { tokens, tokenizer_hash, backtracks } = checkpoint;
        Self { tokens, tokenizer_hash, backtracks: backtracks.into_iter().map(Into::into).collect() }
    }
}

impl From<Backtrack> for v1::Backtrack {
    fn from(Backtrack { position, token, discarded, cause }: Backtrack) -> Self {
        Self { position, token, discarded, phrase: cause == BacktrackCause::Phrase }
    }
}

impl From<v1::Backtrack> for Backtrack {
    fn from(v1::Backtrack { position, token, discarded, phrase }: v1::Backtrack) -> Self {
        let cause = if phrase { BacktrackCause::Phrase } else { BacktrackCause::Repetition };
        Self { position, token, discarded, cause }
    }
}

impl From<WorkerStatus> for v1::Vitals {
    fn from(status: WorkerStatus) -> Self {
        Self {
            version: status.version,
            model: Some(status.model.into()),
            slots: status.slots,
            held: status.held,
            running: status.running,
            waiting: status.waiting,
            kv_blocks: status.kv_blocks,
            kv_blocks_used: status.kv_blocks_used,
            tokens_per_second: status.tokens_per_second,
            generated_tokens: status.generated_tokens,
            completed: status.completed,
            failed: status.failed,
            released: status.released,
            lost: status.lost,
            uptime_ms: status.uptime_ms,
            draining: status.draining,
            problem: status.problem,
            kinds: TaskKind::ALL
                .into_iter()
                .filter(|kind| status.kinds.iter().any(|label| label == kind.as_str()))
                .map(|kind| v1::TaskKind::from(kind).into())
                .collect(),
        }
    }
}

impl From<v1::Vitals> for WorkerStatus {
    fn from(status: v1::Vitals) -> Self {
        Self {
            version: status.version,
            model: status.model.map(Into::into).unwrap_or_default(),
            slots: status.slots,
            held: status.held,
            running: status.running,
            waiting: status.waiting,
            kv_blocks: status.kv_blocks,
            kv_blocks_used: status.kv_blocks_used,
            tokens_per_second: status.tokens_per_second,
            generated_tokens: status.generated_tokens,
            completed: status.completed,
            failed: status.failed,
            released: status.released,
            lost: status.lost,
            uptime_ms: status.uptime_ms,
            draining: status.draining,
            problem: status.problem,
            kinds: (TaskKind::ALL.into_iter())
                .filter(|&kind| status.kinds.contains(&v1::TaskKind::from(kind).into()))
                .map(|kind| kind.as_str().to_owned())
                .collect(),
        }
    }
}

impl From<Constraint> for v1::Constraint {
    fn from(constraint: Constraint) -> Self {
        Self {
            kind: Some(match constraint {
                Constraint::Lark(text) => v1::constraint::Kind::Lark(text),
                Constraint::JsonSchema(text) => v1::constraint::Kind::JsonSchema(text),
            }),
        }
    }
}

impl TryFrom<v1::Constraint> for Constraint {
    type Error = WireError;

    fn try_from(constraint: v1::Constraint) -> Result<Self, WireError> {
        Ok(match constraint.kind.ok_or(WireError::Missing("constraint.kind"))? {
            v1::constraint::Kind::Lark(text) => Self::Lark(text),
            v1::constraint::Kind::JsonSchema(text) => Self::JsonSchema(text),
        })
    }
}

impl From<Lease> for v1::Lease {
    fn from(lease: Lease) -> Self {
        Self {
            lease_id: lease.id.to_string(),
            ttl_ms: lease.ttl_ms,
            task: Some(lease.task.into()),
            checkpoint: lease.checkpoint.map(Into::into),
        }
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = WireError;

    fn try_from(lease: v1::Lease) -> Result<Self, WireError> {
        Ok(Self {
            id: lease.lease_id.parse()?,
            ttl_ms: lease.ttl_ms,
            task: lease.task.ok_or(WireError::Missing("lease.task"))?.try_into()?,
            checkpoint: lease.checkpoint.map(Into::into),
        })
    }
}

impl From<Output> for v1::Output {
    fn from(output: Output) -> Self {
        Self {
            text: output.text,
            finish_reason: match output.finish_reason {
                FinishReason::Stop => v1::FinishReason::Stop,
                FinishReason::Ceiling => v1::FinishReason::Ceiling,
                FinishReason::Length => v1::FinishReason::Length,
                FinishReason::Repetition => v1::FinishReason::Repetition,
            }
            .into(),
            usage: Some(output.usage.into()),
            timings: Some(output.timings.into()),
        }
    }
}

impl TryFrom<v1::Output> for Output {
    type Error = WireError;

    fn try_from(output: v1::Output) -> Result<Self, WireError> {
        Ok(Self {
            finish_reason: match output.finish_reason() {
                v1::FinishReason::Stop => FinishReason::Stop,
                v1::FinishReason::Ceiling => FinishReason::Ceiling,
                v1::FinishReason::Length => FinishReason::Length,
                v1::FinishReason::Repetition => FinishReason::Repetition,
                v1::FinishReason::Unspecified => {
                    return Err(WireError::Unknown("output.finish_reason", output.finish_reason));
                }
            },
            text: output.text,
            usage: output.usage.ok_or(WireError::Missing("output.usage"))?.into(),
            timings: output.timings.ok_or(WireError::Missing("output.timings"))?.into(),
        })
    }
}

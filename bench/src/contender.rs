//! An engine that is measured in a process of its own.

use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::shape::Shape;

/// What one process measured for one shape.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Speed {
    /// Prompt tokens per second.
    pub(crate) prefill: f64,
    /// Generated tokens per second, of all streams together.
    pub(crate) decode: f64,
}

/// An engine that measures itself in a process of its own.
pub(crate) trait Contender {
    fn name(&self) -> &'static str;
    /// The command that measures one shape.
    fn command(&self, shape: Shape) -> Command;
    /// Finds the result in the stdout of the process.
    fn parse(&self, output: &str) -> Option<Speed>;
}

//! How the program ends: an exit code for scripts, and an error message for people.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of the help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Completed.
    Ok = 0,
    /// Started and could not finish; the same command resumes.
    Stopped = 1,
    /// Nothing was started.
    Refused = 2,
    /// Completed, but some rows or documents need attention.
    Partial = 3,
    /// Interrupted by a signal; the same command resumes.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// An error that ends the program. The message says what is wrong, where, and what to do.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What is printed on stderr.
    pub message: String,
}

impl Failure {
    /// Nothing was started.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { code: Code::Refused, message: message.to_string() }
    }

    /// Work was started and cannot be finished.
    pub fn stopped(message: impl fmt::Display) -> Self {
        Self { code: Code::Stopped, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A result whose error ends the program.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// An error followed by its causes; some libraries leave the causes out of their own message.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

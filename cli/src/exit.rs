//! How the program ends: an exit code that a script can branch on, and for people what went wrong, where, and what
//! helps.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of the help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Complete.
    Ok = 0,
    /// Begun, could not go on; the same command continues.
    Stopped = 1,
    /// Nothing was started.
    Refused = 2,
    /// Complete, with rows or documents that need a look.
    Flawed = 3,
    /// Interrupted by a signal; the same command continues.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// An error that ends the program.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    /// Nothing was started.
    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        Self { code: Code::Refused, message: message.to_string() }
    }

    /// The run was begun and cannot go on.
    pub(crate) fn stopped(message: impl fmt::Display) -> Self {
        Self { code: Code::Stopped, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

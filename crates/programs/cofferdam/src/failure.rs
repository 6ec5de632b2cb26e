//! What went wrong, its exit code and a hint: printed as the error, its causes, a blank line and the hint.

use std::{fmt, io::Write as _, process::ExitCode};

use crate::output::harmless;

/// Exit codes beyond 0 and 1, the same everywhere (`cofferdam --help` lists them).
pub(crate) mod code {
    /// Failed; for `diff` and `replay`: differs.
    pub(crate) const FAILED: u8 = 1;
    /// Wrong use.
    pub(crate) const USAGE: u8 = 2;
    /// No such run, rule or event.
    pub(crate) const NOT_FOUND: u8 = 3;
    /// A policy is invalid or its test fails.
    pub(crate) const INVALID: u8 = 7;
    /// The run can't be reached.
    pub(crate) const UNREACHABLE: u8 = 9;
    /// `run`: cofferdam failed.
    pub(crate) const RUN_FAILED: u8 = 125;
}

/// An error with its exit code and a hint that a person can act on.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Prints an error on standard error and gives the code to exit with. `otherwise` is for errors without a code.
pub(crate) fn report(error: &anyhow::Error, otherwise: u8) -> ExitCode {
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    let style = crate::output::Style::of_stderr();
    let mut text = format!("{} {}", style.paint("error:", crate::output::Colour::Red), harmless(&error.to_string()));
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  caused by: {}", harmless(&cause.to_string())));
    }
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_ref()) {
        text.push_str(&format!("\n\n{} {}", style.paint("hint:", crate::output::Colour::Cyan), harmless(hint)));
    }
    // The code says it, too, where nobody reads.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(failure.map_or(otherwise, |failure| failure.code))
}

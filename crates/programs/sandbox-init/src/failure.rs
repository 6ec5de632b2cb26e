//! A wall that could not be built: which step, what the kernel said, what to do.

use init_protocol::FromInit;
use rustix::io::Errno;

/// Why the sandbox can't be. Nothing of the workload has run.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Which step.
    step: String,
    /// What the kernel said.
    errno: Errno,
    /// What to do about it.
    hint: &'static str,
}

impl Failure {
    /// A step that failed.
    pub(crate) fn new(step: impl Into<String>, errno: Errno, hint: &'static str) -> Failure {
        Failure { step: step.into(), errno, hint }
    }

    /// As the host is told.
    pub(crate) fn message(self) -> FromInit {
        FromInit::Failed { step: self.step, errno: self.errno.raw_os_error(), hint: self.hint.to_owned() }
    }
}

/// Names the step that a kernel call belongs to.
pub(crate) trait Step<T> {
    /// The step and the remedy, should it have failed.
    fn step(self, step: &str, hint: &'static str) -> Result<T, Failure>;

    /// As `step`, where the step names the thing it was done to.
    fn step_on(self, step: &str, thing: impl std::fmt::Display, hint: &'static str) -> Result<T, Failure>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step(self, step: &str, hint: &'static str) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(step, errno, hint))
    }

    fn step_on(self, step: &str, thing: impl std::fmt::Display, hint: &'static str) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(format!("{step} {thing}"), errno, hint))
    }
}

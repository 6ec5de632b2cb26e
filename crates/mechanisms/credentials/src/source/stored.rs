//! Secrets that are kept somewhere: a file, a command's output, the caller's environment, the keyring.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use policy::model::credential::Stored;
use rustix::fs::OFlags;
use values::Secret;
use zeroize::Zeroizing;

use super::{Attempt, Fetched, FileStamp, Opening, Stamp, keyring, program::Program};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::Asked,
    schedule::Life,
    surroundings::Surroundings,
};

/// The largest secret.
pub(super) const SECRET_LIMIT: usize = 64 << 10;

const FILE: Asked = Asked {
    provider: "the file",
    step: "reading it",
    hint: "it must be a regular file that this user may read, with the secret alone in it",
};

/// A secret that is kept somewhere.
pub(crate) enum Kept {
    File(PathBuf),
    Command(Program),
    Env(String),
    Keyring { service: String, account: String },
}

impl Kept {
    pub(crate) fn open(stored: &Stored, opening: &Opening<'_>) -> Result<Self, OpenError> {
        match stored {
            Stored::File(path) => opening.path(path).map(Self::File),
            Stored::Command(words) => Program::open(words, opening).map(Self::Command),
            Stored::Env(name) => match opening.surroundings.variable(name) {
                Some(_) => Ok(Self::Env(name.clone())),
                None => Err(opening.unusable(format!(
                    "the variable {name} is not set (or empty) in the environment that Cofferdam was started with"
                ))),
            },
            Stored::Keyring { service, account } => {
                Ok(Self::Keyring { service: service.clone(), account: account.clone() })
            }
        }
    }

    /// Reads it now.
    pub(crate) fn read(&self, attempt: &Attempt<'_>) -> Result<Secret, Fault> {
        match self {
            Self::File(path) => read_file(path, attempt.surroundings).map(|(secret, _)| secret),
            Self::Command(program) => program.output(attempt).map(without_line_end),
            Self::Env(name) => read_variable(name, attempt.surroundings),
            Self::Keyring { service, account } => keyring::lookup(service, account, attempt),
        }
    }

    pub(crate) fn fetch(&self, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        if let Self::File(path) = self {
            let (secret, stamp) = read_file(path, attempt.surroundings)?;
            return Ok(Fetched { stamp: Some(Stamp(vec![Some(stamp)])), ..Fetched::token(secret, Life::Unbounded) });
        }
        let life = match self {
            Self::File(_) | Self::Env(_) => Life::Unbounded,
            Self::Command(_) | Self::Keyring { .. } => Life::Unknown,
        };
        Ok(Fetched::token(self.read(attempt)?, life))
    }

    pub(crate) fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::File(path) => Some(Stamp(vec![stamp_of(path)])),
            Self::Command(_) | Self::Env(_) | Self::Keyring { .. } => None,
        }
    }

    pub(crate) fn provider(&self) -> &'static str {
        match self {
            Self::File(_) => FILE.provider,
            Self::Command(_) => "the command",
            Self::Env(_) => "the environment",
            Self::Keyring { .. } => "the keyring",
        }
    }
}

/// What the file at this path looks like now; none where there is none.
pub(super) fn stamp_of(path: &Path) -> Option<FileStamp> {
    path.metadata().ok().map(|found| stamp_from(&found))
}

fn stamp_from(found: &Metadata) -> FileStamp {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    (
        found.dev(),
        found.ino(),
        found.size(),
        nanoseconds(found.mtime(), found.mtime_nsec()),
        nanoseconds(found.ctime(), found.ctime_nsec()),
    )
}

/// Reads a file whole, without its last line end, and what it looked like then.
pub(super) fn read_file(path: &Path, surroundings: &Surroundings) -> Result<(Secret, FileStamp), Fault> {
    let fault = |problem| FILE.fault(path.display().to_string(), problem);
    if surroundings.may_be_written(path) {
        let what = "it lies where the sandbox may write".to_owned();
        return Err(fault(Problem::Unfit(what)));
    }
    let (bytes, stamp) = read_regular(path).map_err(|error| fault(Problem::Io(error)))?;
    if bytes.len() > SECRET_LIMIT {
        return Err(fault(Problem::Huge(SECRET_LIMIT as u64)));
    }
    let secret = without_line_end(bytes);
    if secret.is_empty() {
        return Err(fault(Problem::Unfit("it is empty".to_owned())));
    }
    Ok((secret, stamp))
}

fn read_regular(path: &Path) -> io::Result<(Zeroizing<Vec<u8>>, FileStamp)> {
    // A pipe without a writer must not hold us up: opened without waiting, then refused.
    let wait_for_nothing = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file: File = OpenOptions::new().read(true).custom_flags(wait_for_nothing.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    // Room for all of it at once, so that no half of it is left behind by a growing buffer.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_LIMIT + 2));
    file.take(SECRET_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, stamp_from(&found)))
}

fn read_variable(name: &str, surroundings: &Surroundings) -> Result<Secret, Fault> {
    surroundings.variable(name).map(|value| Secret::from(value.to_owned())).ok_or_else(|| Fault {
        provider: "the environment",
        step: "reading a variable",
        place: name.to_owned(),
        problem: Problem::Unfit("it is not set".to_owned()),
        hint: "set it where Cofferdam is started",
    })
}

/// Without the last line end.
pub(super) fn without_line_end(mut bytes: Zeroizing<Vec<u8>>) -> Secret {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Secret::new(std::mem::take(&mut *bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_taken_off_and_no_more() {
        let cases = [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("a ", "a "), ("\n", ""), ("", "")];
        for (bytes, expected) in cases {
            let secret = without_line_end(Zeroizing::new(bytes.as_bytes().to_vec()));
            assert_eq!(secret.expose(), expected.as_bytes(), "{bytes:?}");
        }
    }
}

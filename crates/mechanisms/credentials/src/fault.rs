//! Why there is none: for the operator what, where and what to do; for the sandbox only that and roughly why.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use values::CredentialName;

/// Why credentials can't be opened. None of these is about a secret's value.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Too many.
    #[error("the policy names {count} credentials; {most} is the most", most = crate::MOST_CREDENTIALS)]
    TooMany {
        /// How many.
        count: usize,
    },
    /// One can't be used as it is written.
    #[error("credential `{name}`: {what}")]
    Unusable {
        /// Which.
        name: CredentialName,
        /// What is wrong, and what to write.
        what: String,
    },
    /// A bundle of certificates can't be used.
    #[error("credential `{name}`: the certificate bundle {path} can't be used: {what}", path = path.display())]
    Bundle {
        /// Which.
        name: CredentialName,
        /// The bundle.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What the gateway reads or runs, the sandbox could replace.
    #[error(
        "credential `{name}`: {path} lies where the sandbox may write, so the program inside could replace it; keep it outside of what is mounted",
        path = path.display()
    )]
    Writable {
        /// Which.
        name: CredentialName,
        /// The path.
        path: PathBuf,
    },
    /// The machine gives no random numbers.
    #[error("this machine gives no random numbers")]
    Randomness,
}

/// Why there is no secret now. The request is denied with it, never sent without.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObtainError {
    /// No such credential in the policy that is in force.
    #[error("there is no credential `{name}`")]
    Unknown {
        /// The name asked for.
        name: CredentialName,
    },
    /// Its source failed.
    #[error("credential `{name}`: {fault}")]
    Failed {
        /// Which.
        name: CredentialName,
        /// What failed.
        fault: Arc<Fault>,
    },
    /// Its source failed a moment ago, and is left alone for a while.
    #[error("credential `{name}`: {fault} (asked again in {} s at the earliest)", wait.as_secs().max(1))]
    Resting {
        /// Which.
        name: CredentialName,
        /// What failed.
        fault: Arc<Fault>,
        /// How long it is left alone from now.
        wait: Duration,
    },
    /// The server refuses the secret, and the source has no other.
    #[error("credential `{name}`: the server refuses it, and its source has no newer one")]
    Unchanged {
        /// Which.
        name: CredentialName,
    },
    /// The server refused one after the other; no more are fetched for a while.
    #[error(
        "credential `{name}`: the server refuses newly obtained ones too; the next is obtained in {} s at the earliest",
        wait.as_secs().max(1)
    )]
    RefusedAgain {
        /// Which.
        name: CredentialName,
        /// How long from now.
        wait: Duration,
    },
    /// A new policy changed or dropped it meanwhile.
    #[error("credential `{name}`: a new policy changed it while the request waited for it; send the request again")]
    Changed {
        /// Which.
        name: CredentialName,
    },
    /// The run is at its end.
    #[error("credential `{name}`: the run is ending")]
    Ended {
        /// Which.
        name: CredentialName,
    },
}

impl ObtainError {
    /// What the sandbox may be told: the name that its policy gave, and roughly why. No host, no path, no account.
    pub fn for_sandbox(&self) -> String {
        match self {
            Self::Unknown { name } => format!("the credential `{name}` is not there any more"),
            Self::Failed { name, fault } | Self::Resting { name, fault, .. } => {
                format!("the credential `{name}` could not be obtained: {} {}", fault.provider, fault.problem.roughly())
            }
            Self::Unchanged { name } | Self::RefusedAgain { name, .. } => {
                format!("the server refuses the credential `{name}`")
            }
            Self::Changed { .. } => self.to_string(),
            Self::Ended { .. } => "the run is ending".to_owned(),
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Failed { fault, .. } | Self::Resting { fault, .. } => Some(fault.hint),
            Self::Unchanged { .. } | Self::RefusedAgain { .. } => {
                Some("check that the secret is still valid there, and that it is for this server")
            }
            Self::Unknown { .. } | Self::Changed { .. } | Self::Ended { .. } => None,
        }
    }
}

/// What failed at a source.
#[derive(Debug)]
pub struct Fault {
    /// Who was asked: `HashiCorp Vault`, `the command`.
    pub provider: &'static str,
    /// What for: `signing in`, `reading the secret`.
    pub step: &'static str,
    /// Where: a host, a path, a variable's name.
    pub place: String,
    /// What happened.
    pub problem: Problem,
    /// What to do.
    pub hint: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} ({}): {}; {}", self.provider, self.step, self.place, self.problem, self.hint)
    }
}

/// What happened.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No connection.
    #[error("can't be reached: {0}")]
    Unreachable(String),
    /// No verified certificate.
    #[error("no verified TLS connection: {0}")]
    Tls(String),
    /// No answer in time.
    #[error("no answer in {} s", .0.as_secs().max(1))]
    Slow(Duration),
    /// It sent us elsewhere, where secrets don't go.
    #[error("answered {0}, a redirect, which is not followed")]
    Redirect(u16),
    /// It refused.
    #[error("answered {status}{}", said(.code.as_deref(), .description.as_deref()))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its own code.
        code: Option<Box<str>>,
        /// Its own words, cut and cleaned.
        description: Option<Box<str>>,
    },
    /// Its answer is too large.
    #[error("the answer is larger than {0} bytes")]
    Huge(u64),
    /// Its answer is not in the form its protocol says.
    #[error("the answer is not understood: {0}")]
    Garbage(&'static str),
    /// A file or program of this machine.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something here is not as it must be.
    #[error("{0}")]
    Unfit(String),
    /// A program ended with an error.
    #[error("ended with {0}")]
    Exit(String),
}

impl Problem {
    /// Without anything that is the operator's own.
    fn roughly(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "can't be reached",
            Self::Tls(_) => "can't be trusted",
            Self::Slow(_) => "does not answer in time",
            Self::Redirect(_) | Self::Huge(_) | Self::Garbage(_) => "gives an answer that is not understood",
            Self::Refused { .. } => "refuses",
            Self::Io(_) | Self::Unfit(_) | Self::Exit(_) => "failed",
        }
    }
}

fn said(code: Option<&str>, description: Option<&str>) -> String {
    match (code, description) {
        (None, None) => String::new(),
        (Some(one), None) | (None, Some(one)) => format!(" ({one})"),
        (Some(code), Some(description)) => format!(" ({code}: {description})"),
    }
}

/// A provider's words: printable, in one line, no longer than this, and none at all where a secret that it was sent is in them.
pub(crate) fn cleaned(words: &str, most: usize, sent: &[&[u8]]) -> Option<String> {
    let echoes = sent.iter().any(|secret| secret.len() >= 4 && contains(words.as_bytes(), secret));
    if echoes {
        return None;
    }
    let spaced = words.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    let printable = |c: &char| c.is_alphanumeric() || " .,:;-_/'()[]{}=+*#@!?&%\"<>|~^$`".contains(*c);
    let kept: String = spaced.filter(printable).take(most).collect();
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_words_are_cut_cleaned_and_never_an_echo() {
        let cases = [
            ("permission denied", Some("permission denied")),
            ("a\u{1b}[31mred\u{7}\r\nline", Some("a[31mred  line")),
            ("token s3cret-value is bad", None),
            ("\u{0}\u{1}", None),
            ("0123456789012345678901234567890123456789", Some("01234567890123456789012345678901")),
        ];
        for (words, expected) in cases {
            let sent: &[&[u8]] = &[b"s3cret-value"];
            assert_eq!(cleaned(words, 32, sent).as_deref(), expected, "{words:?}");
        }
    }
}

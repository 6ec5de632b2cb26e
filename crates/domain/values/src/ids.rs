//! Identifiers that can't be mistaken for each other.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest name of a rule, group, route or policy, in bytes.
const NAME_LIMIT: usize = 128;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name can't be empty")]
    Empty,
    /// The text is longer than 128 bytes.
    #[error("a name has at most {NAME_LIMIT} bytes")]
    TooLong,
    /// A character other than letters, digits, `-`, `_`, `.`, `:` and `/`.
    #[error("{0:?} can't stand in a name: use letters, digits, '-', '_', '.', ':' or '/'")]
    Character(char),
}

fn checked_name(text: &str) -> Result<Arc<str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_LIMIT {
        return Err(NameError::TooLong);
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.:/".contains(*c))) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(text.into()),
    }
}

/// The trait impls that every name shares; the types stay apart.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text and makes it a name.
            pub fn new(text: &str) -> Result<Self, NameError> {
                checked_name(text).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a rule, unique in its policy.
    RuleName
);
name_type!(
    /// The name of a group of sources or destinations.
    GroupName
);
name_type!(
    /// The name of a next hop.
    RouteName
);
name_type!(
    /// The name of a credential; never its value.
    CredentialName
);

/// The number of a policy revision. Later revisions have larger numbers; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why a text is no run id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no run id: expected a UUID, or the eight characters `cofferdam ps` shows")]
pub struct IdError(pub String);

/// One run of a command: a UUID v7, shown as its last eight characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Uuid);

impl RunId {
    /// A new id from the time and randomness (RFC 9562, version 7).
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The last eight characters: what people are shown and may type.
    pub fn short(&self) -> String {
        let text = self.0.simple().to_string();
        text.chars().skip(24).collect()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::parse_str(text).map(Self).map_err(|_| IdError(text.to_owned()))
    }
}

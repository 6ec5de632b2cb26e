//! Why a request that needs a secret goes nowhere: all of it for the record, and what of it the sandbox is told.

use audit_log::RecordError;
use certificates::ClientPemError;
use credentials::ObtainError;
use policy::HostName;
use values::CredentialName;

use super::{AttachError, body::BodyError};
use crate::{budget::NoRoom, refuse::Status};

/// Why a request that needs a secret goes nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSecret {
    /// No secrets are kept here.
    #[error("gateway: this run holds no credentials, so the request is not sent without `{0}`")]
    NoKeeper(CredentialName),
    /// The policy that decided does not have it.
    #[error("gateway: the policy has no credential `{0}`")]
    Unknown(CredentialName),
    /// What goes out is not what it is bound to.
    #[error("gateway: credential `{0}` is not bound to this request of {1}")]
    NotBound(CredentialName, HostName),
    /// Its source has none.
    #[error("{0}")]
    Obtain(#[from] ObtainError),
    /// The client certificate can't be used.
    #[error("credential `{0}`: {1}")]
    Certificate(CredentialName, ClientPemError),
    /// It can't be attached.
    #[error("credential `{0}`: {1}")]
    Attach(CredentialName, AttachError),
    /// The body, in which a placeholder may stand, can't be had.
    #[error("{0}")]
    Body(#[from] BodyError),
    /// There is no memory to sign its chunks.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// What comes back could not be looked through.
    #[error("gateway: more secrets than can be looked for in answers")]
    Masks,
    /// Its use could not be recorded.
    #[error("the gateway can't write its record, so no secret is attached")]
    Unrecorded(#[source] RecordError),
}

impl NoSecret {
    /// What the sandbox is told: no place on the host, and none of a provider. The record has it all.
    pub(crate) fn for_sandbox(&self) -> String {
        match self {
            NoSecret::Obtain(error) => error.for_sandbox(),
            NoSecret::Certificate(name, _) => format!("the client certificate of credential `{name}` can't be used"),
            NoSecret::NoKeeper(_)
            | NoSecret::Unknown(_)
            | NoSecret::NotBound(..)
            | NoSecret::Attach(..)
            | NoSecret::Body(_)
            | NoSecret::NoRoom(_)
            | NoSecret::Masks
            | NoSecret::Unrecorded(_) => self.to_string(),
        }
    }

    pub(crate) fn status(&self) -> Status {
        match self {
            NoSecret::Body(BodyError::TooLong) => Status::Forbidden,
            NoSecret::Body(BodyError::Broken(_)) => Status::BadRequest,
            NoSecret::Body(BodyError::Slow) => Status::Unavailable,
            NoSecret::Unrecorded(_) | NoSecret::NoRoom(_) => Status::Unavailable,
            NoSecret::NoKeeper(_)
            | NoSecret::Unknown(_)
            | NoSecret::NotBound(..)
            | NoSecret::Obtain(_)
            | NoSecret::Certificate(..)
            | NoSecret::Attach(..)
            | NoSecret::Masks => Status::BadGateway,
        }
    }
}

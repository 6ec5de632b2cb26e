//! A client certificate and its key, from files. Read again when one of them changes.

use std::path::{Path, PathBuf};

use policy::model::credential::Stored;

use super::{
    Attempt, Fetched, Opening, Stamp,
    stored::{Kept, read_file, stamp_of},
};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::Asked,
    issued::Material,
    schedule::Life,
};

const READING: Asked = Asked {
    provider: "the certificate",
    step: "reading it",
    hint: "the chain must be PEM with its end first, the key its own PEM, unencrypted",
};

/// The files.
pub(crate) struct Files {
    chain: PathBuf,
    key: Kept,
}

impl Files {
    pub(crate) fn open(chain: &Path, key: &Stored, opening: &Opening<'_>) -> Result<Self, OpenError> {
        Ok(Self { chain: opening.path(chain)?, key: Kept::open(key, opening)? })
    }

    pub(crate) fn fetch(&self, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        let before = self.stamp();
        let (chain, _) = read_file(&self.chain, attempt.surroundings)?;
        let key_pem = self.key.read(attempt)?;
        let unfit = |what: &str| READING.fault(self.chain.display().to_string(), Problem::Unfit(what.to_owned()));
        if !holds(chain.expose(), b"-----BEGIN CERTIFICATE-----") {
            return Err(unfit("the chain holds no certificate in PEM"));
        }
        if !holds(key_pem.expose(), b"PRIVATE KEY-----") {
            return Err(unfit("the key is no private key in PEM"));
        }
        let material = Material::Certificate { chain_pem: chain.expose().to_vec(), key_pem };
        // The look before the reading: where a file is replaced meanwhile, both are read once more.
        Ok(Fetched { material, life: Life::Unbounded, stamp: before, revocable: false })
    }

    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let key = self.key.stamp().map(|Stamp(stamps)| stamps).unwrap_or_default();
        Some(Stamp([vec![stamp_of(&self.chain)], key].concat()))
    }
}

fn holds(text: &[u8], line: &[u8]) -> bool {
    text.windows(line.len()).any(|window| window == line)
}

//! Who signs the certificates of opened TLS during one run.
//!
//! ```text
//! run            an issuer for any name, its key in memory, gone with the run        ──▶ leaves
//! installation   the authority (a file, 0600) ─▶ issuer: the policy's names, 7 days  ──▶ leaves
//! ```
//! A run keeps the authority that it began with, as its programs have read whom they trust: neither a rotation nor a
//! removal takes anything from it.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use certificates::{Authority, AuthorityError, IssueError, Issuer, Leaves, Scope};
use policy::HostPattern;

use super::failed;
use crate::{config::Signing, failure::Failure};

/// An issuer with less than this left is replaced.
const RENEWED_BEFORE: Duration = Duration::from_secs(24 * 60 * 60);
/// How often that is looked at: by the clock of certificates, which goes on while the machine sleeps.
const LOOKED_AT: Duration = Duration::from_secs(10 * 60);

/// Who signs.
#[derive(Debug)]
pub(super) enum Signer {
    /// An issuer of the run's own.
    Run,
    /// Issuers under the installation's authority.
    Installation(Box<Authority>),
}

impl Signer {
    /// Who was chosen; the installation's authority is in `folder`, and made where there is none. What the operator has to
    /// know of it goes to `notes`.
    pub(super) fn of(whose: Signing, folder: &Path, notes: &mut Vec<String>) -> Result<Self> {
        match whose {
            Signing::Run => Ok(Signer::Run),
            Signing::Installation => Self::installation(folder, notes),
        }
    }

    fn installation(folder: &Path, notes: &mut Vec<String>) -> Result<Self> {
        let before = Authority::open(folder).map_err(|error| unusable(&error))?;
        let authority = Authority::open_or_create(folder, SystemTime::now()).map_err(|error| unusable(&error))?;
        let what = match before {
            None => Some("was made"),
            Some(before) if before.certificate() != authority.certificate() => {
                Some("was near its end and is a new one: clients that trust the old one alone trust no new run")
            }
            Some(_) => None,
        };
        let show = "`cofferdam authority show` shows it";
        notes.extend(what.map(|what| format!("the installation's certificate authority {what} ({show})")));
        Ok(Signer::Installation(Box::new(authority)))
    }

    /// An issuer for these names.
    pub(super) fn issuer<'a>(
        &self,
        names: impl Iterator<Item = &'a HostPattern>,
        now: SystemTime,
    ) -> Result<Issuer, IssueError> {
        match self {
            Signer::Run => Issuer::for_run(Scope::Any, now),
            Signer::Installation(authority) => authority.issuer(Scope::of(names), now),
        }
    }

    /// Has `leaves` signed by an issuer for these names that does not end soon.
    pub(super) fn sign_for<'a>(
        &self,
        leaves: &Leaves,
        names: impl Iterator<Item = &'a HostPattern>,
        now: SystemTime,
    ) -> Result<(), IssueError> {
        let Signer::Installation(authority) = self else { return Ok(()) };
        let (issuer, scope) = (leaves.issuer(), Scope::of(names));
        let left = issuer.ends().duration_since(now).unwrap_or_default();
        // Near the authority's own end a new one would hold no longer.
        let renewable = left < RENEWED_BEFORE && issuer.ends() < authority.ends();
        if *issuer.scope() != scope || renewable {
            leaves.set_issuer(authority.issuer(scope, now)?);
        }
        Ok(())
    }

    /// How often [`Signer::sign_for`] is to be asked.
    pub(super) fn renewal(&self) -> Option<Duration> {
        match self {
            Signer::Run => None,
            Signer::Installation(_) => Some(LOOKED_AT),
        }
    }
}

/// Why the installation's authority is not used.
fn unusable(error: &AuthorityError) -> Failure {
    failed(error, Some("`--authority run` goes without it".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn an_issuer_is_for_the_names_of_its_policy_and_renewed_before_it_ends() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let folder = folder.path().join("authority");
        let mut notes = Vec::new();
        let signer = Signer::installation(&folder, &mut notes)?;
        assert!(notes.concat().contains("was made"), "{notes:?}");
        let names = [HostPattern::parse("api.example.com")?, HostPattern::parse("*.example.org")?];
        let now = SystemTime::now();
        let leaves = Leaves::new(signer.issuer(names.iter(), now)?, 8)?;
        let first = leaves.issuer();
        assert_eq!(*first.scope(), Scope::of(&names));
        // Removed, it still signs here.
        Authority::remove(&folder)?;
        signer.sign_for(&leaves, names.iter(), now + 5 * DAY)?;
        assert_eq!(leaves.issuer().ends(), first.ends());
        signer.sign_for(&leaves, names.iter(), now + 6 * DAY + DAY / 2)?;
        assert!(leaves.issuer().ends() > first.ends());
        assert_eq!(leaves.issuer().anchors(), first.anchors());
        signer.sign_for(&leaves, names[..1].iter(), now + 7 * DAY)?;
        assert_eq!(*leaves.issuer().scope(), Scope::of(&names[..1]));
        assert_eq!(leaves.issuer().anchors(), first.anchors());
        let Signer::Installation(authority) = &signer else { anyhow::bail!("the run's own") };
        let late = authority.ends() - DAY / 2;
        signer.sign_for(&leaves, names.iter(), late)?;
        let last = leaves.issuer();
        signer.sign_for(&leaves, names.iter(), late + DAY / 4)?;
        assert_eq!((last.ends(), leaves.issuer().ends()), (authority.ends(), authority.ends()));
        assert!(signer.sign_for(&leaves, names[..1].iter(), authority.ends()).is_err());
        Ok(())
    }

    #[test]
    fn one_that_is_near_its_end_is_a_new_one_and_that_is_told_once() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let folder = folder.path().join("authority");
        let old = Authority::open_or_create(&folder, SystemTime::now() - 380 * DAY)?;
        let mut notes = Vec::new();
        Signer::of(Signing::Installation, &folder, &mut notes)?;
        assert!(notes.concat().contains("clients that trust the old one alone trust no new run"), "{notes:?}");
        assert_ne!(Authority::open(&folder)?.unwrap().certificate(), old.certificate());
        Signer::of(Signing::Installation, &folder, &mut notes)?;
        assert_eq!(notes.len(), 1, "{notes:?}");
        Ok(())
    }

    #[test]
    fn a_runs_own_issuer_stays_whatever_the_policy() -> anyhow::Result<()> {
        let now = SystemTime::now();
        let leaves = Leaves::new(Signer::Run.issuer(std::iter::empty(), now)?, 8)?;
        let before = leaves.issuer();
        Signer::Run.sign_for(&leaves, [HostPattern::Any].iter(), now)?;
        assert!(std::sync::Arc::ptr_eq(&before, &leaves.issuer()) && Signer::Run.renewal().is_none());
        Ok(())
    }
}

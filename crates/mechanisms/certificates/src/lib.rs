//! Certificates for TLS that the gateway opens: who signs, what is signed, whom upstream is trusted, and how a
//! sandbox comes to trust what was signed.
//!
//! ```text
//!  Authority (installation, on disk) ──signs──▶ Issuer (one run, in memory, names bounded) ──┐
//!  Issuer::for_run (one run, in memory, self-signed) ───────────────────────────────────────┤
//!                                                                                            ▼
//!  sandbox ◀── trust: bundle, variables, files to cover      Leaves: one exact name each ──▶ ServerConfig
//!                                                            UpstreamRoots ──▶ ClientConfig ──▶ upstream
//! ```
//!
//! Which of the two issuers is for what, and which one `cofferdam run` uses: `docs/decisions/who-signs-for-inspection.md`. Nothing here
//! speaks on a network or decides what is inspected. Private keys are never printed, and are wiped when dropped as
//! far as the libraries let them be.

/// The installation's CA: a key and certificates in one private file.
mod authority;
/// What a failed handshake means, in words that people know.
mod fault;
/// Who signs leaves during one run, and for which names.
mod issuer;
/// A private key that can sign and can't be printed.
mod key;
/// Leaves: minted lazily, once each, in a bounded cache.
mod leaves;
/// Which application protocols a handshake offers or answers.
mod protocols;
/// What a sandbox is given so that ordinary clients trust us.
pub mod trust;
/// Whose certificates upstream are trusted, and how we present ourselves there.
mod upstream;
/// When a certificate holds.
mod validity;

pub use authority::{AUTHORITY_FILE, Authority, AuthorityError};
pub use fault::{Fault, distrusts_us};
pub use issuer::{IssueError, Issuer, MOST_NAMES, Scope};
pub use leaves::{Counts, Leaves, MintError};
pub use protocols::Protocols;
pub use upstream::{ClientCertificate, ClientPemError, RootsError, Upstream, UpstreamRoots};

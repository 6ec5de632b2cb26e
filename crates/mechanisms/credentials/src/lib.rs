//! Secrets from where they are kept or minted: obtained, cached, renewed, revoked.
//!
//! ```text
//!  policy's `credentials:` ──open──▶ Credentials ──obtain──▶ Issued {material, id, expires}
//!                                        │  one slot each: cache, one fetch at a time, back-off
//!                                        ▼  a thread per fetch
//!                                     source: file, command, environment, keyring, Vault, AWS, Azure, Google, …
//! ```
//!
//! A secret is obtained when a permitted request needs it, never before. It is used no longer than it lives, fetched again ahead
//! of its end while requests go on, and after a 401 at most once. A source that is down is an [`ObtainError`]; nothing is ever
//! sent in a secret's place. Where secrets are attached, and to what, is others' matter: this crate knows no request but
//! the ones it makes itself, and [`sigv4`], which signs and does no I/O.
//!
//! Values are [`values::Secret`]s. No error, record or `Debug` form holds one; of a provider's refusal it tells the status and
//! the code, cut and cleaned.

/// All credentials of one run.
mod credentials;
/// What is handed out: the secret and what may be said of it.
mod issued;
/// One credential: its cache, its fetch under way, its back-off.
mod slot;
/// What may be used when, as arithmetic on times.
mod schedule;
/// Where we run: the caller's environment, home, trust and clock.
mod surroundings;
/// Why there is none.
mod fault;
/// Asking a provider over HTTPS, with a bound on everything.
mod http;
/// Signed statements of who we are (JSON Web Tokens, RS256).
mod jwt;
/// Where secrets come from: a file for each kind.
mod source;

/// AWS Signature Version 4 of requests and of streamed bodies. No I/O.
pub mod sigv4;

pub use credentials::{Credentials, MOST_CREDENTIALS, Unrevoked};
pub use fault::{Fault, ObtainError, OpenError, Problem};
pub use issued::{AwsKeys, Issued, Material, TokenId};
pub use surroundings::{Clock, Patience, Surroundings};

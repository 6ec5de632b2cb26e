//! Where the installed package managers fetch from, asked of themselves.
//!
//! A managed path such as `pip` stands for the hosts that pip would fetch from on this machine: its
//! configured index, or the default that is built into it, and the download hosts that the index itself
//! names over verified TLS. No host is written down here. What a checkout says (`.npmrc`,
//! `.cargo/config.toml`) doesn't count: the tools run in `/`, and a tool that lies in a folder which the
//! workload may write is not run at all. What can't be had is an error with its reason, never a guess.
//!
//! ```text
//! tool's own answer (config, built-in default) ──▶ index URLs ──fetch, TLS verified──▶ download URLs ──▶ hosts
//! ```

/// What tools and indexes said, read; nobody is asked.
pub mod answers;
/// apt: `apt-get indextargets`.
mod apt;
/// cargo: the user's `config.toml`, and where a bare cargo tries to go.
mod cargo;
/// The package managers and what finding their hosts gives.
mod discover;
/// Reading an index's own answer.
mod fetch;
/// Go: `go env`.
mod golang;
/// npm: `npm config`.
mod npm;
/// NuGet: `dotnet nuget list source`.
mod nuget;
/// pip: `pip config`, and the default in its help.
mod pip;
/// Finding a tool on the caller's path and asking it, away from any checkout.
mod tool;

pub use discover::{DiscoverError, Endpoint, Found, Manager, discover};
pub use fetch::{FetchError, Fetcher};
pub use tool::{Caller, ToolError};

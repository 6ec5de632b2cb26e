//! What tools and indexes said, read; nobody is asked.
//!
//! Text in, hosts or an error out. The text comes from a tool outside the sandbox or from an index over verified TLS,
//! yet it is foreign: whatever it holds, reading ends, and no host is made up.

pub use crate::{
    cargo::wanted_index as cargo_wanted_index,
    golang::read as go_environment,
    npm::registries as npm_registries,
    nuget::sources as nuget_sources,
    pip::{Settings as PipSettings, default_index as pip_default_index, links as pip_links, settings as pip_settings},
};

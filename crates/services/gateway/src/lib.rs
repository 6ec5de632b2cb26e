//! The data plane that every byte out of a sandbox passes through.

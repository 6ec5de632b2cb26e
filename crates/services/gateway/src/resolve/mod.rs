//! Upstream resolution, its cache, and which address was answered for which name.

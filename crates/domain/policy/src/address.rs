//! IP addresses: canonical form, embedded addresses, special ranges.

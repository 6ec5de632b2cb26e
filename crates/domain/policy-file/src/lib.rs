//! The YAML policy file: text to checked policy, with errors a person can act on.

//! Looks for bytes that break the property `policy_file` of `parser-properties`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parser_properties::check("policy_file", bytes));

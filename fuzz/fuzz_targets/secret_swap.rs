//! Looks for bytes that break the property `secret_swap` of `parser-properties`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parser_properties::check("secret_swap", bytes));

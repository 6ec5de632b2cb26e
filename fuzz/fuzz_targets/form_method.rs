//! Looks for bytes that break the property `form_method` of `parser-properties`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parser_properties::check("form_method", bytes));

//! Looks for bytes that break the property `init_protocol` of `parser-properties`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parser_properties::check("init_protocol", bytes));

//! Looks for bytes that break the property `aws_chunks` of `parser-properties`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parser_properties::check("aws_chunks", bytes));

//! Looks for bytes that break the property `http2_frames` of `parser-properties`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parser_properties::check("http2_frames", bytes));

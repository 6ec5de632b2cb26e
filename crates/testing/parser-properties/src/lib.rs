//! What must hold of every reader of foreign bytes, for fuzz targets and for tests.
//!
//! Each property takes any bytes and panics where it does not hold. `fuzz/` looks for bytes that break one; the test
//! `replay` puts every seed and every finding through them in each run of the tests. What a property says:
//!
//! - the verdict is the same wherever the bytes are cut, and no later byte changes it;
//! - what was read, written and read again is the same;
//! - no reader looks behind its bound;
//! - where another implementation reads the same language, it reads the same out of what ours accepts.
//!
//! A new parser gets a property here, a line in [`TARGETS`], a file in `fuzz/fuzz_targets` and seeds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a property that does not hold panics"
)]

mod addresses;
mod audit;
mod aws_chunks;
mod client_hello;
mod dns;
mod exchange;
mod form;
mod hosts;
mod http;
mod http2_frames;
mod http_path;
mod init_protocol;
mod intent;
mod lists;
mod package_managers;
mod policy_file;
mod secret_swap;
mod socks5;
mod websocket;

/// A property: panics where it does not hold.
pub type Property = fn(&[u8]);

/// Every property under the name of its fuzz target.
pub const TARGETS: [(&str, Property); 24] = [
    ("address", addresses::address),
    ("audit_chain", audit::chain),
    ("audit_event", audit::event),
    ("aws_chunks", aws_chunks::aws_chunks),
    ("client_hello", client_hello::client_hello),
    ("dns_answer", dns::answer),
    ("dns_question", dns::question),
    ("form_method", form::method),
    ("hidden_request", intent::hidden_request),
    ("host", hosts::host),
    ("http2_frames", http2_frames::inspected_frames),
    ("http_body", http::body),
    ("http_exchange", exchange::exchange),
    ("http_head", http::head),
    ("http_path", http_path::http_path),
    ("http_response", http::response),
    ("init_protocol", init_protocol::messages),
    ("intent", intent::first_bytes),
    ("lists", lists::lists),
    ("package_managers", package_managers::answers),
    ("policy_file", policy_file::policy_file),
    ("secret_swap", secret_swap::secret_swap),
    ("socks5", socks5::socks5),
    ("websocket", websocket::messages),
];

/// Holds the bytes to the property of this name.
pub fn check(target: &str, bytes: &[u8]) {
    let (_, property) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of this name");
    property(bytes);
}

/// Where to cut bytes of this length: everywhere where they are few, else near both ends and at places between.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    const ENDS: usize = 24;
    let step = if length <= 160 { 1 } else { length / 24 };
    (0..length).filter(move |at| *at < ENDS || *at + ENDS >= length || at % step == 0)
}

/// A first byte as a choice, and the rest.
fn split_choice(bytes: &[u8]) -> Option<(u8, &[u8])> {
    bytes.split_first().map(|(choice, rest)| (*choice, rest))
}

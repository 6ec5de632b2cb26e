//! A trust store in Java's own format (JKS), which every Java reads, and which needs no encryption: it holds
//! certificates alone. Its checksum is bound to a password that everybody knows, and protects against accidents only;
//! the mount is what keeps the workload from changing it.

use std::path::Path;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::pki_types::CertificateDer;

/// The password of the store: the one that Java's own stores have.
pub const PASSWORD: &str = "changeit";

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
const TRUSTED: u32 = 2;
/// The format's own salt.
const SALT: &[u8] = b"Mighty Aphrodite";

/// The store's bytes. The same certificates give the same bytes.
pub fn store<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count: u32 = 0;
    for certificate in certificates {
        let Ok(length) = u32::try_from(certificate.len()) else { continue };
        count += 1;
        entries.extend(TRUSTED.to_be_bytes());
        text(&mut entries, &format!("cofferdam-{count:04}"));
        // When it was added: never, so that the bytes depend on the certificates alone.
        entries.extend(0_u64.to_be_bytes());
        text(&mut entries, "X.509");
        entries.extend(length.to_be_bytes());
        entries.extend(certificate.as_ref());
    }
    let mut store = Vec::with_capacity(12 + entries.len() + 20);
    for word in [MAGIC, VERSION, count] {
        store.extend(word.to_be_bytes());
    }
    store.extend(entries);
    let mut checked: Vec<u8> = PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect();
    checked.extend(SALT);
    checked.extend(&store);
    store.extend(digest(&SHA1_FOR_LEGACY_USE_ONLY, &checked).as_ref());
    store
}

/// ASCII of less than 64 KiB, as the format writes it.
fn text(to: &mut Vec<u8>, text: &str) {
    to.extend(u16::try_from(text.len()).unwrap_or_default().to_be_bytes());
    to.extend(text.as_bytes());
}

/// What tells a Java machine to use the store, after what the caller wants of it anyway. A path with white space is
/// quoted.
pub(super) fn options(store: &Path, given: Option<&str>) -> String {
    let ours = format!(
        "\"-Djavax.net.ssl.trustStore={}\" -Djavax.net.ssl.trustStoreType=JKS -Djavax.net.ssl.trustStorePassword={PASSWORD}",
        store.display()
    );
    match given {
        Some(given) if !given.trim().is_empty() => format!("{given} {ours}"),
        _ => ours,
    }
}

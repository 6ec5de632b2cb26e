//! Secrets in bytes that are cut anywhere.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use policy::model::credential::Format;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{Ends, Masking};

const SECRET: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn mask(texts: &[&str]) -> Arc<Mask> {
    let secrets: Vec<Secret> = texts.iter().map(|text| secret(text)).collect();
    Arc::new(Mask::new(secrets.iter().map(|secret| Masked { secret, placeholder: None })).unwrap())
}

fn pieces(mask: &Arc<Mask>, pieces: &[&[u8]]) -> Vec<u8> {
    let mut masking = Masking::new(Arc::clone(mask), Ends::Whole);
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(masking.push(Bytes::copy_from_slice(piece)).concat());
    }
    out.extend_from_slice(&masking.finish());
    out
}

#[test]
fn a_secret_cut_at_any_byte_is_masked_with_its_length() {
    let mask = mask(&[SECRET]);
    let text = format!("{{\"token\":\"{SECRET}\",\"next\":\"{SECRET}{SECRET}\"}} ghp_");
    let masked = text.replace(SECRET, &"*".repeat(SECRET.len()));
    for cut in 0..text.len() {
        let (one, two) = text.as_bytes().split_at(cut);
        assert_eq!(pieces(&mask, &[one, two]), masked.as_bytes(), "at {cut}");
    }
    let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(pieces(&mask, &single), masked.as_bytes());
}

#[test]
fn its_placeholder_stands_in_where_the_length_allows() {
    let value = secret(SECRET);
    let short = Placeholder::make(Format::Plain, |bytes| bytes.fill(3));
    let equal = Placeholder::make(Format::Github, |bytes| bytes.fill(3));
    for (placeholder, kept, free) in
        [(&equal, equal.text().to_owned(), equal.text()), (&short, "*".repeat(SECRET.len()), short.text())]
    {
        let mask = Mask::new([Masked { secret: &value, placeholder: Some(placeholder) }]);
        let mask = Arc::new(mask.unwrap());
        assert_eq!(pieces(&mask, &[SECRET.as_bytes()]), kept.as_bytes());
        assert_eq!(mask.masked(format!("Bearer {SECRET}").as_bytes()).unwrap(), format!("Bearer {free}").as_bytes());
    }
}

#[test]
fn encoded_forms_are_masked() {
    let mask = mask(&["p/w+&d-canary"]);
    for text in [
        BASE64.encode(b"user:p/w+&d-canary"),
        BASE64.encode(b"p/w+&d-canary:x-oauth-basic"),
        "p%2Fw%2B%26d-canary".to_owned(),
        "p\\/w+\\u0026d-canary".replace("\\/", "/"),
        "p\\/w+&d-canary".to_owned(),
        "p/w+&amp;d-canary".to_owned(),
        "702f772b26642d63616e617279".to_owned(),
        "P/W+&D-CANARY".to_owned(),
        "p%252Fw%252B%2526d-canary".to_owned(),
        "p\\\\\\/w+&d-canary".to_owned(),
        "p/w+&d-canary".chars().flat_map(|c| [c, '\0']).collect(),
    ] {
        let masked = pieces(&mask, &[text.as_bytes()]);
        assert_eq!(masked.len(), text.len());
        let stars = masked.iter().filter(|byte| **byte == STAR).count();
        assert!(stars >= 12, "{text}: {}", String::from_utf8_lossy(&masked));
    }
}

#[test]
fn a_mask_of_nothing_changes_nothing() {
    let mask = mask(&[]);
    assert!(mask.is_empty() && !mask.finds(b"anything"));
    assert_eq!(pieces(&mask, &[b"any", b"thing"]), b"anything");
}

proptest! {
    #[test]
    fn cuts_change_nothing_and_no_secret_comes_through(
        secrets in vec("[ab]{1,5}", 1..4),
        text in "[abc%]{0,60}",
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let mask = mask(&secrets);
        let whole = pieces(&mask, &[text.as_bytes()]);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut from = 0;
        for cut in cuts {
            parts.push(&text.as_bytes()[from..cut]);
            from = cut;
        }
        parts.push(&text.as_bytes()[from..]);
        prop_assert_eq!(&pieces(&mask, &parts), &whole);
        prop_assert_eq!(whole.len(), text.len());
        prop_assert!(!mask.finds(&whole));
    }
}

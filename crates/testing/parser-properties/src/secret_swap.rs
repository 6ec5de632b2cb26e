//! Secrets on the wire: put in at the named place alone, and found however the bytes are cut.

use std::sync::Arc;

use bytes::Bytes;
use policy::{
    http_query::{Parameter, parameter},
    model::credential::{Field, Format, Place},
};
use secret_swap::{Ends, Frames, Mask, Masked, Masking, Placeholder, Request, Swap};
use serde_json::Value;
use values::Secret;

use crate::{cuts, split_choice};

/// Has letters that each form of escaping changes, and none that stands in a placeholder's neighbourhood by chance.
const SECRET: &str = "s3cr+t/\"9f8e\"";

/// A choice, then a body, a target, an answer or frames.
pub(crate) fn secret_swap(bytes: &[u8]) {
    let Some((choice, rest)) = split_choice(bytes) else { return };
    match choice % 4 {
        0 => body("application/json", rest),
        1 => body("application/x-www-form-urlencoded", rest),
        2 => target(rest),
        _ => answer(rest),
    }
}

fn placeholder() -> Placeholder {
    Placeholder::make(Format::Github, |bytes| bytes.fill(7))
}

/// The text with a placeholder for each `@`, so that a fuzzer finds the places.
fn with_placeholders(bytes: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(bytes).ok()?.replace('@', placeholder().text()))
}

fn field(method: &str, path: &str, place: Place) -> Field {
    Field { method: method.to_owned(), path: path.to_owned(), place }
}

fn body(kind: &str, bytes: &[u8]) {
    let Some(text) = with_placeholders(bytes) else { return };
    let placeholder = placeholder();
    let places =
        [field("POST", "/x", Place::Json("/a/0".to_owned())), field("POST", "/x", Place::Form("a".to_owned()))];
    let swap = Swap { placeholder: &placeholder, headers: &[], fields: &places };
    let fields = [("Content-Type".to_owned(), kind.as_bytes().to_vec())];
    let request = Request { method: "POST", target: "/x", fields: &fields };
    assert!(swap.looks_at_body(request));
    let found = swap.body(request, text.as_bytes(), placeholder.text().as_bytes()).is_some();
    let swapped = swap.body(request, text.as_bytes(), SECRET.as_bytes());
    assert_eq!(found, swapped.is_some(), "a first look and the swap see the same");
    let Some(swapped) = swapped else { return };
    let new = swapped.expose_str().expect("text stays text");
    if kind.ends_with("json") {
        let (mut before, after): (Value, Value) =
            (serde_json::from_str(&text).expect("JSON"), serde_json::from_str(new).expect("JSON stays JSON"));
        let place = before.pointer_mut("/a/0").expect("the place that was swapped");
        assert_eq!(place.as_str(), Some(placeholder.text()));
        *place = Value::String(SECRET.to_owned());
        assert_eq!(before, after, "nothing else is another");
    } else {
        assert_eq!(parameter(&text, "a"), Parameter::Once(placeholder.text().to_owned()));
        assert_eq!(parameter(new, "a"), Parameter::Once(SECRET.to_owned()));
        assert_eq!(text.split('&').count(), new.split('&').count());
        let other = text.split('&').zip(new.split('&')).filter(|(before, after)| before != after).count();
        assert_eq!(other, 1, "one pair is another");
    }
}

fn target(bytes: &[u8]) {
    let Some(text) = with_placeholders(bytes) else { return };
    let placeholder = placeholder();
    let headers = ["authorization".to_owned()];
    let places = [field("GET", "/b/{placeholder}/c", Place::Path), field("GET", "/q", Place::Query("a".to_owned()))];
    let swap = Swap { placeholder: &placeholder, headers: &headers, fields: &places };
    let fields = [("Authorization".to_owned(), text.clone().into_bytes()), ("X".to_owned(), text.clone().into_bytes())];
    let head = swap.head(Request { method: "GET", target: &text, fields: &fields }, SECRET.as_bytes());
    assert_eq!(head.fields.len(), 1, "only the named field is looked at");
    let encoded = "s3cr%2Bt%2F%229f8e%22";
    if let Some(new) = &head.target {
        let new = new.expose_str().expect("a target is text");
        assert_eq!(new.matches(encoded).count(), 1, "{text} {new}");
        assert_eq!(new.matches(SECRET).count(), 0);
    }
    if let Some((0, Some(value))) = head.fields.first() {
        assert!(text.contains(placeholder.text()) || text.to_ascii_lowercase().starts_with("basic "));
        assert_ne!(value.expose(), text.as_bytes());
    }
}

/// An answer with a secret for each `@`, in pieces.
fn answer(bytes: &[u8]) {
    let secret = Secret::from(SECRET.to_owned());
    let mask = Arc::new(Mask::new([Masked { secret: &secret, placeholder: None }]).expect("few patterns"));
    let mut whole = Vec::new();
    for byte in bytes.iter().take(512) {
        match byte {
            b'@' => whole.extend_from_slice(SECRET.as_bytes()),
            other => whole.push(*other),
        }
    }
    let through = |pieces: &[&[u8]]| {
        let mut masking = Masking::new(Arc::clone(&mask), Ends::Whole);
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(masking.push(Bytes::copy_from_slice(piece)).concat());
        }
        out.extend_from_slice(&masking.finish());
        out
    };
    let frames = |pieces: &[&[u8]]| {
        let (mut frames, mut out) = (Frames::new(Arc::clone(&mask)), Vec::new());
        let outcome = pieces.iter().try_for_each(|piece| frames.push(piece, &mut out));
        (outcome, out)
    };
    let (masked, framed) = (through(&[&whole]), frames(&[&whole]));
    assert_eq!(masked.len(), whole.len());
    assert!(!mask.finds(&masked), "a secret comes through");
    for cut in cuts(whole.len()) {
        let (one, two) = whole.split_at(cut);
        assert_eq!(through(&[one, two]), masked, "cut at {cut}");
        assert_eq!(frames(&[one, two]), framed, "cut at {cut}");
    }
}

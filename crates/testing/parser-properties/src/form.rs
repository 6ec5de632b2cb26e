//! Forms: a field that names another method is found wherever the body is cut, and however it is written.

use wire::{
    form::MethodField,
    http_head::{Head, read},
};

const TYPES: [&str; 2] = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=XX"];

/// A choice of the kind, and a body.
pub(crate) fn method(bytes: &[u8]) {
    let Some((choice, body)) = crate::split_choice(bytes) else { return };
    let kind = usize::from(choice & 1);
    let whole = said(kind, body, usize::MAX);
    for piece in [1, 3, 64] {
        assert_eq!(said(kind, body, piece), whole, "in pieces of {piece}");
    }
    let plain = body.split(|byte| matches!(byte, b'&' | b';')).any(|pair| pair.starts_with(b"_method=DELETE"));
    assert!(!(kind == 0 && plain && whole.is_ok()), "a field that names another method goes on");
    let part = b"--XX\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nDELETE";
    let behind = [body, b"\r\n\r\n", part].concat();
    // Behind anything, but for what is a part's head, or its value, until then.
    assert!(!(kind == 1 && !behind[..body.len()].windows(4).any(|at| at == b"--XX") && said(1, &behind, 7).is_ok()));
}

fn said(kind: usize, body: &[u8], piece: usize) -> Result<(), &'static str> {
    let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Type: {}\r\n\r\n", TYPES[kind]);
    let Head::Complete(head, _) = read(head.as_bytes(), 4096, false) else { panic!("a head") };
    let mut field = MethodField::of(&head).expect("a form that can be read").expect("a form");
    body.chunks(piece.min(body.len()).max(1)).try_for_each(|chunk| field.read(chunk))
}

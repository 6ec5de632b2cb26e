//! Forms however they are written and cut.

use proptest::{prop_assert_eq, proptest};

use super::{MethodField, OTHER_METHOD};
use crate::http_head::{Head, RequestHead, read};

const PAIRS: &str = "application/x-www-form-urlencoded";
const PARTS: &str = "multipart/form-data; boundary=XX";

fn head(method: &str, fields: &str) -> RequestHead {
    let text = format!("{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n{fields}\r\n");
    match read(text.as_bytes(), 4096, false) {
        Head::Complete(head, _) => *head,
        other => panic!("{other:?}"),
    }
}

fn typed(content_type: &str) -> RequestHead {
    head("POST", &format!("Content-Type: {content_type}\r\n"))
}

fn said(content_type: &str, body: &[u8], piece: usize) -> Result<(), &'static str> {
    let mut field = MethodField::of(&typed(content_type))?.expect("a form");
    body.chunks(piece.max(1)).try_for_each(|chunk| field.read(chunk))
}

fn checked(content_type: &str, body: &str) -> bool {
    let whole = said(content_type, body.as_bytes(), usize::MAX);
    for piece in 1..8 {
        assert_eq!(said(content_type, body.as_bytes(), piece), whole, "in pieces of {piece}: {body}");
    }
    whole.is_ok()
}

#[test]
fn a_pair_that_names_another_method_is_found_however_it_is_written() {
    for body in [
        "_method=DELETE",
        "a=b&_method=put",
        "a=b;_method=put&c=d",
        "_METHOD=DELETE",
        "_%6dethod=DELETE",
        "%5Fmethod=DELETE",
        "+%20_method=DELETE",
        ".method=DELETE",
        "+method=DELETE&_method=DELETE",
        "_method[]=DELETE",
        "_method%5Bx%5D=DELETE",
        "_method%00x=DELETE",
        "_method=%44ELETE",
        "_method=POST&_method=DELETE",
        "_method=POSTS",
        "_method=PO&a=b",
        "_method=+POST",
    ] {
        assert!(!checked(PAIRS, body), "{body}");
    }
    let blanks = "%20".repeat(300);
    assert!(!checked(PAIRS, &format!("{blanks}_method=DELETE")));
    assert!(!checked(PAIRS, &format!("_method[{}]=DELETE", "x".repeat(300))));
}

#[test]
fn other_pairs_go_on() {
    for body in [
        "",
        "a=b&c=d",
        "method=DELETE&payment_method=card&_methods=DELETE&x_method=DELETE",
        "a=_method=DELETE",
        "_method=POST",
        "_method=post&a=b",
        "_method=&a=b",
        "_method&a=b",
        "a=%26_method=DELETE",
        "text=%5Fmethod%3DDELETE",
    ] {
        assert!(checked(PAIRS, body), "{body}");
    }
    assert!(checked(PAIRS, &format!("{}=DELETE&a=b", "x".repeat(5000))));
}

fn part(disposition: &str, value: &str) -> String {
    format!("--XX\r\n{disposition}\r\n\r\n{value}\r\n--XX--\r\n")
}

#[test]
fn a_part_that_names_another_method_is_found_however_it_is_written() {
    for disposition in [
        "Content-Disposition: form-data; name=\"_method\"",
        "content-disposition:form-data;name=_method",
        "Content-Disposition: form-data; filename=\"x\"; NAME = \"_Method\"",
        "Content-Type: text/plain\r\nContent-Disposition: form-data;\r\n name=\"_method\"",
        "Content-Disposition: form-data; name=\"\\_method\"",
        "Content-Disposition: form-data; name*=utf-8''%5Fmethod",
        "Content-Disposition: form-data; name='_method'",
    ] {
        assert!(!checked(PARTS, &part(disposition, "DELETE")), "{disposition}");
        assert!(checked(PARTS, &part(disposition, "POST")), "{disposition}");
    }
    let first = part("Content-Disposition: form-data; name=\"a\"", "--X--\r\n---XX");
    assert!(!checked(PARTS, &format!("{first}{}", part("Content-Disposition: form-data; name=\"_method\"", "PUT"))));
    assert!(!checked(PARTS, "no line before--XX\nContent-Disposition: form-data; name=_method\n\nPUT"));
}

#[test]
fn other_parts_go_on() {
    let html =
        "<input name=\"_method\" value=\"delete\">\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nPUT";
    for (disposition, value) in [
        ("Content-Disposition: form-data; name=\"file\"; filename=\"_method\"", "DELETE"),
        ("Content-Disposition: form-data; name=\"payment_method\"", "card"),
        ("Content-Disposition: form-data; name=\"page\"", html),
        ("X: name=\"_method\"", "DELETE"),
    ] {
        assert!(checked(PARTS, &part(disposition, value)), "{disposition}");
    }
}

#[test]
fn what_is_a_form_and_what_can_t_be_read() {
    let of = |fields: &str| MethodField::of(&head("POST", fields)).map(|field| field.is_some());
    for (fields, expected) in [
        ("", Ok(true)),
        ("Content-Type: application/json\r\n", Ok(false)),
        ("Content-Type: Application/X-WWW-Form-Urlencoded; charset=utf-8\r\n", Ok(true)),
        ("Content-Type: application/json\r\ncontent_type: application/x-www-form-urlencoded\r\n", Ok(true)),
        ("Content-Type: text/plain, application/x-www-form-urlencoded\r\n", Ok(true)),
        ("Content-Type: multipart/form-data; boundary=\"a b\"\r\n", Err(())),
        ("Content-Type: multipart/form-data; boundary=\"ab\"\r\n", Ok(true)),
        ("Content-Type: multipart/form-data; boundary=ab; boundary=cd\r\n", Err(())),
        ("Content-Type: multipart/form-data; boundary*0=ab\r\n", Err(())),
        ("Content-Type: multipart/form-data\r\n", Err(())),
        ("Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n", Err(())),
        ("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", Ok(false)),
    ] {
        assert_eq!(of(fields).map_err(drop), expected, "{fields}");
    }
    assert_eq!(MethodField::of(&head("PUT", "")), Ok(None), "only a POST without a type may be a form");
    let long = format!("--XX\r\n{}", "x".repeat(super::PART_LIMIT + 1));
    assert!(said(PARTS, long.as_bytes(), 100).is_err());
    assert_eq!(said(PAIRS, b"_method=DELETE", 1), Err(OTHER_METHOD));
}

proptest! {
    #[test]
    fn the_same_wherever_it_is_cut(body in "([a_mM=&;%5F +.X-]|_method|=DELETE|=POST|--XX|\r\n|name=){0,30}", piece in 1usize..9) {
        for kind in [PAIRS, PARTS] {
            prop_assert_eq!(said(kind, body.as_bytes(), piece), said(kind, body.as_bytes(), usize::MAX));
        }
    }
}

//! Bodies that end where they say, in pieces of any size.

use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::{Body, TOO_LONG};

/// Feeds the bytes in pieces: how many belong to the body and whether it ended there.
fn scan(body: Body, bytes: &[u8], piece: usize) -> Result<(usize, bool), &'static str> {
    let mut body = body;
    let mut total = 0;
    for chunk in bytes.chunks(piece) {
        let taken = body.advance(chunk)?;
        total += taken;
        if taken < chunk.len() {
            break;
        }
    }
    Ok((total, body.is_done()))
}

#[test]
fn chunked_bodies_end_where_they_say() {
    type Case<'a> = (&'a [u8], bool, Result<(usize, bool), &'a str>);
    let cases: &[Case<'_>] = &[
        (b"0\r\n\r\nGET", true, Ok((5, true))),
        (b"5\r\nhello\r\n0\r\n\r\nGET /", true, Ok((15, true))),
        (b"5\r\nhello\r\n0\r\nA: b\r\n\r\nX", true, Ok((21, true))),
        (b"5\r\nhel", true, Ok((6, false))),
        (b"5;a=b\r\nhello\r\n0\r\n\r\n", false, Ok((19, true))),
        (b"5;a=b\r\nhello\r\n0\r\n\r\n", true, Err("a chunk extension")),
        (b"5 \r\nhello", true, Err("a chunk size that is no number")),
        (b"5\nhello", true, Err("a chunk size that is no number")),
        (b"+5\r\n", true, Err("a chunk size that is no number")),
        (b"0x5\r\n", true, Err("a chunk size that is no number")),
        (b"\r\n", true, Err("a chunk size that is no number")),
        (b"ffffffffffffffff\r\n", true, Err("a chunk size that is no number")),
        (b"5\r\nhelloX", true, Err("a chunk that does not end where it should")),
        (b"5\r\nhello\n", true, Err("a chunk that does not end where it should")),
        (b"0\r\n folded\r\n\r\n", true, Err("a broken trailer line")),
        (b"0\r\nA: b\n\r\n", true, Err("a broken trailer line")),
        (b"0\r\nx-amz-checksum-crc32: AA==\r\nB:\r\n\r\nGET", true, Ok((37, true))),
        (b"0\r\nHost: b.example\r\n\r\n", true, Err("a trailer that belongs into the head")),
        (b"0\r\nCookie: a=b\r\n\r\n", true, Err("a trailer that belongs into the head")),
        (b"0\r\nTransfer_Encoding: chunked\r\n\r\n", true, Err("a trailer that belongs into the head")),
        (b"0\r\nA: b\r\nCONTENT-LENGTH: 3\r\n\r\n", true, Err("a trailer that belongs into the head")),
        (b"0\r\ntransfer-encoding:chunked\r\n\r\n", true, Err("a trailer that belongs into the head")),
        (b"0\r\nX-HTTP-Method-Override: PUT\r\n\r\n", true, Err("a trailer that belongs into the head")),
        (b"0\r\nHost : b.example\r\n\r\n", true, Err("a trailer name that is no token")),
        (b"0\r\nno colon\r\n\r\n", true, Err("a trailer name that is no token")),
        (b"0\r\nnocolon\r\n\r\n", true, Err("a trailer without a colon")),
        (b"0\r\nHost: b.example\r\n\r\n", false, Ok((22, true))),
        (b"5 \t\r\nhello\r\n0\r\n\r\n", false, Ok((17, true))),
        (b"5 ;a\r\nhello\r\n0 \r\n\r\n", false, Ok((19, true))),
        (b"5 9E\r\nhello", false, Err("a chunk size that is no number")),
        (b"0;a\r\n\r\n", true, Err("a chunk extension")),
        (b"00000\r\n\r\n", true, Ok((9, true))),
        (b"0000000000000005\r\n", true, Err("a chunk size that is no number")),
        (b"-1\r\n", true, Err("a chunk size that is no number")),
        (b"5\r\rhello", true, Err("a chunk that does not end where it should")),
        (b"5\r\nhello0\r\n\r\n", true, Err("a chunk that does not end where it should")),
        (b"0\r\n\n", true, Err("a broken trailer line")),
        (b"0\n\n", true, Err("a chunk size that is no number")),
    ];
    for (bytes, strict, expected) in cases {
        for piece in [1, 2, 3, 1000] {
            assert_eq!(scan(Body::chunked(*strict), bytes, piece), *expected, "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn a_length_is_counted() {
    assert_eq!(scan(Body::Length(5), b"helloGET", 3), Ok((5, true)));
    assert_eq!(scan(Body::Length(9), b"hello", 3), Ok((5, false)));
    assert_eq!(scan(Body::UntilClose, b"hello", 3), Ok((5, false)));
}

#[test]
fn a_bound_is_held() {
    assert_eq!(Body::Length(6).at_most(5), Err(TOO_LONG));
    let bounded = |body: Body| body.at_most(5).unwrap();
    for piece in [1, 2, 3, 1000] {
        assert_eq!(scan(bounded(Body::Length(5)), b"hello", piece), Ok((5, true)));
        assert_eq!(scan(bounded(Body::chunked(true)), b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", piece), Ok((20, true)));
        assert_eq!(scan(bounded(Body::chunked(true)), b"2\r\nhe\r\n4\r\nllo!", piece), Err(TOO_LONG));
        assert_eq!(scan(bounded(Body::UntilClose), b"hello", piece), Ok((5, false)));
        assert_eq!(scan(bounded(Body::UntilClose), b"hello!", piece), Err(TOO_LONG));
    }
    let mut body = bounded(Body::UntilClose);
    assert_eq!(body.unseen(), 5);
    body.skip(5);
    assert_eq!((body.unseen(), body.advance(b"!")), (0, Err(TOO_LONG)));
}

proptest! {
    #[test]
    fn cutting_changes_nothing(bytes in prop::collection::vec(prop::sample::select(b"0123af\r\n; :xyz".to_vec()), 0..80), piece in 1usize..9, strict in any::<bool>()) {
        prop_assert_eq!(scan(Body::chunked(strict), &bytes, piece), scan(Body::chunked(strict), &bytes, 1000));
    }
}

//! Bodies of AWS's signed chunks: signed anew with the same length, the same over any splits, and never more than was given.

use std::time::UNIX_EPOCH;

use credentials::{
    AwsKeys,
    sigv4::{ChunkError, Payload, Request, Resigner, Scope, sign},
};
use values::Secret;

/// The first byte says whether fields come behind the chunks; the rest is the body.
pub(crate) fn aws_chunks(bytes: &[u8]) {
    let Some((choice, body)) = crate::split_choice(bytes) else { return };
    let trailers = choice & 1 == 1;
    let (whole, result) = pushed(trailers, &[body]);
    assert!(whole.len() <= body.len(), "more goes on than came in");
    for cut in crate::cuts(body.len()) {
        let (first, rest) = body.split_at(cut);
        let (split, same) = pushed(trailers, &[first, rest]);
        assert_eq!((split, same), (whole.clone(), result), "cut at {cut}");
    }
    if result.is_ok() {
        assert_eq!(whole.len(), body.len(), "the length is announced before");
        // Signed anew once more, the same comes out: the client's signatures count for nothing.
        assert_eq!(pushed(trailers, &[&whole]), (whole.clone(), Ok(())));
    }
}

fn pushed(trailers: bool, parts: &[&[u8]]) -> (Vec<u8>, Result<(), ChunkError>) {
    let (mut resigner, mut out) = (resigner(trailers), Vec::new());
    for part in parts {
        if let Err(error) = resigner.push(part, &mut out) {
            assert_eq!(resigner.push(b"more", &mut out), Err(error), "an error is final");
            assert_eq!(resigner.finish(), Err(error));
            return (out, Err(error));
        }
    }
    (out, resigner.finish())
}

fn resigner(trailers: bool) -> Resigner {
    let keys = AwsKeys {
        access_key_id: "AKIAEXAMPLE".to_owned(),
        secret_access_key: Secret::from("secret".to_owned()),
        session_token: None,
    };
    let request = Request { method: "PUT", path: "/bucket/key", query: None, headers: &[("host", b"s3.example.com")] };
    let payload = if trailers { Payload::StreamingTrailer } else { Payload::Streaming };
    let scope = Scope { service: "s3", region: "us-east-1" };
    sign(&request, &payload, &keys, &scope, UNIX_EPOCH).unwrap().resigner.unwrap()
}

//! Signatures against AWS's published ones and against AWS's own crate; chunks over arbitrary splits.

use std::time::{Duration, UNIX_EPOCH};

use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode,
    },
    sign::v4,
};
use proptest::prelude::*;

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn keys(id: &str, secret: &str, token: Option<&str>) -> AwsKeys {
    AwsKeys {
        access_key_id: id.to_owned(),
        secret_access_key: Secret::from(secret.to_owned()),
        session_token: token.map(|token| Secret::from(token.to_owned())),
    }
}

fn field<'a>(signed: &'a Signed, name: &str) -> &'a str {
    signed.headers.iter().find(|(own, _)| *own == name).and_then(|(_, value)| value.expose_str()).unwrap_or_default()
}

fn signature(signed: &Signed) -> &str {
    field(signed, "authorization").rsplit("Signature=").next().unwrap_or_default()
}

/// AWS's published suite, of 2015-08-30T12:36:00Z: method, path, query, session token, signature.
#[test]
fn the_published_suite() {
    let token = Some("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267");
    let cases = [
        ("GET", "/", None, None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", None, None, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("GET", "/", None, token, "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"),
        ("GET", "", None, None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/example/..", None, None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/example1/example2/../..",
            None,
            None,
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        ("GET", "/./", None, None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "//", None, None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/./example", None, None, "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
        ("GET", "//example//", None, None, "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        ("GET", "/example space/", None, None, "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
        (
            "GET",
            "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            None,
            None,
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        ("GET", "/\u{1234}", None, None, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("GET", "/", Some("Param1=value1"), None, "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ("GET", "/", Some(""), None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/",
            Some("Param2=value2&Param1=value1"),
            None,
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/",
            Some(
                "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            ),
            None,
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        ("GET", "/", Some("\u{1234}=bar"), None, "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        ("POST", "/", Some("Param1=value1"), None, "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        (
            "GET",
            "/example1/example2/../../",
            None,
            None,
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
    ];
    let time = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
    for (method, path, query, token, expected) in cases {
        let request = Request { method, path, query, headers: &[("Host", b"example.amazonaws.com")] };
        let scope = Scope { service: "service", region: "us-east-1" };
        let signed = sign(&request, &Payload::of_body(b""), &keys("AKIDEXAMPLE", SECRET, token), &scope, time);
        assert_eq!(signature(&signed.expect("signed")), expected, "{method} {path} {query:?}");
    }
}

/// The example of S3's documentation: 66,560 bytes of `a` in chunks of 64 KiB.
#[test]
fn the_published_example_of_a_streamed_body() {
    let time = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
    let headers: [(&str, &[u8]); 5] = [
        ("host", b"s3.amazonaws.com"),
        ("x-amz-storage-class", b"REDUCED_REDUNDANCY"),
        ("content-encoding", b"aws-chunked"),
        ("x-amz-decoded-content-length", b"66560"),
        ("content-length", b"66824"),
    ];
    let request = Request { method: "PUT", path: "/examplebucket/chunkObject.txt", query: None, headers: &headers };
    let scope = Scope { service: "s3", region: "us-east-1" };
    let keys = keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None);
    let mut signed = sign(&request, &Payload::Streaming, &keys, &scope, time).expect("signed");
    let mut resigner = signed.resigner.take().expect("a resigner");
    // The documentation also signs `content-encoding` and `content-length`, so its chain begins from its own seed.
    resigner.previous = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".to_owned();
    let body = chunked(&[&[b'a'; 65536], &[b'a'; 1024]], None);
    assert_eq!(body.len(), 66_824);
    let mut out = Vec::new();
    resigner.push(&body, &mut out).expect("pushed");
    resigner.finish().expect("whole");
    let text = String::from_utf8(out).expect("text");
    let found: Vec<&str> = text.split("chunk-signature=").skip(1).filter_map(|part| part.get(..64)).collect();
    assert_eq!(
        found,
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ]
    );
}

/// A body as a client sends it, signed with keys that are worth nothing.
fn chunked(chunks: &[&[u8]], trailer: Option<&str>) -> Vec<u8> {
    let worthless = "0".repeat(64);
    let mut body = Vec::new();
    for chunk in chunks {
        body.extend_from_slice(format!("{:x};chunk-signature={worthless}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("0;chunk-signature={worthless}\r\n").as_bytes());
    if let Some(trailer) = trailer {
        body.extend_from_slice(format!("{trailer}\r\nx-amz-trailer-signature:{worthless}\r\n").as_bytes());
    }
    body.extend_from_slice(b"\r\n");
    body
}

fn resigner(trailers: bool) -> Resigner {
    let request = Request { method: "PUT", path: "/b/k", query: None, headers: &[("host", b"s3.example.com")] };
    let scope = Scope { service: "s3", region: "us-east-1" };
    let payload = if trailers { Payload::StreamingTrailer } else { Payload::Streaming };
    let signed =
        sign(&request, &payload, &keys("AKIA1", SECRET, None), &scope, UNIX_EPOCH + Duration::from_secs(1_440_938_160));
    signed.expect("signed").resigner.expect("a resigner")
}

fn resigned(body: &[u8], trailers: bool) -> Result<Vec<u8>, ChunkError> {
    let (mut resigner, mut out) = (resigner(trailers), Vec::new());
    resigner.push(body, &mut out)?;
    resigner.finish().map(|()| out)
}

#[test]
fn what_is_no_body_of_signed_chunks_is_refused() {
    let good = String::from_utf8(chunked(&[b"abc"], None)).expect("text");
    let zeros = "0".repeat(64);
    let cases = [
        (good.replace("chunk-signature", "chunk-x"), ChunkError::Head),
        (good.replace("3;", "3 ;"), ChunkError::Head),
        (good.replace("3;", "+3;"), ChunkError::Head),
        (good.replace("3;", ";"), ChunkError::Head),
        (good.replace("3;chunk-signature=0", "3;chunk-signature="), ChunkError::Head),
        (good.replace("3;", "100001;"), ChunkError::Large),
        (good.replace("3;", "fffffffff;"), ChunkError::Large),
        (good.replace("abc", "abcd"), ChunkError::End),
        (good.replace('\r', ""), ChunkError::Head),
        (format!("{good}x"), ChunkError::Behind),
        (good.trim_end().to_owned(), ChunkError::Early),
        (good.replace(&format!("0;chunk-signature={zeros}\r\n\r\n"), ""), ChunkError::Early),
        (String::new(), ChunkError::Early),
        ("1".repeat(600), ChunkError::Head),
        (good.replace("\r\n\r\n", "\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"), ChunkError::Trailer),
    ];
    for (body, expected) in cases {
        assert_eq!(resigned(body.as_bytes(), false), Err(expected), "{body:?}");
    }
    let unsigned = good.replace("\r\n\r\n", "\r\nx-amz-checksum-crc32:AAAA\r\n\r\n");
    assert_eq!(resigned(unsigned.as_bytes(), true), Err(ChunkError::Trailer));
    assert_eq!(resigned(good.as_bytes(), true), Err(ChunkError::Trailer), "trailers that were announced must come");
}

#[test]
fn another_ones_signature_in_the_query_is_refused() {
    let scope = Scope { service: "s3", region: "us-east-1" };
    for query in ["X-Amz-Signature=0", "a=b&x%2Damz-credential=x", "AWSAccessKeyId=AKIA"] {
        let request = Request { method: "GET", path: "/", query: Some(query), headers: &[("host", b"h")] };
        let refused = sign(&request, &Payload::Unsigned, &keys("AKIA1", SECRET, None), &scope, UNIX_EPOCH);
        assert_eq!(refused.err(), Some(SignError::Presigned), "{query}");
    }
}

#[test]
fn what_the_client_said_of_its_body() {
    let hash = Payload::of_body(b"");
    let cases = [
        (super::EMPTY_SHA256, Some(hash)),
        ("UNSIGNED-PAYLOAD", Some(Payload::Unsigned)),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", Some(Payload::Streaming)),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", Some(Payload::StreamingTrailer)),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", Some(Payload::StreamingUnsignedTrailer)),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", None),
        ("e3b0", None),
        ("", None),
    ];
    for (word, expected) in cases {
        assert_eq!(Payload::of_field(word.as_bytes()), expected, "{word}");
    }
}

/// What AWS's own crate makes of the same request.
fn by_aws(
    request: &Request<'_>,
    service: &str,
    body: SignableBody<'_>,
    token: Option<&str>,
    time: SystemTime,
) -> String {
    let credentials = aws_credential_types::Credentials::new("AKIA1", SECRET, token.map(str::to_owned), None, "test");
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name(service)
        .time(time)
        .settings(settings)
        .build()
        .expect("parameters");
    let uri = format!("https://h.example.com{}?{}", request.path, request.query.unwrap_or_default());
    let headers: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, value)| (*name, std::str::from_utf8(value).expect("text"))).collect();
    let signable = SignableRequest::new(request.method, uri, headers.into_iter(), body).expect("a request");
    aws_sigv4::http_request::sign(signable, &params.into()).expect("signed").signature().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_same_signature_as_aws_own_crate(
        method in "GET|PUT|POST|DELETE",
        path in "(/([A-Za-z0-9._~-]|%[0-9A-F]{2}){0,8}){1,4}",
        query in "(([A-Za-z0-9._~+-]|%[2-7][0-9A-F]){1,6}(=([A-Za-z0-9._~+/-]|%[2-7][0-9A-F]){0,6})?&){0,3}[a-z]{0,2}",
        value in "[ -~]{0,20}",
        token in proptest::option::of("[A-Za-z0-9+/=]{1,40}"),
        body in proptest::collection::vec(any::<u8>(), 0..64),
        s3: bool,
        seconds in 0u64..4_000_000_000,
    ) {
        let service = if s3 { "s3" } else { "execute-api" };
        // S3's canonical path is escaped from what is decoded, which AWS's crate takes as it stands.
        prop_assume!(!s3 || super::canonical::path(&path, true) == path);
        prop_assume!(!super::canonical::is_presigned(&query));
        let headers: [(&str, &[u8]); 3] =
            [("host", b"h.example.com"), ("content-type", b"text/plain"), ("x-amz-meta-a", value.as_bytes())];
        let request = Request { method: &method, path: &path, query: Some(&query), headers: &headers };
        let scope = Scope { service, region: "eu-central-1" };
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        let own = sign(&request, &Payload::of_body(&body), &keys("AKIA1", SECRET, token.as_deref()), &scope, time);
        let theirs = by_aws(&request, service, SignableBody::Bytes(&body), token.as_deref(), time);
        let own = own.expect("signed");
        prop_assert_eq!(signature(&own), theirs);
    }

    #[test]
    fn the_canonical_forms_are_stable(path in "(/[ -~]{0,8}){1,4}", query in "[ -~]{0,40}") {
        let once = super::canonical::path(&path, true);
        prop_assert_eq!(super::canonical::path(&once, true), once);
        let once = super::canonical::query(&query);
        prop_assert_eq!(super::canonical::query(&once), once);
    }

    #[test]
    fn chunks_are_signed_the_same_over_any_splits_and_as_aws_signs_them(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..4),
        cuts in proptest::collection::vec(1usize..200, 0..30),
        trailers: bool,
    ) {
        let parts: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        let body = chunked(&parts, trailers.then_some("x-amz-checksum-crc32c:sOO8/Q=="));
        let whole = resigned(&body, trailers).expect("resigned");
        prop_assert_eq!(whole.len(), body.len());
        let (mut resigner, mut out, mut rest) = (resigner(trailers), Vec::new(), body.as_slice());
        let mut previous = resigner.previous.clone();
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            resigner.push(now, &mut out).expect("pushed");
            rest = later;
        }
        resigner.push(rest, &mut out).expect("pushed");
        prop_assert!(resigner.finish().is_ok());
        prop_assert_eq!(&out, &whole);

        let credentials = aws_credential_types::Credentials::new("AKIA1", SECRET, None, None, "test");
        let identity = credentials.into();
        let time = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let params = v4::SigningParams::builder()
            .identity(&identity).region("us-east-1").name("s3").time(time).settings(()).build().expect("parameters");
        let text = String::from_utf8_lossy(&whole).into_owned();
        let found: Vec<&str> = text.split("chunk-signature=").skip(1).filter_map(|part| part.get(..64)).collect();
        prop_assert_eq!(found.len(), parts.len() + 1);
        for (chunk, found) in parts.iter().copied().chain([&b""[..]]).zip(found) {
            previous = v4::sign_chunk(&chunk.to_vec().into(), &previous, &params).expect("signed").signature().to_owned();
            prop_assert_eq!(found, &previous);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), trailers: bool) {
        let _ = resigned(&bytes, trailers);
    }
}

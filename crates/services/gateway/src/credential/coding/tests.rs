//! Each coding, whole, cut and broken.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::io::Write as _;

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use http::HeaderValue;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

fn encoded(coding: &str, data: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "raw" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(data).unwrap();
            out
        }
        _ => {
            let mut out = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
            zstd_safe::compress(&mut out, data, 3).unwrap();
            out
        }
    }
}

fn decoder(coding: &str) -> Decoder {
    let mut headers = HeaderMap::new();
    let name = if coding == "raw" { "deflate" } else { coding };
    headers.insert(CONTENT_ENCODING, HeaderValue::from_str(name).unwrap());
    Decoder::of(&headers).unwrap().unwrap()
}

/// What comes of these pieces, and the most that one step made.
fn decoded(coding: &str, pieces: &[&[u8]]) -> io::Result<(Vec<u8>, usize)> {
    let mut decoder = decoder(coding);
    let (mut out, mut most) = (Vec::new(), 0);
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            let before = out.len();
            let step = decoder.step(&mut input, &mut out)?;
            most = most.max(out.len() - before);
            if step == Step::Hungry {
                assert!(input.is_empty());
                break;
            }
        }
    }
    let began = pieces.iter().any(|piece| !piece.is_empty());
    decoder.finish(began, &mut out)?;
    Ok((out, most))
}

const CODINGS: [&str; 5] = ["gzip", "deflate", "raw", "br", "zstd"];

#[test]
fn each_coding_is_undone_byte_by_byte_and_in_bounded_steps() {
    let data: Vec<u8> = (0..20_000u32).flat_map(|number| (number % 700).to_le_bytes()).collect();
    for coding in CODINGS {
        let bytes = encoded(coding, &data);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert!(decoded(coding, &single).unwrap().0 == data, "{coding}");
        let bomb = encoded(coding, &vec![0; 30_000_000]);
        let (out, most) = decoded(coding, &[&bomb]).unwrap();
        assert_eq!(out.len(), 30_000_000, "{coding}");
        assert!(most <= 1_200_000, "{coding}: {most} bytes in one step");
    }
}

#[test]
fn what_is_cut_short_or_broken_is_an_error() {
    let data = b"some text that is encoded and cut".repeat(50);
    for coding in CODINGS {
        let bytes = encoded(coding, &data);
        assert!(decoded(coding, &[&bytes[..bytes.len() / 2]]).is_err(), "{coding} cut");
        assert!(
            decoded(coding, &[b"\xff\x99no such thing at all, in no coding\x00\x01\x02"]).is_err(),
            "{coding} broken"
        );
        assert_eq!(decoded(coding, &[b""]).unwrap().0, b"", "nothing is whole: the answer to HEAD");
    }
    let twice = [encoded("zstd", b"one "), encoded("zstd", b"two")].concat();
    assert_eq!(decoded("zstd", &[&twice]).unwrap().0, b"one two");
    let twice = [encoded("gzip", b"one "), encoded("gzip", b"two")].concat();
    assert_eq!(decoded("gzip", &[&twice]).unwrap().0, b"one two");
}

#[test]
fn what_is_made_comes_out_before_the_end() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let part = match coding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(b"data: 1\n\n").unwrap();
                encoder.flush().unwrap();
                encoder.get_ref().clone()
            }
            "deflate" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(b"data: 1\n\n").unwrap();
                encoder.flush().unwrap();
                encoder.get_ref().clone()
            }
            "br" => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
                encoder.write_all(b"data: 1\n\n").unwrap();
                encoder.flush().unwrap();
                encoder.get_ref().clone()
            }
            _ => {
                let mut context = zstd_safe::CCtx::create();
                let mut out = Vec::with_capacity(1024);
                let mut target = OutBuffer::around(&mut out);
                let mut source = InBuffer::around(b"data: 1\n\n");
                context.compress_stream(&mut target, &mut source).unwrap();
                context.flush_stream(&mut target).unwrap();
                out
            }
        };
        let mut decoder = decoder(coding);
        let (mut input, mut out) = (Bytes::from(part), Vec::new());
        while decoder.step(&mut input, &mut out).unwrap() == Step::Again {}
        assert_eq!(out, b"data: 1\n\n", "{coding}");
    }
}

#[test]
fn two_codings_and_unknown_ones_are_refused() {
    for (values, refused) in [
        (&["compress"][..], true),
        (&["gzip, br"], true),
        (&["gzip", "gzip"], true),
        (&["identity", ""], false),
        (&["GZIP, identity"], false),
    ] {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(Decoder::of(&headers).is_err(), refused, "{values:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn cuts_change_nothing(data in vec(0u8..4, 0..3000), cuts in vec(any::<Index>(), 0..4)) {
        for coding in CODINGS {
            let bytes = encoded(coding, &data);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(&decoded(coding, &pieces).unwrap().0, &data);
        }
    }
}

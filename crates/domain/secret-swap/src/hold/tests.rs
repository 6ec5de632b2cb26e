//! What waits tells nothing of a secret.

use proptest::{collection::vec, prelude::*};
use values::Secret;

use super::*;
use crate::Masked;

fn mask(text: &str) -> Arc<Mask> {
    let secret = Secret::from(text.to_owned());
    Arc::new(Mask::new([Masked { secret: &secret, placeholder: None }]).unwrap())
}

fn passed(masking: &mut Masking, piece: &[u8]) -> Vec<u8> {
    masking.push(Bytes::copy_from_slice(piece)).concat()
}

/// How long everything is that goes on, push by push.
fn lengths(secret: &str, ends: Ends, pieces: &[Vec<u8>]) -> Vec<usize> {
    let mut masking = Masking::new(mask(secret), ends);
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(masking.push(Bytes::copy_from_slice(piece)).map(|part| part.len()));
    }
    out.push(masking.finish().len());
    out
}

#[test]
fn the_last_bytes_wait_whatever_they_are_and_lines_do_not() {
    let mut masking = Masking::new(mask("ghp_16C7e42F"), Ends::Whole);
    assert_eq!(passed(&mut masking, b"data: 1\n\n"), b"data: 1\n\n");
    assert!(masking.is_clear());
    for piece in [&b"data: ghp_1"[..], b"data: ghp_2", b" . "] {
        assert_eq!(passed(&mut masking, piece), b"");
    }
    assert_eq!(passed(&mut masking, b"\n\nx"), b"data: ghp_1data: ghp_2 . \n\n");
    assert_eq!(passed(&mut masking, &[b'y'; 1000]).len(), 1001 - 256);
    assert_eq!(masking.finish().len(), 256);
}

#[test]
fn a_secret_of_lines_makes_lines_wait() {
    let mut masking = Masking::new(mask("a first line\nand a second"), Ends::Whole);
    assert_eq!(passed(&mut masking, b"a first line\n"), b"");
    assert_eq!(passed(&mut masking, b"and a second"), b"");
    assert_eq!(masking.finish(), "*".repeat(25));
}

#[test]
fn a_message_of_a_remote_call_goes_on_at_its_end_where_its_piece_ends_too() {
    let mut masking = Masking::new(mask("ghp_16C7e42F"), Ends::Messages);
    assert_eq!(passed(&mut masking, b"\0\0\0\0\x05ghp"), b"");
    assert_eq!(passed(&mut masking, b"_1"), b"\0\0\0\0\x05ghp_1");
    assert_eq!(passed(&mut masking, b"\0\0\0\0\x05ghp_16C7e42F"), b"", "cut by whoever chose how it begins");
    assert_eq!(masking.finish(), "\0\0\0\0\x05************");
}

#[test]
fn what_goes_on_of_a_masked_secret_is_not_looked_at_again() {
    let text = [&[b'.'; 300][..], b"ghp_16C7e42F", &[b'.'; 300]].concat();
    let wanted = [&[b'.'; 300][..], &[b'*'; 12], &[b'.'; 300]].concat();
    for size in 1..300 {
        let mut masking = Masking::new(mask("ghp_16C7e42F"), Ends::Whole);
        let mut out: Vec<u8> = text.chunks(size).flat_map(|piece| passed(&mut masking, piece)).collect();
        out.extend_from_slice(&masking.finish());
        assert_eq!(out, wanted, "{size}");
    }
}

/// Pieces of text, of guesses and of secrets.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let guess = (prop::sample::select(vec![ONE, OTHER]), any::<prop::sample::Index>());
    prop_oneof![
        guess.prop_map(|(text, until)| text.as_bytes()[..=until.index(text.len())].to_vec()),
        "[ -~\n]{0,40}".prop_map(String::into_bytes),
        (0..700_usize).prop_map(|length| vec![b'x'; length]),
        Just(b"\0\0\0\0\x08".to_vec()),
    ]
}

const ONE: &str = "ghp_16C7e42F292c6912";
const OTHER: &str = "sk-live+/9f8e7d6c5b4a";

proptest! {
    /// When how much goes on is the same for every secret, right guesses and whole ones included.
    #[test]
    fn how_pieces_go_on_is_the_same_for_every_secret(pieces in vec(piece(), 0..12)) {
        for ends in [Ends::Whole, Ends::Messages] {
            prop_assert_eq!(lengths(ONE, ends, &pieces), lengths(OTHER, ends, &pieces));
        }
    }

    /// Nothing of a secret goes on, wherever it is cut.
    #[test]
    fn no_secret_comes_through(pieces in vec(piece(), 0..12)) {
        let mask = mask(ONE);
        let mut masking = Masking::new(Arc::clone(&mask), Ends::Whole);
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| passed(&mut masking, piece)).collect();
        out.extend_from_slice(&masking.finish());
        prop_assert!(!mask.finds(&out));
        let mut whole = Masking::new(mask, Ends::Whole);
        let mut once = passed(&mut whole, &pieces.concat());
        once.extend_from_slice(&whole.finish());
        prop_assert_eq!(out, once);
    }
}

//! Session tokens of IMDSv2: whoever was answered to a PUT may ask until its time is over.
//!
//! They keep out what forwards a GET for somebody else, and guard no secret. A token says when it ends and is signed by a
//! key of this run, so that none has to be remembered and a flood of them costs nothing.

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;

/// The longest that one may live, in seconds.
pub(super) const LONGEST: i64 = 21_600;
/// The bytes of a time.
const TIME: usize = 8;

/// The key of one run's tokens.
pub(crate) struct Sessions(hmac::Key);

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions(…)")
    }
}

impl Sessions {
    /// With a new key.
    pub(crate) fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new()).map(Self)
    }

    /// A token that ends at this second since the epoch.
    pub(super) fn issue(&self, until: i64) -> String {
        let time = until.to_be_bytes();
        let mut token = time.to_vec();
        token.extend_from_slice(hmac::sign(&self.0, &time).as_ref());
        BASE64URL_NOPAD.encode(&token)
    }

    /// Whether a token is ours and has not ended.
    pub(super) fn holds(&self, token: &str, now: i64) -> bool {
        let Ok(token) = BASE64URL_NOPAD.decode(token.as_bytes()) else { return false };
        let Some((time, tag)) = token.split_first_chunk::<TIME>() else { return false };
        hmac::verify(&self.0, time, tag).is_ok() && now < i64::from_be_bytes(*time)
    }
}

#[cfg(test)]
mod tests {
    use super::Sessions;

    #[test]
    fn a_token_holds_until_its_end_and_no_other_does() {
        let (sessions, others) = (Sessions::new().unwrap(), Sessions::new().unwrap());
        let token = sessions.issue(100);
        assert!(sessions.holds(&token, 99) && !sessions.holds(&token, 100) && !others.holds(&token, 99));
        let mut longer = token.clone().into_bytes();
        longer[9] = if longer[9] == b'A' { b'B' } else { b'A' };
        assert!(!sessions.holds(std::str::from_utf8(&longer).unwrap(), 99), "a later end is not signed");
        for odd in ["", "AAAA", "§", &token[1..], &format!("{token}A")] {
            assert!(!sessions.holds(odd, 0), "{odd:?}");
        }
    }
}

//! What the sandbox holds in place of a secret: of its shape, made once for a run, and worth nothing outside.

use data_encoding::BASE64URL_NOPAD;
use policy::model::credential::Format;

const BASE62: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What 32 bytes in base64url end with: two bits of the last character are none of theirs, and zero (RFC 4648, 3.5).
const LAST_OF_32: &[u8] = b"AEIMQUYcgkosw048";
const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const DIGITS: &[u8] = b"0123456789";

/// What the sandbox holds in place of a secret. It is no secret: whoever has it has nothing.
///
/// It has at least 128 random bits, but for GitLab's shape, which has room for 120.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    text: String,
    key_id: Option<String>,
}

impl Placeholder {
    /// Makes one of this shape. `fill` gives random bytes.
    pub fn make(format: Format, fill: impl FnMut(&mut [u8])) -> Self {
        let mut random = Random { fill };
        let mut of = |prefix: &str, alphabet: &[u8], count: usize| {
            let mut text = prefix.to_owned();
            random.append(&mut text, alphabet, count);
            text
        };
        let mut key_id = None;
        let text = match format {
            Format::Plain => of("cofferdam-placeholder-", BASE62, 24),
            Format::Github => of("ghp_", BASE62, 36),
            Format::Gitlab => of("glpat-", BASE64URL, 20),
            Format::Openai => of("sk-", BASE62, 48),
            Format::Anthropic => of("sk-ant-api03-", BASE64URL, 93) + "AA",
            Format::Slack => {
                let team = of("xoxb-", DIGITS, 12);
                let bot = of(&(team + "-"), DIGITS, 13);
                of(&(bot + "-"), BASE62, 24)
            }
            Format::Aws => {
                key_id = Some(of("AKIA", BASE32, 16));
                of("", BASE62, 40)
            }
            Format::Jwt => {
                let id = of("", BASE62, 24);
                let third = of("", BASE64URL, 42);
                jwt(&id, &of(&third, LAST_OF_32, 1))
            }
            Format::Google => of("ya29.", BASE64URL, 160),
        };
        Self { text, key_id }
    }

    /// What stands for the secret: ASCII letters, digits, `-`, `_` and `.` alone.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The access key id beside it, for AWS keys.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }
}

/// An unsigned token (`alg` is `none`) of no tenant (`tid`, which the command of Azure looks for) that expires in the year
/// 2100. Its third part is there for clients that count.
fn jwt(id: &str, third: &str) -> String {
    let header = BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
    let claims = format!(
        r#"{{"iss":"https://cofferdam.invalid","sub":"placeholder","aud":"placeholder","iat":1577836800,"exp":4102444800,"tid":"00000000-0000-0000-0000-000000000000","jti":"{id}"}}"#
    );
    let claims = BASE64URL_NOPAD.encode(claims.as_bytes());
    format!("{header}.{claims}.{third}")
}

struct Random<F> {
    fill: F,
}

impl<F: FnMut(&mut [u8])> Random<F> {
    /// Each character as likely as the others: bytes of the last, incomplete round are drawn again.
    fn append(&mut self, text: &mut String, alphabet: &[u8], count: usize) {
        let whole = 256 - 256 % alphabet.len();
        let end = text.len() + count;
        let mut bytes = [0; 64];
        while text.len() < end {
            (self.fill)(&mut bytes);
            let drawn = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < whole);
            let characters = drawn.filter_map(|byte| alphabet.get(byte % alphabet.len()));
            text.extend(characters.take(end - text.len()).map(|byte| char::from(*byte)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [Format; 9] = [
        Format::Plain,
        Format::Github,
        Format::Gitlab,
        Format::Openai,
        Format::Anthropic,
        Format::Slack,
        Format::Aws,
        Format::Jwt,
        Format::Google,
    ];

    /// Random enough to see what is drawn (xorshift).
    fn counter() -> impl FnMut(&mut [u8]) {
        let mut state = 0x9e37_79b9_u32;
        move |bytes| {
            for byte in bytes {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                *byte = state as u8;
            }
        }
    }

    #[test]
    fn each_has_the_shape_of_its_kind_and_stands_anywhere_unescaped() {
        for (format, prefix, length) in [
            (Format::Plain, "cofferdam-placeholder-", 46),
            (Format::Github, "ghp_", 40),
            (Format::Gitlab, "glpat-", 26),
            (Format::Openai, "sk-", 51),
            (Format::Anthropic, "sk-ant-api03-", 108),
            (Format::Slack, "xoxb-", 56),
            (Format::Google, "ya29.", 165),
        ] {
            let made = Placeholder::make(format, counter());
            assert!(made.text().starts_with(prefix) && made.text().len() == length, "{made:?}");
            assert_eq!(made.key_id(), None);
        }
        let aws = Placeholder::make(Format::Aws, counter());
        assert!(aws.key_id().unwrap().starts_with("AKIA") && aws.key_id().unwrap().len() == 20);
        assert_eq!(aws.text().len(), 40);
        for format in FORMATS {
            let made = Placeholder::make(format, counter());
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            assert!(made.text().bytes().all(plain), "{made:?}");
        }
    }

    #[test]
    fn a_json_web_token_can_be_decoded_and_is_far_from_its_end() {
        let made = Placeholder::make(Format::Jwt, counter());
        let parts: Vec<&str> = made.text().split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims = BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["exp"], 4_102_444_800_u64);
        let header = BASE64URL_NOPAD.decode(parts[0].as_bytes()).unwrap();
        assert_eq!(header, br#"{"alg":"none","typ":"JWT"}"#);
        let mut fill = counter();
        for _ in 0..100 {
            let made = Placeholder::make(Format::Jwt, &mut fill);
            let third = made.text().rsplit('.').next().unwrap();
            assert_eq!(BASE64URL_NOPAD.decode(third.as_bytes()).unwrap().len(), 32, "clients decode it: {third}");
        }
    }

    #[test]
    fn no_two_are_the_same_where_the_bytes_differ() {
        for format in FORMATS {
            let mut fill = counter();
            let one = Placeholder::make(format, &mut fill);
            assert_ne!(one, Placeholder::make(format, &mut fill));
        }
    }
}

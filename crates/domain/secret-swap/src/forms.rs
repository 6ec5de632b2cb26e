//! The ways a secret can be written by a server that sends it back.
//!
//! As it is; in base64 and base64url at each of the three places in a group of bytes, as it stands in text that was
//! encoded with more before and behind it (`Authorization: Basic …`); percent-encoded and escaped for
//! JSON, once and twice; escaped for HTML; in hexadecimal; in one case; in UTF-16. Other changes (reversed, encrypted, in pieces) are not looked for.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use zeroize::Zeroizing;

/// Bytes to look for, wiped when dropped.
pub(crate) type Form = Zeroizing<Vec<u8>>;

/// The shortest text that is looked for in place of the secret itself: shorter ones stand in other text by chance.
const SHORTEST: usize = 6;

/// Every form once, the secret as it is first. Nothing for an empty one.
pub(crate) fn forms(secret: &[u8]) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    if secret.is_empty() {
        return forms;
    }
    forms.push(Zeroizing::new(secret.to_vec()));
    let mut add = |form: Form| {
        if form.len() >= SHORTEST && !forms.contains(&form) {
            forms.push(form);
        }
    };
    for before in 0..3 {
        for at_end in [true, false] {
            for url in [false, true] {
                add(base64(secret, before, at_end, url));
            }
        }
    }
    for (kept, upper) in [("", true), ("", false), ("/", true)] {
        let once = percent(secret, kept.as_bytes(), upper);
        add(percent(&once, kept.as_bytes(), upper));
        add(once);
    }
    if let Ok(text) = std::str::from_utf8(secret) {
        for style in [Json::Plain, Json::Slashes, Json::Ascii] {
            let once = json(text, style);
            if let Ok(text) = std::str::from_utf8(&once) {
                add(json(text, style));
            }
            add(once);
        }
        add(utf16(text, u16::to_le_bytes));
        add(utf16(text, u16::to_be_bytes));
        add(html(text, "&#39;"));
        add(html(text, "&#x27;"));
        add(Zeroizing::new(text.to_ascii_lowercase().into_bytes()));
        add(Zeroizing::new(text.to_ascii_uppercase().into_bytes()));
    }
    add(Zeroizing::new(HEXLOWER.encode(secret).into_bytes()));
    add(Zeroizing::new(HEXUPPER.encode(secret).into_bytes()));
    forms
}

/// The characters that the secret alone decides where `before` bytes stand before it in its group; those of the last,
/// incomplete group only where nothing follows.
fn base64(secret: &[u8], before: usize, at_end: bool, url: bool) -> Form {
    let mut bytes = Zeroizing::new(vec![0; before]);
    bytes.extend_from_slice(secret);
    let whole = bytes.len() * 8;
    let encoded = if url { BASE64URL_NOPAD.encode(&bytes) } else { BASE64_NOPAD.encode(&bytes) };
    let encoded = Zeroizing::new(encoded.into_bytes());
    let start = (before * 8).div_ceil(6);
    let end = if at_end { encoded.len() } else { whole / 6 };
    Zeroizing::new(encoded.get(start..end).unwrap_or_default().to_vec())
}

/// Percent-encoded but for letters, digits, `-._~` and what is kept.
pub(crate) fn percent(bytes: &[u8], kept: &[u8], upper: bool) -> Form {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() * 3));
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || kept.contains(byte) {
            out.push(*byte);
        } else {
            out.push(b'%');
            let digits = if upper { HEXUPPER } else { HEXLOWER };
            out.extend_from_slice(digits.encode(&[*byte]).as_bytes());
        }
    }
    out
}

/// How a string of JSON is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Json {
    /// What must be.
    Plain,
    /// `/` as well.
    Slashes,
    /// `<`, `>`, `&` and everything beyond ASCII as well.
    Ascii,
}

/// The inside of a string of JSON.
pub(crate) fn json(text: &str, style: Json) -> Form {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    for c in text.chars() {
        let short = match c {
            '"' | '\\' => Some(c as u8),
            '/' if style == Json::Slashes => Some(b'/'),
            '\u{8}' => Some(b'b'),
            '\u{c}' => Some(b'f'),
            '\n' => Some(b'n'),
            '\r' => Some(b'r'),
            '\t' => Some(b't'),
            _ => None,
        };
        let long = c < ' ' || (style == Json::Ascii && (matches!(c, '<' | '>' | '&' | '\u{7f}') || !c.is_ascii()));
        if let Some(letter) = short {
            out.extend_from_slice(&[b'\\', letter]);
        } else if long {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    out
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Form {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    for unit in text.encode_utf16() {
        out.extend_from_slice(&bytes(unit));
    }
    out
}

fn html(text: &str, apostrophe: &str) -> Form {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    for c in text.chars() {
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\'' => out.extend_from_slice(apostrophe.as_bytes()),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    fn has(secret: &str, form: &str) -> bool {
        forms(secret.as_bytes()).iter().any(|known| known.as_slice() == form.as_bytes())
    }

    #[test]
    fn base64_is_found_wherever_the_secret_stands_in_what_was_encoded() {
        let secret = "sk-9f/+~8c7e5d";
        let forms = forms(secret.as_bytes());
        for before in ["", "u", "us", "user:", "x-access-token:"] {
            for behind in ["", "x", "xy", ":x-oauth-basic"] {
                let encoded = BASE64.encode(format!("{before}{secret}{behind}").as_bytes());
                let longest = forms
                    .iter()
                    .filter(|form| encoded.as_bytes().windows(form.len()).any(|window| window == form.as_slice()))
                    .map(|form| form.len());
                // At most a character at each end is decided by the secret and by its neighbour together.
                assert!(longest.max().unwrap() * 6 + 12 >= secret.len() * 8, "{before} {behind}");
            }
        }
    }

    #[test]
    fn each_escape_is_a_form_of_its_own() {
        let secret = "a/b+c=\"<é>'&";
        assert!(has(secret, "a%2Fb%2Bc%3D%22%3C%C3%A9%3E%27%26"));
        assert!(has(secret, "a%2fb%2bc%3d%22%3c%c3%a9%3e%27%26"));
        assert!(has(secret, "a/b%2Bc%3D%22%3C%C3%A9%3E%27%26"));
        assert!(has(secret, "a/b+c=\\\"<é>'&") && has(secret, "a\\/b+c=\\\"<é>'&"));
        assert!(has(secret, "a/b+c=\\\"\\u003c\\u00e9\\u003e'\\u0026"));
        assert!(has(secret, "a/b+c=&quot;&lt;é&gt;&#39;&amp;"));
        assert!(has(secret, "a%252Fb%252Bc%253D%2522%253C%25C3%25A9%253E%2527%2526"));
        assert!(has(secret, "a/b+c=\\\\\\\"<é>'&") && has(secret, "a\\\\\\/b+c=\\\\\\\"<é>'&"));
        assert!(has(secret, "a/b+c=\\\\\\\"\\\\u003c\\\\u00e9\\\\u003e'\\\\u0026"));
        assert!(has("ab\"cd", "a\0b\0\"\0c\0d\0") && has("ab\"cd", "\0a\0b\0\"\0c\0d"));
        assert!(has("Secret", "secret") && has("Secret", "SECRET") && has("Secret", "536563726574"));
    }

    #[test]
    fn a_plain_secret_has_few_forms_and_an_empty_one_none() {
        let secret = b"ghp_16C7e42F292c6912E7710c838347Ae178B4a";
        let forms = forms(secret);
        assert_eq!(forms.first().map(|form| form.as_slice()), Some(&secret[..]));
        assert!(forms.len() <= 14, "{}", forms.len());
        assert!(super::forms(b"").is_empty());
        assert!(super::forms(b"abc").iter().all(|form| form.len() >= 6 || form.as_slice() == b"abc"));
    }
}

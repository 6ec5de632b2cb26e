//! A value that nobody may see by accident.

use std::fmt;

use zeroize::Zeroizing;

/// A secret: not printed, compared, copied or serialised by accident, and wiped when dropped.
///
/// It has no `PartialEq`, `Clone`, `Display` or serde on purpose; `Debug` says only that there is one. Who needs the value says
/// [`Secret::expose`], which is easy to search for. What is made from it (a header, a signature) is a secret too.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the value over; the given buffer becomes the secret's own and is not copied.
    pub fn new(value: Vec<u8>) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, to be used at once and kept nowhere else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as text; none where it is not UTF-8.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value.into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_debug_form_says_nothing() {
        let secret = Secret::from("canary-7f3a".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(…) Some(Secret(…))");
        assert_eq!(secret.expose_str(), Some("canary-7f3a"));
    }
}

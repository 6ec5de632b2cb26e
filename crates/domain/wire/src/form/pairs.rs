//! `application/x-www-form-urlencoded`: names and values between `&`, to some also `;`.

use super::{Compared, OTHER_METHOD, decode, is_method_name};

/// The longest name that is looked at whole: each character of `_method` may be an escape, and an index may follow.
const NAME_LIMIT: usize = 128;

/// Where in the pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pairs {
    /// Within a name, as sent and without what stands before it.
    Name(Vec<u8>),
    /// Within the field's value.
    Ours(Compared),
    /// Within another's.
    Other,
}

impl Default for Pairs {
    fn default() -> Self {
        Self::Name(Vec::new())
    }
}

impl Pairs {
    pub(super) fn read(&mut self, bytes: &[u8], method: &[u8]) -> Result<(), &'static str> {
        let mut rest = bytes.iter();
        while let Some(byte) = rest.next() {
            match self {
                Self::Other => {
                    if !is_separator(*byte) {
                        let Some(_) = rest.find(|byte| is_separator(**byte)) else { return Ok(()) };
                    }
                    *self = Self::default();
                }
                Self::Ours(compared) if is_separator(*byte) => {
                    compared.end(method)?;
                    *self = Self::default();
                }
                Self::Ours(compared) => compared.take(*byte, method)?,
                Self::Name(name) => match byte {
                    b'=' if is_method_name(&decode(name)) => *self = Self::Ours(Compared::default()),
                    b'=' => *self = Self::Other,
                    _ if is_separator(*byte) => name.clear(),
                    b' ' | b'+' if name.is_empty() => {}
                    _ if name.len() < NAME_LIMIT => name.push(*byte),
                    // It is too long for the field, unless it is blanks or an index that make it long.
                    _ if could_be(name) => return Err(OTHER_METHOD),
                    _ => *self = Self::Other,
                },
            }
        }
        Ok(())
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'&' | b';')
}

/// Whether a name that begins so could still be the field's.
fn could_be(beginning: &[u8]) -> bool {
    let decoded = decode(beginning);
    is_method_name(&decoded) || decoded.iter().all(|byte| matches!(byte, b' ' | b'+' | b'\t' | b'%' | b'2'))
}

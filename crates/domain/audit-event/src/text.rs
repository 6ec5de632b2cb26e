//! Text from the workload, made fit for a record: bounded, one line, nothing that moves a cursor or hides.

/// What stands for the part that was cut off.
const MARK: &str = "…";

/// At most `limit` bytes of a text; control and invisible characters are escaped, a cut is marked with `…`.
///
/// ```
/// use audit_event::bounded;
/// assert_eq!(bounded("two\nlines", 64), "two\\nlines");
/// assert_eq!(bounded("abcdefgh", 6), "abc…");
/// ```
pub fn bounded(text: &str, limit: usize) -> String {
    if text.len() <= limit && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return text.to_owned();
    }
    let mut out = Bounded::new(limit);
    out.push_text(text);
    out.finish()
}

/// The same for bytes that may not be UTF-8: what isn't stands as `\xNN`.
pub fn bounded_bytes(bytes: &[u8], limit: usize) -> String {
    let mut out = Bounded::new(limit);
    for chunk in bytes.utf8_chunks() {
        if !out.push_text(chunk.valid()) {
            break;
        }
        for byte in chunk.invalid() {
            out.push_piece(&format!("\\x{byte:02x}"));
        }
    }
    out.finish()
}

/// A text that doesn't grow past its limit.
struct Bounded {
    text: String,
    limit: usize,
    /// Where the text ends if the mark must still fit behind it.
    with_mark: usize,
    cut: bool,
}

impl Bounded {
    fn new(limit: usize) -> Self {
        Self { text: String::new(), limit, with_mark: 0, cut: false }
    }

    fn push_text(&mut self, text: &str) -> bool {
        let mut buffer = [0; 4];
        for character in text.chars() {
            let pushed = match escaped(character) {
                Some(escape) => self.push_piece(&escape),
                None => self.push_piece(character.encode_utf8(&mut buffer)),
            };
            if !pushed {
                return false;
            }
        }
        true
    }

    /// Adds a piece whole or not at all.
    fn push_piece(&mut self, piece: &str) -> bool {
        if self.cut || self.text.len() + piece.len() > self.limit {
            self.cut = true;
            return false;
        }
        self.text.push_str(piece);
        if self.text.len() + MARK.len() <= self.limit {
            self.with_mark = self.text.len();
        }
        true
    }

    fn finish(mut self) -> String {
        if self.cut {
            self.text.truncate(self.with_mark);
            if self.limit >= MARK.len() {
                self.text.push_str(MARK);
            }
        }
        self.text
    }
}

/// How a character stands that must not be shown as it is.
fn escaped(character: char) -> Option<String> {
    match character {
        '\n' => Some("\\n".into()),
        '\r' => Some("\\r".into()),
        '\t' => Some("\\t".into()),
        '\0'..='\x1f' | '\x7f' => Some(format!("\\x{:02x}", u32::from(character))),
        // C1 controls move the cursor like C0; the others turn, hide or break text.
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => Some(format!("\\u{{{:x}}}", u32::from(character))),
        _ => None,
    }
}

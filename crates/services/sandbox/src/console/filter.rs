//! What of the workload's output a terminal is given: everything that draws, nothing that acts.
//!
//! A terminal takes orders in its text: fill the clipboard, say the title (as if it were typed), read a file, print,
//! become another kind of terminal. A sequence is passed on when it is whole and harmless, so a prompt of ours never
//! comes in the middle of one. docs/decisions/terminal-output.md says which are dropped and why.
//!
//! ```text
//! text ─ESC─▶ escape ─[─▶ sequence (CSI) ─final─▶ passed, or not
//!                │────]─▶ command (OSC) ──BEL, ST─▶ passed where it is known
//!                └─P X ^ _ k─▶ string ────ST─▶ dropped
//! ```

/// Which of the complete ones are passed on.
mod harmless;

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;
const CANCEL: [u8; 2] = [0x18, 0x1a];
/// The control characters that are passed: they ring, move the cursor, or choose between two character sets. Of the others
/// some have the terminal answer (0x05), stop (0x13), or receive a file (0x18 begins ZMODEM's frames).
const CONTROLS: std::ops::RangeInclusive<u8> = 0x07..=0x0f;
/// The longest sequence that is passed on.
const SEQUENCE_LIMIT: usize = 256;
/// The longest command that is passed on.
const COMMAND_LIMIT: usize = 4096;

/// Reads output as a terminal does.
#[derive(Debug, Default)]
pub(super) struct Filter {
    state: State,
    /// The sequence so far, or the bytes of a character that is not whole.
    held: Vec<u8>,
    /// It became longer than what is held.
    over: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// An escape with intermediate bytes.
    Intermediate,
    /// After `ESC [`.
    Sequence,
    /// After `ESC ]`.
    Command,
    /// In a command after an escape, which may end it.
    CommandEscape,
    /// In what is dropped up to its end.
    Dropped,
    /// The same after an escape.
    DroppedEscape,
}

impl Filter {
    /// Takes output in pieces, and adds what may be shown.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            if self.state == State::Text && self.held.is_empty() {
                let plain = rest.iter().take_while(|byte| is_plain(**byte)).count();
                if plain > 0 {
                    let (text, behind) = rest.split_at(plain);
                    out.extend_from_slice(text);
                    rest = behind;
                    continue;
                }
            }
            self.take(byte, out);
            rest = behind;
        }
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Text => self.text(byte, out),
            State::Escape => self.escape(byte, out),
            State::Intermediate | State::Sequence => self.sequence(byte, out),
            State::Command => self.command(byte, out),
            State::CommandEscape if byte == b'\\' => self.end_command(b"\x1b\\", out),
            State::DroppedEscape if byte == b'\\' => self.become_text(),
            // Another escape than the one that ends a string ends it too, and begins something new.
            State::CommandEscape | State::DroppedEscape => {
                self.begin();
                self.escape(byte, out);
            }
            State::Dropped => match byte {
                ESCAPE => self.state = State::DroppedEscape,
                _ if CANCEL.contains(&byte) => self.become_text(),
                _ => {}
            },
        }
    }

    /// Characters of UTF-8 are passed whole. What is none of them is passed byte by byte (older character sets), but
    /// for the bytes and characters that are an escape in one: 0x80 to 0x9f.
    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        if !self.held.is_empty() {
            self.held.push(byte);
            match std::str::from_utf8(&self.held) {
                Ok(whole) => {
                    if !whole.chars().any(char::is_control) {
                        out.extend_from_slice(&self.held);
                    }
                    self.held.clear();
                    return;
                }
                Err(error) if error.error_len().is_none() => return,
                Err(_) => {
                    self.held.pop();
                    out.extend(self.held.drain(..).filter(|byte| *byte >= 0xa0));
                }
            }
        }
        match byte {
            ESCAPE => self.begin(),
            0xc2..=0xf4 => self.held.push(byte),
            0xa0.. => out.push(byte),
            _ if is_plain(byte) => out.push(byte),
            0..=0x9f => {}
        }
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b'[' => self.go_on(byte, State::Sequence),
            b']' => self.go_on(byte, State::Command),
            b'P' | b'X' | b'^' | b'_' | b'k' => self.go_on(byte, State::Dropped),
            0x20..=0x2f => self.go_on(byte, State::Intermediate),
            _ => self.sequence(byte, out),
        }
    }

    /// In an escape or a sequence. Control characters in the middle act at once, as in a terminal.
    fn sequence(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            ESCAPE => self.begin(),
            _ if CANCEL.contains(&byte) => self.become_text(),
            _ if CONTROLS.contains(&byte) => out.push(byte),
            0..=0x1f | 0x7f => {}
            0x20..=0x2f => self.hold(byte, SEQUENCE_LIMIT),
            0x30..=0x3f if self.state == State::Sequence => self.hold(byte, SEQUENCE_LIMIT),
            0x30..=0x7e => {
                self.hold(byte, SEQUENCE_LIMIT);
                if !self.over && harmless::sequence(&self.held) {
                    out.extend_from_slice(&self.held);
                }
                self.become_text();
            }
            0x80.. => {
                self.become_text();
                self.text(byte, out);
            }
        }
    }

    fn command(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            BELL => self.end_command(b"\x07", out),
            ESCAPE => self.state = State::CommandEscape,
            _ if CANCEL.contains(&byte) => self.become_text(),
            _ => {
                self.hold(byte, COMMAND_LIMIT);
                // The Linux console's colours: without an end.
                let palette = self.held.get(2) == Some(&b'P') && self.held.len() == 10;
                if palette || self.held == b"\x1b]R" {
                    self.become_text();
                }
            }
        }
    }

    fn end_command(&mut self, terminator: &[u8], out: &mut Vec<u8>) {
        let body = self.held.get(2..).and_then(|body| std::str::from_utf8(body).ok());
        if let Some(command) = body.filter(|_| !self.over).and_then(harmless::command) {
            out.extend_from_slice(b"\x1b]");
            out.extend_from_slice(command.as_bytes());
            out.extend_from_slice(terminator);
        }
        self.become_text();
    }

    fn begin(&mut self) {
        self.become_text();
        self.go_on(ESCAPE, State::Escape);
    }

    fn go_on(&mut self, byte: u8, state: State) {
        self.held.push(byte);
        self.state = state;
    }

    fn hold(&mut self, byte: u8, limit: usize) {
        if self.held.len() < limit {
            self.held.push(byte);
        } else {
            self.over = true;
        }
    }

    fn become_text(&mut self) {
        self.held.clear();
        self.over = false;
        self.state = State::Text;
    }
}

/// What is passed without a look.
fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) || CONTROLS.contains(&byte)
}

#[cfg(test)]
mod tests;

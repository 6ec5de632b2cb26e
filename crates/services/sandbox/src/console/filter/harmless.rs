//! Which complete sequences a terminal is given.
//!
//! Sequences that move, draw, and set modes are passed unless they stand here: new ones are mostly of that kind.
//! Commands are passed only when they stand here: new ones mostly act.

/// Windows are told where to be, and what they are called, by their owner. These only ask for sizes, or keep a title.
const WINDOW_REQUESTS: [&str; 9] = ["11", "13", "14", "15", "16", "18", "19", "22", "23"];
/// Modes in which a terminal reads another language (VT52, Tektronix), or types in one (Win32), and a log file.
const MODES: [&str; 4] = ["2", "38", "46", "9001"];
/// The longest title, in characters.
const TITLE_LIMIT: usize = 200;
/// The longest address behind a link.
const LINK_LIMIT: usize = 2083;

/// Whether an escape or a control sequence may go to the terminal.
pub(super) fn sequence(whole: &[u8]) -> bool {
    let Some((last, body)) = whole.split_last() else { return false };
    match body {
        [0x1b, b'[', rest @ ..] => control_sequence(rest, *last),
        // Other character encodings: in them an innocent character holds an escape.
        [0x1b, b'%', ..] => *last == b'G',
        // Answers with bytes above 0x7f.
        [0x1b, b' ', ..] => *last != b'G',
        // Asks what kind of terminal it is, in the oldest way; ends a string that was dropped.
        _ => !matches!(last, b'Z' | b'\\'),
    }
}

fn control_sequence(rest: &[u8], last: u8) -> bool {
    let Ok(rest) = std::str::from_utf8(rest) else { return false };
    let parameters = rest.trim_end_matches(|one: char| (' '..='/').contains(&one));
    let intermediates = rest.get(parameters.len()..).unwrap_or_default();
    let private = parameters.starts_with(['<', '=', '>', '?']);
    let numbers = if private { parameters.get(1..).unwrap_or_default() } else { parameters };
    if !numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b';' || byte == b':') {
        // Terminals differ in how they read it.
        return false;
    }
    let first = numbers.split([';', ':']).next().unwrap_or_default().trim_start_matches('0');
    match (intermediates, last) {
        // Prints, or sends what follows to a printer.
        (_, b'i') => false,
        ("", b't') => !private && WINDOW_REQUESTS.contains(&first),
        // How titles are said.
        ("", b'T') => !parameters.starts_with('>'),
        ("", b'h' | b'l') => {
            let mut modes = numbers.split([';', ':']);
            !private || !modes.any(|mode| MODES.contains(&mode.trim_start_matches('0')))
        }
        // Another level of conformance, with other answers.
        ("\"", b'p') => false,
        // What stands on the screen: a checksum of single cells says it.
        ("*" | "#", b'y') => false,
        // Runs a macro; says character sets and the terminal's state.
        ("*", b'z') | ("&" | "$", b'u') => false,
        _ => true,
    }
}

/// The operating system command to give in place of this one.
pub(super) fn command(body: &str) -> Option<String> {
    if body.chars().any(char::is_control) {
        return None;
    }
    let (number, rest) = body.split_once(';').unwrap_or((body, ""));
    let plain = rest.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let passed = match number {
        "0" | "1" | "2" => {
            return Some(format!("{number};{}", rest.chars().take(TITLE_LIMIT).collect::<String>()));
        }
        // Colours, to set, to ask for and to reset.
        "4" | "5" | "10" | "11" | "12" | "13" | "14" | "15" | "16" | "17" | "18" | "19" => plain,
        "104" | "105" | "110" | "111" | "112" | "113" | "114" | "115" | "116" | "117" | "118" | "119" => plain,
        "8" => plain && is_link(rest),
        // Progress; every other 9 is a message on the desktop.
        "9" => rest.strip_prefix("4;").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b';')),
        _ => false,
    };
    passed.then(|| body.to_owned())
}

/// A link into the web, or the end of one. Others are handled by whatever the desktop has for them.
fn is_link(rest: &str) -> bool {
    let Some((_, address)) = rest.split_once(';') else { return false };
    let web = ["http://", "https://"].iter().any(|scheme| address.starts_with(scheme));
    address.is_empty() || (web && address.len() <= LINK_LIMIT)
}

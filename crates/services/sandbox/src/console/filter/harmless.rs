//! Which complete sequences a terminal is given: those that stand here, each by its final byte, the bytes before that
//! and its prefix (xterm's ctlseqs names them so). What stands nowhere here, and what a terminal invents tomorrow, is
//! dropped: it may draw, but it may act as well.

/// Windows are told where to be, and what they are called, by their owner. These only ask for sizes, or keep a title.
const WINDOW_REQUESTS: [&str; 9] = ["11", "13", "14", "15", "16", "18", "19", "22", "23"];
/// What of the status is told: that the terminal is there, where the cursor is.
const REPORTS: [&str; 2] = ["5", "6"];
/// The same in another form, and whether the colours are dark.
const PRIVATE_REPORTS: [&str; 2] = ["6", "996"];
/// Insert mode, and how the cursor looks (screen, tmux). Of the others one locks the keyboard, and one has Enter send two
/// characters.
const MODES: [&str; 2] = ["4", "34"];
/// Modes that say how to draw, which screen, and in which known form keys, the mouse, pastes, focus and sizes are told.
/// Not here: other languages (VT52, Tektronix), printing, logging, the clipboard, windows that come to the front or
/// change their size, and mouse tracking that stops the terminal until it is answered.
const PRIVATE_MODES: [&str; 42] = [
    "1", "4", "5", "6", "7", "8", "9", "12", "13", "14", "25", "41", "45", "47", "66", "67", "69", "80", "95", "1000",
    "1002", "1003", "1004", "1005", "1006", "1007", "1010", "1011", "1015", "1016", "1034", "1035", "1036", "1039",
    "1047", "1048", "1049", "2004", "2026", "2027", "2031", "2048",
];
/// Escapes without more: the cursor and the margins, tabs, the keypad, character sets that are there, a reset.
const ESCAPES: &[u8] = b"6789=>DEHMNOcno|}~";
/// How large a line's characters are, and a pattern to adjust the screen.
const LINE_SIZES: &[u8] = b"34568";
/// Character sets are chosen for four places, by one more byte at most.
const CHARACTER_SET_PLACES: &[u8] = b"()*+-./";
/// Moves, erases, inserts, deletes, scrolls, repeats, sets tabs, colours and margins.
const DRAWING: &[u8] = b"@ABCDEFGHIJKLMPSXZ`abdefgmrsu";

/// The longest title, in characters.
const TITLE_LIMIT: usize = 200;
/// The longest address behind a link.
const LINK_LIMIT: usize = 2083;

/// Whether an escape or a control sequence may go to the terminal.
pub(super) fn sequence(whole: &[u8]) -> bool {
    let Some((last, body)) = whole.split_last() else { return false };
    match body {
        [0x1b, b'[', rest @ ..] => control_sequence(rest, *last),
        [0x1b] => ESCAPES.contains(last),
        [0x1b, b'#'] => LINE_SIZES.contains(last),
        // UTF-8. In other encodings an innocent character holds an escape.
        [0x1b, b'%'] => *last == b'G',
        // Answers in seven bits.
        [0x1b, b' '] => *last == b'F',
        [0x1b, place] | [0x1b, place, b' '..=b'/'] => CHARACTER_SET_PLACES.contains(place),
        _ => false,
    }
}

fn control_sequence(rest: &[u8], last: u8) -> bool {
    let Ok(rest) = std::str::from_utf8(rest) else { return false };
    let parameters = rest.trim_end_matches(|one: char| (' '..='/').contains(&one));
    let intermediates = rest.get(parameters.len()..).unwrap_or_default();
    let numbers = parameters.strip_prefix(['<', '=', '>', '?']).unwrap_or(parameters);
    let prefix = parameters.get(..parameters.len() - numbers.len()).unwrap_or_default();
    if !numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b';' || byte == b':') {
        // Terminals differ in how they read it.
        return false;
    }
    let mut each = numbers.split([';', ':']).map(|number| number.trim_start_matches('0'));
    match (prefix, intermediates, last) {
        ("", "", b'h' | b'l') => each.all(|mode| MODES.contains(&mode)),
        ("?", "", b'h' | b'l' | b's' | b'r') => each.all(|mode| PRIVATE_MODES.contains(&mode)),
        ("", "", b'n') => REPORTS.contains(&numbers),
        ("?", "", b'n') => PRIVATE_REPORTS.contains(&numbers),
        ("", "", b't') => each.next().is_some_and(|request| WINDOW_REQUESTS.contains(&request)),
        // With more numbers it is mouse tracking that stops the terminal until it is answered.
        ("", "", b'T') => each.count() == 1,
        ("", "", last) => last == b'c' || DRAWING.contains(&last),
        // Selective erasing, tabs, the cursor of Linux's console, and what keys are told as.
        ("?", "", last) => b"JKWcmu".contains(&last),
        // What kind of terminal it is; what keys are told as.
        (">", "", last) => b"cmnqu".contains(&last),
        ("=", "", last) => b"cu".contains(&last),
        ("<", "", last) => last == b'u',
        // Scrolls sideways; the cursor's form.
        ("", " ", last) => b"@Aq".contains(&last),
        // A soft reset; what may be erased; columns.
        ("", "!", last) => last == b'p',
        ("", "\"", last) => last == b'q',
        ("", "'", last) => b"}~".contains(&last),
        // Whether a mode is set; what is done with rectangles.
        ("", "$", last) => b"prtvxz{".contains(&last),
        ("?", "$", last) => last == b'p',
        ("", "*", last) => last == b'x',
        // Keeps colours, and gives them back.
        ("", "#", last) => b"pq{}PQ".contains(&last),
        _ => false,
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

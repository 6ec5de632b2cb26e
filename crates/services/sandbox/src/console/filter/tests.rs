//! What passes to a terminal, wherever the output is cut.

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::Filter;

fn shown(output: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Filter::default().push(output, &mut out);
    out
}

#[test]
fn what_draws_is_passed_as_it_is() {
    for output in [
        "plain text\r\n\ttab\x08\x07\x0b\x0c\x0e\x0f",
        "é € 😀 日本 \u{a0}ÿ",
        "\x1b[1;31mred\x1b[0m\x1b[38;2;1;2;3m\x1b[48:5:9m\x1b[4:3m",
        "\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[5;10r\x1b[?6l\x1b[!p\x1b[2 q",
        "\x1b[?1049h\x1b[?1000;1002;1006h\x1b[?2004h\x1b[?1004h\x1b[?25l\x1b[?2026h\x1b[?1049l",
        "\x1b[>4;1m\x1b[>1u\x1b[<u\x1b[=5;1u\x1b[?u",
        "\x1b[c\x1b[>c\x1b[=c\x1b[6n\x1b[?12$p\x1b[>q\x1b[14t\x1b[18t\x1b[22;0t\x1b[23;0;0t",
        "\x1b[2;2'}\x1b[1'~\x1b[1;1;2;2$r\x1b[65;1;1;2;2$x\x1b[1\"q\x1b[2*x\x1b[#{\x1b[#}\x1b[1 @\x1b[1 A",
        "\x1b[?1;7;1000;1006s\x1b[?1;7r\x1b[?2J\x1b[?1c\x1b[?996n\x1b[2T\x1b[4h\x1b[4;34l\x1b[5n\x1b[?6n\x1b[3b\x1b[?4m",
        "\x1b(%5\x1b*A\x1bn\x1b~\x1b6\x1bD\x1bE\x1bH",
        "\x1b7\x1b8\x1b=\x1b>\x1bM\x1bc\x1b(B\x1b)0\x1b#8\x1b%G\x1b F",
        "\x1b]0;a title é\x07\x1b]2;another\x1b\\",
        "\x1b]8;id=1;https://example.com/a?b=c\x1b\\link\x1b]8;;\x1b\\",
        "\x1b]11;?\x07\x1b]4;1;rgb:00/11/22\x1b\\\x1b]104\x07\x1b]112\x07\x1b]9;4;1;50\x1b\\",
    ] {
        assert_eq!(String::from_utf8_lossy(&shown(output.as_bytes())), output, "{output:?}");
    }
}

#[test]
fn what_acts_is_dropped() {
    for output in [
        // Clipboard, file transfer, notifications, fonts, working directory, shell marks.
        "\x1b]52;c;aGVsbG8=\x07",
        "\x1b]52;c;?\x1b\\",
        "\x1b]1337;File=name=eA==;inline=1:AAAA\x07",
        "\x1b]777;notify;you;won\x07",
        "\x1b]9;you won\x07",
        "\x1b]99;;you won\x1b\\",
        "\x1b]50;?\x07",
        "\x1b]7;file://host/tmp\x07",
        "\x1b]133;A\x07",
        "\x1b]633;E;rm -rf ~\x07",
        // Links that are no links into the web.
        "\x1b]8;;file:///etc/passwd\x07",
        "\x1b]8;;javascript:alert(1)\x07",
        // Strings for devices, applications and nobody.
        "\x1bP$qm\x1b\\",
        "\x1bP+q544e\x1b\\",
        "\x1bP1;1|17/6c730d\x1b\\",
        "\x1bPtmux;\x1b\x1b]52;c;eA==\x07\x1b\\",
        "\x1b_Gi=1,t=f;L2V0Yy9wYXNzd2Q=\x1b\\",
        "\x1b^private\x1b\\",
        "\x1bXstring\x1b\\",
        "\x1bktitle\x1b\\",
        // Answers that the workload words, or that say what is on the screen.
        "\x1b[21t",
        "\x1b[20t",
        "\x1b[021t",
        "\x1b[>2t",
        "\x1b[>1T",
        "\x1b[1;1;1;1;1;1*y",
        "\x1b[3#y",
        "\x1bZ",
        "\x05",
        // Windows, printers, macros, other terminals and encodings.
        "\x1b[2t",
        "\x1b[3;9999;9999t",
        "\x1b[8;1;1t",
        "\x1b[5i",
        "\x1b[?4i",
        "\x1b[1*z",
        "\x1b[61;0\"p",
        "\x1b[?2l",
        "\x1b[?25;2l",
        "\x1b[?38h",
        "\x1b[?46h",
        "\x1b%@",
        // A status line, where there is one; Linux's console: another console to the front, blanking, the bell.
        "\x1b[1$}\x1b[2$~",
        "\x1b[12;2]",
        "\x1b[9;1]",
        // A size, a locked keyboard, lights, a test, a font, a window to the front, the clipboard.
        "\x1b[?40h\x1b[?3h\x1b[132$|\x1b[50*|",
        "\x1b[2h\x1b[20h\x1b[12l",
        "\x1b[1q",
        "\x1b[4;1y",
        "\x1b[0;0 D",
        "\x1b[?1043h\x1b[?1041h\x1b[?1044h\x1b[?5522h",
        // Stops the terminal until it is answered.
        "\x1b[?1001h",
        "\x1b[1;2;3;4;5T",
        // Answers that nobody but a test program asks for, and modes by numbers that are not known.
        "\x1b[x\x1b[1$w\x1b[#R\x1b[1#|\x1b[?63n\x1b['|\x1b[0n",
        "\x1b[?7777777h",
        "\x1bl\x1bm\x1bF",
        "\x1b$B",
        "\x1b%/G",
        "\x1b(!!B",
        "\0\x01\x06\x10\x11\x13\x18\x1a\x1c\x1f\x7f",
        "\x1b[!2t",
        "\x1b[?!2l",
        "\x1b[2?l",
        "\x1b G",
    ] {
        assert_eq!(String::from_utf8_lossy(&shown(output.as_bytes())), "", "{output:?}");
    }
}

#[test]
fn no_other_spelling_of_an_escape_gets_through() {
    for (output, expected) in [
        (&b"\x9d52;c;eA==\x9c"[..], &b"52;c;eA=="[..]),
        (b"\xc2\x9d52;c;eA==\xc2\x9c", b"52;c;eA=="),
        (b"\xc2\x9b21t", b"21t"),
        (b"\x9b21t", b"21t"),
        // Overlong forms of ESC and of CSI, and characters cut short.
        (b"\xc0\x9b]52", b"\xc0]52"),
        (b"\xe0\x82\x9b21t", b"\xe021t"),
        (b"\xe2\x9b", b""),
        (b"\xe2\x9b\x1b[21t", b"\xe2"),
        (b"\xe2\x82\xac", b"\xe2\x82\xac"),
        // Older character sets.
        (b"caf\xe9 cr\xe8me", b"caf\xe9 cr\xe8me"),
        // Behind something that was cut off.
        (b"\x1b]52;c;eA==\x1b[1mx", b"\x1b[1mx"),
        (b"\x1b]0;t\x1b]52;c;eA==\x07", b""),
        (b"\x1bP\x18text", b"text"),
        (b"\x1b[2\x1b[1m", b"\x1b[1m"),
        (b"\x1b\x1b[1m", b"\x1b[1m"),
        (b"\x1b[1\n;1m", b"\n\x1b[1;1m"),
        (b"\x1b[\xc3\xa9", b"\xc3\xa9"),
        // In a title: control characters, and 8-bit ends.
        (b"\x1b]0;a\nb\x07", b""),
        (b"\x1b]0;a\x9c\x07", b""),
        // The Linux console's colours have no end.
        (b"\x1b]P0aabbcctext\x1b]Rmore", b"textmore"),
    ] {
        assert_eq!(shown(output), expected, "{:?}", String::from_utf8_lossy(output));
    }
}

#[test]
fn what_is_too_long_is_cut_or_dropped() {
    let long = "x".repeat(1000);
    let title = shown(format!("\x1b]0;{long}\x07after").as_bytes());
    assert_eq!(title.len(), "\x1b]0;\x07after".len() + 200);
    assert_eq!(shown(format!("\x1b]8;;https://{long}{long}{long}\x07after").as_bytes()), b"after");
    assert_eq!(shown(format!("\x1b]0;{}\x07after", long.repeat(9)).as_bytes()), b"after");
    assert_eq!(shown(format!("\x1b[{}mafter", "1;".repeat(200)).as_bytes()), b"after");
}

proptest! {
    #[test]
    fn pieces_make_no_difference(output in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        let cut = cut.min(output.len());
        let (mut filter, mut out) = (Filter::default(), Vec::new());
        filter.push(&output[..cut], &mut out);
        filter.push(&output[cut..], &mut out);
        prop_assert_eq!(out, shown(&output));
    }

    #[test]
    fn what_was_passed_passes_again(output in "(\\PC|[\u{1b}\u{7}\\[\\]P_^X;?0-9a-zA-Z\u{9b}\u{9d}\u{9c} \"$*%\\\\]){0,80}") {
        let once = shown(output.as_bytes());
        prop_assert_eq!(shown(&once), once);
    }

    #[test]
    fn nothing_that_acts_is_in_it(output in "([\u{1b}\u{7}\u{5}\\[\\]P_^XkZ;?>0-9ityzc\u{9b}\u{9d}\u{9c} \"$*%\\\\]){0,60}") {
        let out = String::from_utf8(shown(output.as_bytes())).unwrap();
        for bad in ["\u{5}", "\u{9b}", "\u{9d}", "\u{1b}P", "\u{1b}_", "\u{1b}^", "\u{1b}X", "\u{1b}k", "\u{1b}Z", "\u{1b}]5", "\u{1b}[21t"] {
            prop_assert!(!out.contains(bad), "{:?}", out);
        }
    }

    /// Whatever stands in a sequence: what is passed is one of those that are named.
    #[test]
    fn only_known_sequences_are_passed(
        prefix in "[<=>?]?", numbers in "[0-9;]{0,6}", intermediates in "[ -/]{0,2}", last in 0x40_u8..0x7f,
    ) {
        let whole = format!("\x1b[{prefix}{numbers}{intermediates}{}", last as char);
        let known: &[&str] = &[
            "@", "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "P", "S", "T", "X", "Z", "`", "a", "b", "c",
            "d", "e", "f", "g", "h", "l", "m", "n", "r", "s", "t", "u", "?h", "?l", "?s", "?r", "?n", "?J", "?K", "?W", "?c", "?m",
            "?u", ">c", ">m", ">n", ">q", ">u", "=c", "=u", "<u", " @", " A", " q", "!p", "\"q", "'}", "'~", "$p", "$r", "$t",
            "$v", "$x", "$z", "${", "?$p", "*x", "#p", "#q", "#{", "#}", "#P", "#Q",
        ];
        let out = shown(whole.as_bytes());
        let kind = format!("{prefix}{intermediates}{}", last as char);
        prop_assert!(out.is_empty() || (out == whole.as_bytes() && known.contains(&kind.as_str())), "{whole:?}");
    }

    #[test]
    fn text_is_left_alone(output in "\\PC{0,100}") {
        let plain: String = output.chars().filter(|one| !one.is_control()).collect();
        prop_assert_eq!(shown(plain.as_bytes()), plain.as_bytes());
    }
}

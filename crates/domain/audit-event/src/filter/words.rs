//! The words that filters know, and what else people call them: a filter that matched nothing because of a slip would
//! look like a run in which nothing happened.

use crate::parse::EVENT_KINDS;

/// Verdicts.
pub(super) const VERDICTS: [&str; 9] =
    ["allowed", "denied", "asked", "error", "watched", "would-allow", "would-deny", "would-ask", "would-unknown"];

/// Protocols.
pub(super) const PROTOCOLS: [&str; 6] = ["tcp", "udp", "icmp", "dns", "tls", "http"];

/// Groups of events that this version doesn't write, and that a record of a newer one may hold.
const OTHER_GROUPS: [&str; 4] = ["agent", "credential", "hook", "tool"];

/// Our word for a verdict, from ours or another tool's.
pub(super) fn verdict(value: &str) -> Option<&'static str> {
    let value = value.to_ascii_lowercase().replace('_', "-");
    let word = match value.as_str() {
        "forwarded" | "forward" | "allow" | "permit" | "permitted" | "pass" | "passed" | "accept" | "accepted"
        | "ok" => "allowed",
        "dropped" | "drop" | "deny" | "enforced" | "block" | "blocked" | "reject" | "rejected" | "refuse"
        | "refused" => "denied",
        "ask" | "pending" => "asked",
        "errors" | "fail" | "failed" | "failure" => "error",
        "audit" | "audited" | "watch" | "would" => "watched",
        "would-allowed" => "would-allow",
        "would-denied" | "would-block" => "would-deny",
        "would-asked" => "would-ask",
        other => other,
    };
    VERDICTS.into_iter().find(|known| *known == word)
}

/// A protocol.
pub(super) fn protocol(value: &str) -> Option<&'static str> {
    let value = value.to_ascii_lowercase();
    let word = match value.as_str() {
        "https" | "ssl" => "tls",
        other => other,
    };
    PROTOCOLS.into_iter().find(|known| *known == word)
}

/// A kind of event, or the part before its dot.
pub(super) fn kind(value: &str) -> Option<String> {
    let value = value.to_ascii_lowercase();
    let value = match value.as_str() {
        "flows" => "flow",
        "run" => "sandbox",
        other => other,
    };
    let group = value.split_once('.').map_or(value, |(group, _)| group);
    let is_known = EVENT_KINDS
        .into_iter()
        .any(|kind| kind == value || kind.strip_prefix(value).is_some_and(|rest| rest.starts_with('.')));
    (is_known || OTHER_GROUPS.contains(&group)).then(|| value.to_owned())
}

/// The known word, or the part of one before its dot, that is nearest: at most a third of it may differ.
pub(super) fn nearest(value: &str, known: &[&str]) -> Option<String> {
    let value = value.to_ascii_lowercase();
    let bound = (value.chars().count() / 3).clamp(1, 4);
    // Ties go to the first in the alphabet.
    let parts = known.iter().flat_map(|word| [Some(*word), word.split_once('.').map(|(group, _)| group)]).flatten();
    parts
        .map(|word| (strsim::damerau_levenshtein(&value, word), word))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, word)| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word() {
        for (slip, known, expected) in [
            ("dennied", &VERDICTS[..], Some("denied")),
            ("would-dney", &VERDICTS, Some("would-deny")),
            ("flw", &EVENT_KINDS, Some("flow")),
            ("flow.decide", &EVENT_KINDS, Some("flow.decided")),
            ("tpc", &PROTOCOLS, Some("tcp")),
            ("nothing", &VERDICTS, None),
        ] {
            assert_eq!(nearest(slip, known).as_deref(), expected, "{slip}");
        }
    }

    #[test]
    fn what_people_say_is_a_word_of_ours() {
        for (said, ours) in
            [("DENY", "denied"), ("blocked", "denied"), ("allow", "allowed"), ("would_denied", "would-deny")]
        {
            assert_eq!(verdict(said), Some(ours));
        }
        assert_eq!((protocol("HTTPS"), protocol("sctp")), (Some("tls"), None));
        assert_eq!(
            (kind("Flow").as_deref(), kind("dns.decided").as_deref(), kind("flw")),
            (Some("flow"), Some("dns.decided"), None)
        );
    }
}
